"""Draws the embedded subset of Fashion-MNIST: python tests/data/make_embedded.py [FOLDER WITH THE IDX FILES]."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from ssl_lib.data.datasets.fashion_mnist import EMBEDDED, fashion_mnist

PER_CLASS = {"train": 600, "test": 100}
SEED = 0


def draw(root: str | None = None) -> dict[str, npt.NDArray[np.uint8]]:
    arrays = {}
    rng = np.random.default_rng(SEED)
    for split, prefix in (("train", ""), ("test", "test_")):
        data = fashion_mnist(root, split=split)
        labels = data.labels.numpy()
        chosen = [rng.choice(np.flatnonzero(labels == c), PER_CLASS[split], replace=False) for c in range(10)]
        order = np.sort(np.concatenate(chosen))
        arrays[prefix + "images"] = np.stack([data.read(index)[0].numpy() for index in order.tolist()])
        arrays[prefix + "labels"] = labels[order].astype(np.uint8)
    return arrays


if __name__ == "__main__":
    np.savez_compressed(EMBEDDED, **draw(*sys.argv[1:2]))
