"""Augmented views of image batches: random crops, flips, color jitter and blur, on any device."""

from __future__ import annotations

from ssl_lib.views import functional, presets
from ssl_lib.views.config import ViewConfig
from ssl_lib.views.pipeline import ViewPipeline

__all__ = ["ViewConfig", "ViewPipeline", "functional", "presets"]
