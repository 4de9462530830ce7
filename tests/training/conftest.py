"""Fixtures of the training tests."""

from __future__ import annotations

import pytest

from tests.training.nonfinite_helper import fit_with_bad_steps


@pytest.fixture
def train_with_bad_steps(make_method, make_loader):
    """See `fit_with_bad_steps`; takes the name of a method instead of method and loader."""

    def train(name, steps, change_loss, run_dir=None, callbacks=(), **options):
        method, loader = make_method(name), make_loader(name)
        return fit_with_bad_steps(method, loader, steps, change_loss, run_dir, callbacks, **options)

    return train
