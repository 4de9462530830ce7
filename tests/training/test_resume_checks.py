"""The images of a resumed run: their number, order and fingerprint must be those of the checkpoint."""

from __future__ import annotations

import pytest
from PIL import Image

from ssl_lib import CheckpointError, Loader, Schedule
from ssl_lib.data import FolderData
from ssl_lib.training.callbacks import default_callbacks
from ssl_lib.training.checkpoint import load_checkpoint
from ssl_lib.training.resume_checks import check_data, describe_data
from tests.training.helpers import run

NAMES, SIZES = {"names": "a1", "sizes": "b2"}, {"names": "a1", "sizes": "c3"}
DATA = {"seed": 0, "batch_size": 32, "images": 96, "fingerprint": NAMES}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 95}, "other data: images was 96, is 95"),
        ({"seed": 1, "batch_size": 16}, "other data: seed was 0, is 1; batch_size was 32, is 16"),
        ({"fingerprint": SIZES}, "other data: the images have other sizes"),
        ({"fingerprint": {"names": "d4", "sizes": "c3"}}, "other data: the images have other names and sizes"),
        ({"images": 95, "fingerprint": SIZES}, "images was 96, is 95; the images have other sizes"),
    ],
)
def test_message_says_what_changed(changes, message):
    with pytest.raises(CheckpointError, match=message):
        check_data(DATA, {**DATA, **changes})


def test_same_or_unknown_fingerprint_passes():
    check_data(DATA, dict(DATA))
    check_data(DATA, {**DATA, "fingerprint": None})
    check_data({**DATA, "fingerprint": None}, DATA)
    check_data({key: value for key, value in DATA.items() if key != "fingerprint"}, DATA)


def test_fingerprint_of_the_loader_is_stored_and_compared(make_method, make_loader, tmp_path, monkeypatch):
    def resume(fingerprint):
        monkeypatch.setattr(Loader, "fingerprint", lambda loader: fingerprint, raising=False)
        return run(make_method, make_loader, run_dir=tmp_path, schedule=Schedule(epochs=3), resume=True)

    monkeypatch.setattr(Loader, "fingerprint", lambda loader: NAMES, raising=False)
    schedule = Schedule(epochs=3)
    run(make_method, make_loader, run_dir=tmp_path, schedule=schedule, callbacks=default_callbacks(tmp_path))
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["data"]["fingerprint"] == NAMES
    assert resume(dict(NAMES)).finished
    with pytest.raises(CheckpointError, match="the images have other sizes"):
        resume(SIZES)


def test_resumed_run_names_the_files_that_changed(make_method, make_loader, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in range(40):
        Image.new("L", (16, 16), 6 * name).save(folder / f"{name:02}.bmp")

    def loader(name):
        return Loader(FolderData(folder, 1), make_loader(name).views, 16, workers=0)

    def trained(resume):
        callbacks = [] if resume else default_callbacks(tmp_path / "run")
        settings = {"run_dir": tmp_path / "run", "schedule": Schedule(epochs=1), "callbacks": callbacks}
        return run(make_method, loader, resume=resume, **settings)

    trained(resume=False)
    assert trained(resume=True).finished
    (folder / "07.bmp").rename(folder / "7.bmp")
    Image.new("L", (16, 17)).save(folder / "08.bmp")
    message = r"names and sizes \(1 added: 7\.bmp; 1 removed: 07\.bmp; 1 of another size: 08\.bmp\)\. Resume with"
    with pytest.raises(CheckpointError, match=message):
        trained(resume=True)


def test_images_and_their_order_are_described(make_loader):
    loader = make_loader()
    assert describe_data(loader) == {
        "seed": loader.seed,
        "batch_size": loader.batch_size,
        "images": len(loader.data),
        "fingerprint": loader.fingerprint(),
        "files": None,  # arrays have no names
    }
