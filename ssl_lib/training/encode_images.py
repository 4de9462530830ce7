"""Encodes all training images with a network of the method, for `Method.before_epoch`."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lib.data.preprocessing import Preprocessing
from ssl_lib.evaluation.features import located_features
from ssl_lib.training.fsdp import whole
from ssl_lib.training.state import TrainState

__all__ = ["encode_images"]


def encode_images(state: TrainState, network: nn.Module) -> Tensor:
    """Returns the outputs (M, D) of a network for all M images of the loader's data, by index, on the CPU.

    The images are resized as for the evaluation, without augmentation. Rows of images that the loader leaves out or
    cannot read are zero. All processes must call it together; each encodes a part.

    Args:
        state: The run.
        network: (N, C, H, W) -> (N, D), made of parts of the method.

    Raises:
        DataError: An image cannot be read, or an output is not finite.
    """
    data, title = state.loader.data, f"epoch {state.step // state.loader.steps_per_epoch}: images"
    preprocessing = Preprocessing.of(data, state.loader.views.size)
    with whole(state.model, network), state.precision.autocast():
        features, places = located_features(network, data, preprocessing, state.loader.indices, title=title)
    return features.new_zeros(len(data), features.shape[1]).index_copy_(0, places, features)
