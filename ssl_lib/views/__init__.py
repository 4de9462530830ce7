"""Views: random crops, colors and blurs of images, made in batches on their device."""

from __future__ import annotations

from ssl_lib.views import functional, presets
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.pipeline import ViewPipeline

__all__ = ["ViewConfig", "ViewPipeline", "functional", "presets"]
