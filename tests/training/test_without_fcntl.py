"""The package works without `fcntl`, `resource` and the Unix signals, which Windows does not have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BLOCK = """
import os, signal, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ImportError(f"No module named {name!r}", name=name)

assert not {"fcntl", "resource"} & sys.modules.keys()
sys.meta_path.insert(0, Blocked())
del signal.SIGUSR1, signal.sigwaitinfo, signal.pthread_sigmask
"""

IMPORT = """
import importlib, pkgutil
import ssl_lib

for module in pkgutil.walk_packages(ssl_lib.__path__, "ssl_lib."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert not {"fcntl", "resource"} & sys.modules.keys()
"""

TRAIN = """
import torch
from ssl_lib import LARS, Loader, Schedule, SimCLR, Trainer, ViewPipeline, stop_on_signals, views
from ssl_lib.backbones.resnet import resnet_tiny
from ssl_lib.data import ArrayData
from ssl_lib.errors import CheckpointError
from ssl_lib.training.callbacks import Callback, default_callbacks
from ssl_lib.training.run_lock import check_unlocked

class StopAndCheckLock(Callback):
    def on_update(self, state):
        try:
            check_unlocked(trainer.run_dir)
        except CheckpointError as error:
            print("locked:", f"process {os.getpid()} on" in str(error))
        trainer.stop()

images = ArrayData(torch.randint(256, (16, 3, 16, 16), dtype=torch.uint8), mean=(0.5,) * 3, std=(0.25,) * 3)
for resume in (False, True):
    loader = Loader(images, ViewPipeline(views.presets.simclr(16), images.mean, images.std), batch_size=8)
    method = SimCLR(resnet_tiny(width=8, in_channels=3), hidden_dim=8)
    callbacks = default_callbacks("run") if resume else [*default_callbacks("run"), StopAndCheckLock()]
    trainer = Trainer("run", device="cpu", precision="fp32", callbacks=callbacks)
    with stop_on_signals(trainer.stop):
        state = trainer.fit(method, loader, LARS(method.param_groups(1e-4), lr=0.3), Schedule(epochs=1), resume=resume)
    print("steps:", state.resumed_at, state.step)
print("left:", sorted(name for name in os.listdir("run") if name.startswith(".lock.")))
"""


def run_without_fcntl(script, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore:only soft file lock is available", "-c", BLOCK + script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_module_can_be_imported(tmp_path):
    run_without_fcntl(IMPORT, tmp_path)


def test_run_trains_is_locked_and_resumes(tmp_path):
    assert run_without_fcntl(TRAIN, tmp_path) == ["locked: True", "steps: 0 1", "steps: 1 2", "left: []"]
