"""Data sets of uint8 images and the loaders that batch them."""

from __future__ import annotations

from ssl_lib.data.base import IMAGENET_MEAN, IMAGENET_STD, ImageData, SkipImage, Split, image_name
from ssl_lib.data.datasets.arrays import ArrayData, arrays, pixel_statistics
from ssl_lib.data.datasets.fashion_mnist import fashion_mnist, fashion_mnist_mini
from ssl_lib.data.datasets.folder import FolderData, image_folder
from ssl_lib.data.datasets.huggingface import huggingface
from ssl_lib.data.datasets.torchvision import cifar10, cifar100, stl10
from ssl_lib.data.datasets.webdataset import ShardData, webdataset
from ssl_lib.data.datasets.wrapped import WrappedDataset, as_image_data
from ssl_lib.data.io.decode import decode_image
from ssl_lib.data.loader import Loader, evaluation_batches
from ssl_lib.data.pack import Packed, pack, pack_folder
from ssl_lib.data.preview import preview
from ssl_lib.types import Batch

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ArrayData",
    "Batch",
    "FolderData",
    "ImageData",
    "Loader",
    "Packed",
    "ShardData",
    "SkipImage",
    "Split",
    "WrappedDataset",
    "arrays",
    "as_image_data",
    "cifar10",
    "cifar100",
    "decode_image",
    "evaluation_batches",
    "fashion_mnist",
    "fashion_mnist_mini",
    "huggingface",
    "image_folder",
    "image_name",
    "pack",
    "pack_folder",
    "pixel_statistics",
    "preview",
    "stl10",
    "webdataset",
]
