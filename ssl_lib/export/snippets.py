"""Generates runnable Python snippets that load an export and compute features from image files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ssl_lib.experiment.trained_backbone import TrainedBackbone

__all__ = ["PATHS", "numpy_usage", "quoted", "ssl_lib_usage", "timm_usage", "torchvision_usage"]

PATHS = 'paths = ["photo.jpg"]  # your images'


def torchvision_usage(backbone: TrainedBackbone, imports: Iterable[str], load: str, call: str) -> str:
    """Returns a script that preprocesses images with torchvision.

    Args:
        backbone: The exported backbone.
        imports: Import statements that `load` needs.
        load: Lines that load the file.
        call: Expression that computes the features of `images`, float (N, C, H, W).
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
{_open_pictures(backbone)}
images = torch.stack([prepare(picture) for picture in pictures])"""
    imports = [*imports, "import torch", "from PIL import Image, ImageOps", "from torchvision.transforms import v2"]
    return _script(imports, prepare, f"{load}\n{_without_gradients(backbone, call)}")


def numpy_usage(backbone: TrainedBackbone, imports: Iterable[str], load: str, call: str) -> str:
    """Returns a script that preprocesses images with Pillow and NumPy, without torch.

    Takes the arguments of `torchvision_usage`, but `images` and the features are NumPy arrays.
    """
    images = backbone.preprocessing
    channels_first = "pixels.transpose(2, 0, 1)" if images.channels == 3 else "pixels[None]"
    prepare = f"""def prepare(picture):
    short = min(picture.size)
    picture = picture.resize([{images.resize} * side // short for side in picture.size], Image.Resampling.BICUBIC)
    left, top = (round((side - {images.size}) / 2) for side in picture.size)
    pixels = np.asarray(picture.crop((left, top, left + {images.size}, top + {images.size})), np.float32) / 255
    pixels = (pixels - np.float32({_numbers(images.mean)})) / np.float32({_numbers(images.std)})
    return {channels_first}"""
    stack = f"{_open_pictures(backbone)}\nimages = np.stack([prepare(picture) for picture in pictures])"
    imports = [*imports, "import numpy as np", "from PIL import Image, ImageOps"]
    return _script(imports, f"\n{prepare}\n", stack, f"{load}\nfeatures = {call}  # {_shape(backbone)}")


def timm_usage(backbone: TrainedBackbone, folder: Path) -> str:
    """Returns a script that loads a folder with timm and preprocesses images by the folder's config."""
    source = quoted(f"local-dir:{folder}")
    load = f"""net = timm.create_model({source}, pretrained=True)  # or "hf-hub:you/name"
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(net))"""
    stack = f"{_open_pictures(backbone)}\nimages = torch.stack([prepare(picture) for picture in pictures])"
    imports = ["import timm", "import torch", "from PIL import Image, ImageOps"]
    return _script(imports, load, f"{stack}\n{_without_gradients(backbone, 'net.eval()(images)')}")


def ssl_lib_usage(backbone: TrainedBackbone, file: Path) -> str:
    """Returns a script that loads a file or folder with `TrainedBackbone.from_file`."""
    load = f"net = TrainedBackbone.from_file({quoted(file)})"
    compute = f"""{PATHS}
images = net.preprocess([Image.open(path) for path in paths])
features = net(images)  # {_shape(backbone)}"""
    return _script(["from PIL import Image", "from ssl_lib import TrainedBackbone"], f"{load}\n{compute}")


def quoted(path: str | Path) -> str:
    """Returns a path as a Python string literal."""
    return json.dumps(str(path), ensure_ascii=False)


def _script(imports: Iterable[str], *paragraphs: str) -> str:
    """Joins the imports, sorted and without duplicates, and the paragraphs."""
    lines = sorted(set(imports), key=lambda line: (line.startswith("from "), line))
    return "\n\n".join(["\n".join(lines), *paragraphs])


def _open_pictures(backbone: TrainedBackbone) -> str:
    mode = "RGB" if backbone.preprocessing.channels == 3 else "L"
    return f'{PATHS}\npictures = [ImageOps.exif_transpose(Image.open(path)).convert("{mode}") for path in paths]'


def _without_gradients(backbone: TrainedBackbone, call: str) -> str:
    return f"with torch.no_grad():\n    features = {call}  # {_shape(backbone)}"


def _shape(backbone: TrainedBackbone) -> str:
    return f"(len(paths), {backbone.out_dim})"


def _numbers(values: tuple[float, ...]) -> str:
    return str(list(values) if len(values) > 1 else values[0])
