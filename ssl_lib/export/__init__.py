"""Exports a trained backbone to torchvision, timm, safetensors, ONNX, torch.export and the Hugging Face hub."""

from __future__ import annotations

from ssl_lib.export.card import model_card
from ssl_lib.export.formats import FORMATS, Format, export

__all__ = ["FORMATS", "Format", "export", "model_card"]
