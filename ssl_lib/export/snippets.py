"""Python that goes from image files to features by an export, and runs as it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ssl_lib.experiment.trained_backbone import TrainedBackbone

__all__ = ["PATHS", "by_numpy", "by_timm", "by_torchvision", "by_us", "quoted"]

PATHS = 'paths = ["photo.jpg"]  # your images'


def by_torchvision(backbone: TrainedBackbone, imports: Iterable[str], load: str, call: str) -> str:
    """A script whose images are made ready by torchvision.

    Args:
        backbone: What was exported.
        imports: That `load` needs.
        load: Lines that read the file.
        call: An expression, the features of `images`, float (N, C, H, W).
    """
    images = backbone.preprocessing
    prepare = f"""prepare = v2.Compose(
    [
        v2.PILToTensor(),
        v2.Resize({images.resize}, v2.InterpolationMode.BICUBIC, antialias=True),
        v2.CenterCrop({images.size}),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize({list(images.mean)}, {list(images.std)}),
    ]
)
{_pictures(backbone)}
images = torch.stack([prepare(picture) for picture in pictures])"""
    imports = [*imports, "import torch", "from PIL import Image, ImageOps", "from torchvision.transforms import v2"]
    return _script(imports, prepare, f"{load}\n{_without_gradients(backbone, call)}")


def by_numpy(backbone: TrainedBackbone, imports: Iterable[str], load: str, call: str) -> str:
    """Likewise by Pillow and numpy, where torch is not needed; `call` returns an array."""
    images = backbone.preprocessing
    channels_first = "pixels.transpose(2, 0, 1)" if images.channels == 3 else "pixels[None]"
    prepare = f"""def prepare(picture):
    short = min(picture.size)
    picture = picture.resize([{images.resize} * side // short for side in picture.size], Image.Resampling.BICUBIC)
    left, top = (round((side - {images.size}) / 2) for side in picture.size)
    pixels = np.asarray(picture.crop((left, top, left + {images.size}, top + {images.size})), np.float32) / 255
    pixels = (pixels - np.float32({_numbers(images.mean)})) / np.float32({_numbers(images.std)})
    return {channels_first}"""
    ready = f"{_pictures(backbone)}\nimages = np.stack([prepare(picture) for picture in pictures])"
    imports = [*imports, "import numpy as np", "from PIL import Image, ImageOps"]
    return _script(imports, f"\n{prepare}\n", ready, f"{load}\nfeatures = {call}  # {_shape(backbone)}")


def by_timm(backbone: TrainedBackbone, folder: Path) -> str:
    """A script that builds timm's network of a folder and makes images ready as its config says."""
    source = quoted(f"local-dir:{folder}")
    load = f"""net = timm.create_model({source}, pretrained=True)  # or "hf-hub:you/name"
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(net))"""
    ready = f"{_pictures(backbone)}\nimages = torch.stack([prepare(picture) for picture in pictures])"
    imports = ["import timm", "import torch", "from PIL import Image, ImageOps"]
    return _script(imports, load, f"{ready}\n{_without_gradients(backbone, 'net.eval()(images)')}")


def by_us(backbone: TrainedBackbone, file: Path) -> str:
    """A script that reads a file of our own keys."""
    load = f"net = TrainedBackbone.from_file({quoted(file)})"
    ready = f"""{PATHS}
images = net.preprocess([Image.open(path) for path in paths])
features = net(images)  # {_shape(backbone)}"""
    return _script(["from PIL import Image", "from ssl_lib import TrainedBackbone"], f"{load}\n{ready}")


def quoted(path: str | Path) -> str:
    """A path as Python has it."""
    return json.dumps(str(path), ensure_ascii=False)


def _script(imports: Iterable[str], *paragraphs: str) -> str:
    """Imports in order, each once, then paragraphs."""
    lines = sorted(set(imports), key=lambda line: (line.startswith("from "), line))
    return "\n\n".join(["\n".join(lines), *paragraphs])


def _pictures(backbone: TrainedBackbone) -> str:
    mode = "RGB" if backbone.preprocessing.channels == 3 else "L"
    return f'{PATHS}\npictures = [ImageOps.exif_transpose(Image.open(path)).convert("{mode}") for path in paths]'


def _without_gradients(backbone: TrainedBackbone, call: str) -> str:
    return f"with torch.no_grad():\n    features = {call}  # {_shape(backbone)}"


def _shape(backbone: TrainedBackbone) -> str:
    return f"(len(paths), {backbone.out_dim})"


def _numbers(values: tuple[float, ...]) -> str:
    return str(list(values) if len(values) > 1 else values[0])
