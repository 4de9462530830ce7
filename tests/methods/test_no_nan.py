"""No registered method produces NaN or infinity on degenerate images; one per family in the fast suite."""

from __future__ import annotations

import pytest
import torch

from ssl_lib import LARS, Progress
from ssl_lib.memory import memories
from tests.conftest import channels_for
from tests.families import BY_FAMILY

NOISE = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = {
    "black": torch.zeros_like(NOISE),
    "white": torch.full_like(NOISE, 255),
    "gray": torch.full_like(NOISE, 128),
    "one color per image": NOISE[:, :, :1, :1].expand_as(NOISE).contiguous(),
    "duplicated": NOISE[:1].repeat(8, 1, 1, 1),
    "two": NOISE[:2],
    "two black": torch.zeros_like(NOISE[:2]),
}
PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", BY_FAMILY)
def test_three_updates_on_degenerate_images_stay_finite(name, kind, precision, make_method, make_loader) -> None:
    dtype, images = PRECISIONS[precision], IMAGES[kind].expand(-1, channels_for(name), -1, -1)
    method = make_method(name).to(dtype)
    optimizer = LARS(method.param_groups(1e-4), lr=0.3)
    pipeline, generator = make_loader(name).views, torch.Generator().manual_seed(0)
    for step in range(3):
        progress = Progress(step, total_steps=3, steps_per_epoch=1)
        views = pipeline(images, generator)
        large, small = (tuple(view.to(dtype) for view in group) for group in (views.large, views.small))
        views = type(views)(large, small, torch.arange(len(images)) % 2, torch.arange(len(images)))
        method.before_epoch(progress, lambda network, pixels=large[0]: network(pixels).detach().to(dtype))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            output = method(views, progress)
        assert output.loss.isfinite()
        output.loss.backward()
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
        method.before_update(progress)
        optimizer.step()
        optimizer.zero_grad()
        for teacher, parts in method.ema_pairs():
            teacher.update(parts, method.ema_momentum(progress))
        for memory in memories(method):
            memory.commit()
        method.after_update(progress)
    assert all(value.isfinite().all() for value in method.state_dict().values())
