from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from ssl_lib.data import ArrayData, FolderData, Loader, SkipImage, evaluation_batches
from ssl_lib.errors import DataError
from ssl_lib.utils.seeding import seeded_generator
from ssl_lib.views import ViewConfig, ViewPipeline
from tests.data.image_samples import TwoCrops, numbered

RNG = np.random.default_rng(0)


class Failing:
    """Image data in which every third image, or every image, raises SkipImage."""

    mean, std, labels, class_names, channels = (0.5,), (0.5,), torch.arange(10) * 10, (), 1

    def __init__(self, all_of_them=False):
        self.all_of_them = all_of_them

    def __len__(self):
        return 10

    def read(self, index):
        if self.all_of_them or index % 3 == 0:
            raise SkipImage(f"image{index}", "torn")
        return torch.full((1, 9, 9), index, dtype=torch.uint8)


def same(a, b):
    images = [(x,) if isinstance(x, torch.Tensor) else x for x in (a.images, b.images)]
    return (
        all(torch.equal(x, y) for x, y in zip(*images, strict=True))
        and torch.equal(a.indices, b.indices)
        and (a.labels is b.labels or torch.equal(a.labels, b.labels))
    )


@pytest.mark.parametrize("mapped", [False, True])
def test_each_epoch_has_every_image_once_in_a_different_order(tmp_path, mapped):
    loader = Loader(numbered(folder=tmp_path if mapped else None), TwoCrops(), 5, seed=3, drop_last=False)
    assert loader.steps_per_epoch == 5
    orders = []
    for epoch in range(3):
        batches = list(loader.epoch(epoch))
        assert [len(batch.indices) for batch in batches] == [5, 5, 5, 5, 3]
        for batch in batches:
            assert batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (1, 4, 4)
            assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.indices)
            assert torch.equal(batch.labels, 22 - batch.indices)
        orders.append(torch.cat([batch.indices for batch in batches]).tolist())
        assert sorted(orders[-1]) == list(range(23)) != orders[-1]
    assert orders[0] != orders[1] != orders[2]


def test_drop_last_yields_only_full_batches():
    loader = Loader(numbered(), TwoCrops(), 5)
    assert [len(batch.indices) for batch in loader.epoch(0)] == [5] * loader.steps_per_epoch == [5] * 4


def test_order_depends_only_on_seed_and_epoch():
    def order(seed, epoch):
        return [index for batch in Loader(numbered(), TwoCrops(), 4, seed=seed).epoch(epoch) for index in batch.indices]

    torch.manual_seed(0)
    first = order(1, 2)
    state = torch.get_rng_state()
    assert first == order(1, 2)
    assert first != order(2, 1) and first != order(1, 3) and first != order(2, 2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_epoch_with_start_yields_the_remaining_batches(folder, workers, start):
    for data in (numbered(), FolderData(folder)):
        whole = list(Loader(data, TwoCrops(), 4, seed=5, workers=workers).epoch(7))
        tail = list(Loader(data, TwoCrops(), 4, seed=5, workers=workers).epoch(7, start=start))
        assert len(tail) == len(whole) - start
        assert all(same(a, b) for a, b in zip(whole[start:], tail, strict=True))


def test_crops_depend_only_on_seed_epoch_and_index(folder):
    data = FolderData(folder)

    def crops(workers=0, batch_size=4, seed=1, epoch=1):
        views = {}
        for batch in Loader(data, TwoCrops(), batch_size, seed=seed, workers=workers, drop_last=False).epoch(epoch):
            assert len(batch.images) == 2
            assert torch.equal(batch.images[0].flip(2), batch.images[1])
            assert torch.equal(batch.labels, data.labels[batch.indices])
            views.update(zip(batch.indices.tolist(), batch.images[0], strict=True))
        return torch.stack([views[index] for index in range(11)])

    state = torch.get_rng_state()
    expected = crops()
    assert torch.equal(crops(workers=2), expected)
    assert torch.equal(crops(workers=1, batch_size=3), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(crops(seed=2), expected)
    assert not torch.equal(crops(epoch=2), expected)


def test_workers_persist_after_an_unfinished_epoch(folder):
    loader = Loader(FolderData(folder), TwoCrops(), 3, workers=2)
    next(loader.epoch(0))
    fresh = Loader(FolderData(folder), TwoCrops(), 3, workers=0)
    for epoch in (0, 1):
        assert all(same(a, b) for a, b in zip(loader.epoch(epoch), fresh.epoch(epoch), strict=True))


def test_view_pipeline_accepts_batches_of_folders_and_arrays(folder):
    views = ViewPipeline([ViewConfig(count=2, size=16), ViewConfig(count=1, size=8)], (0.5,) * 3, (0.5,) * 3)
    in_memory = ArrayData(RNG.integers(0, 256, (6, 20, 20, 3), dtype=np.uint8))
    for data in (FolderData(folder), in_memory):
        batch = next(Loader(data, views, 4, workers=1).epoch(0))
        made = views(batch.images)
        assert [tuple(view.shape) for view in (*made.large, *made.small)] == [(4, 3, 16, 16)] * 2 + [(4, 3, 8, 8)]


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_file_raises_a_data_error(folder, workers):
    bad = folder / "class1" / "04.png"
    bad.write_bytes(bad.read_bytes()[:60])
    for batches in (
        Loader(FolderData(folder), TwoCrops(), 4, workers=workers, drop_last=False).epoch(0),
        evaluation_batches(FolderData(folder), size=8, workers=workers),
    ):
        with pytest.raises(DataError, match=r"data\.on_error=skip") as caught:
            list(batches)
        assert str(caught.value).startswith(str(bad)) and "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_files_are_replaced_and_listed(folder, workers):
    bad = [folder / "class0" / "03.png", folder / "class0" / "06.png"]
    for path in bad:
        path.write_bytes(b"torn")
    data = FolderData(folder, on_error="skip")  # class0: 00 03 06 09 are images 0 to 3
    loader = Loader(data, TwoCrops(), 4, workers=workers, drop_last=False)
    for epoch in range(2):
        batches = list(loader.epoch(epoch))
        assert [len(batch.images[1]) for batch in batches] == [4, 4, 3]
        indices = torch.cat([batch.indices for batch in batches]).tolist()
        assert sorted(indices) == [0, 3, 3, 3, *range(4, 11)]
        assert all(torch.equal(batch.labels, data.labels[batch.indices]) for batch in batches)
    assert sorted(loader.skipped) == sorted(data.skipped) == [str(path) for path in bad]


def test_skip_image_of_a_custom_data_set_is_supported():
    data = Failing()
    loader = Loader(data, TwoCrops(), 10, workers=0)
    (batch,) = loader.epoch(0)
    assert sorted(batch.indices.tolist()) == [1, 1, 1, 2, 4, 4, 5, 7, 7, 8]
    assert batch.images[0][:, 0, 0, 0].tolist() == batch.indices.tolist()
    assert sorted(loader.skipped) == ["image0", "image3", "image6", "image9"]
    (batch,) = evaluation_batches(data, size=9, workers=0)
    assert batch.indices.tolist() == [1, 2, 4, 5, 7, 8] and batch.labels.tolist() == [10, 20, 40, 50, 70, 80]
    with pytest.raises(DataError, match="none of the 10 images"):
        list(Loader(Failing(all_of_them=True), TwoCrops(), 5, workers=0).epoch(0))
    assert list(evaluation_batches(Failing(all_of_them=True), size=9, workers=0)) == []


def test_batch_larger_than_the_data_set_raises_an_error():
    with pytest.raises(DataError, match=r"a batch of 24 .* 23 images: set batch_size to 23 or less"):
        Loader(numbered(), TwoCrops(), 24)
    (batch,) = Loader(numbered(), TwoCrops(), 24, drop_last=False).epoch(0)
    assert len(batch.indices) == 23


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": 2, "seed": -1}])
def test_invalid_batch_size_or_seed_raises_an_error(arguments):
    with pytest.raises(ValueError, match="at least"):
        Loader(numbered(), TwoCrops(), **arguments)


def test_invalid_epoch_size_or_workers_raises_an_error(folder):
    loader = Loader(numbered(), TwoCrops(), 5)
    for epoch, start in ((-1, 0), (0, -1), (0, 5)):
        with pytest.raises(ValueError, match="start in"):
            loader.epoch(epoch, start)
    assert list(loader.epoch(0, start=4)) == []
    with pytest.raises(ValueError, match="workers must be at least 0, got -1"):
        Loader(FolderData(folder), TwoCrops(), 2, workers=-1)
    with pytest.raises(ValueError, match=r"set size in pixels, such as extract_features\(encoder, data, size=224\)"):
        evaluation_batches(FolderData(folder))
    with pytest.raises(ValueError, match="at least 1"):
        evaluation_batches(numbered(), size=0)


@pytest.fixture
def process():
    """Returns a function that starts a fake process group with a given rank and size."""

    def enter(rank, world_size):
        leave()
        dist.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())

    def leave():
        if dist.is_initialized():
            dist.destroy_process_group()

    yield enter
    leave()


def test_processes_divide_a_batch(process):
    whole = [batch.indices for batch in Loader(numbered(), TwoCrops(), 6).epoch(0)]
    parts_of_ranks = []
    for rank in range(3):
        process(rank, 3)
        parts_of_ranks.append([batch.indices for batch in Loader(numbered(), TwoCrops(), 6).epoch(0)])
    for *parts, batch in zip(*parts_of_ranks, whole, strict=True):
        assert torch.equal(torch.stack(parts, dim=1).flatten(), batch)  # interleaved
    for arguments in ({"batch_size": 7}, {"batch_size": 6, "drop_last": False}):
        with pytest.raises(ValueError, match="3 processes"):
            Loader(numbered(), TwoCrops(), **arguments)


def test_two_concurrent_epochs_raise_an_error_but_an_abandoned_epoch_does_not(folder):
    loader = Loader(FolderData(folder), ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 2, workers=2)
    expected = [batch.indices.tolist() for batch in loader.epoch(1)]
    first = loader.epoch(0)
    next(first)
    assert [batch.indices.tolist() for batch in loader.epoch(1)] == expected
    with pytest.raises(RuntimeError, match="two epochs of one Loader"):
        list(first)


def test_last_batch_with_one_image_raises_an_error():
    data = ArrayData(torch.zeros(33, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="leaves 1 of 33 images for the last batch"):
        Loader(data, ViewPipeline([ViewConfig(size=8)], [0.5], [0.25]), 16, drop_last=False)


def test_random_streams_for_different_uses_differ():
    streams = [torch.rand(4, generator=seeded_generator(use, 0, 3)) for use in ("order", "crops", "views")]
    streams += [torch.rand(4, generator=seeded_generator("crops", 0, 3, 1))]
    assert len(torch.stack(streams).unique(dim=0)) == 4
