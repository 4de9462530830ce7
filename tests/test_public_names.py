"""`import ssl_lib` is quick, and yet every public name is there."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_lib


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_for_type_checkers() -> dict[str, str]:
    """The module from which type checkers take each name."""
    tree = ast.parse(Path(ssl_lib.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_every_public_name_is_listed_and_equals_the_type_checkers_name():
    homes = names_for_type_checkers()
    assert sorted(homes) == sorted(ssl_lib.__all__) == sorted(set(ssl_lib.__all__))
    assert set(ssl_lib.__all__) <= set(dir(ssl_lib))
    star: dict[str, object] = {}
    exec("from ssl_lib import *", star)
    for name, home in homes.items():
        module = importlib.import_module(f"ssl_lib.{name}" if home == "ssl_lib" else home)
        expected = module if home == "ssl_lib" else getattr(module, name)
        assert getattr(ssl_lib, name) is star[name] is expected, name


def test_packages_are_imported_when_they_are_used():
    out = python(
        "import ssl_lib; print(ssl_lib.evaluation.rankme.__name__, ssl_lib.seed_everything.__name__);"
        "from ssl_lib import backbones, data, views; print(views.presets.__name__, callable(data.image_folder))"
    )
    assert out == "rankme seed_everything\nssl_lib.views.presets True\n"


def test_build_is_a_function_whatever_was_imported_before():
    out = python(
        "import inspect, ssl_lib.experiment.build; from ssl_lib import build\n"
        "print(inspect.isfunction(build), build is ssl_lib.build is ssl_lib.experiment.build.build)"
    )
    assert out == "True True\n"


def test_a_registry_is_full_whichever_module_is_imported_first():
    out = python("from ssl_lib.registry import LOGGERS, METHODS; print('simclr' in METHODS, len(LOGGERS) >= 2)")
    assert out == "True True\n"
    taken = (
        "from ssl_lib.registry import BACKBONES\n"
        "try: BACKBONES.register('resnet18')(lambda: None)\n"
        "except ValueError as error: print(error)"
    )
    assert "backbone 'resnet18' is taken by ssl_lib.backbones" in python(taken)


def test_threads_that_ask_first_for_different_parts_all_get_theirs():
    out = python(
        "import ssl_lib, threading\n"
        "names, got = ['methods', 'data', 'SimCLR', 'Loader', 'TrainedBackbone', 'METHODS', 'views', 'build'], []\n"
        "start = threading.Barrier(len(names))\n"
        "def ask(name):\n"
        "    start.wait()\n"
        "    got.append((name, 'simclr' in getattr(ssl_lib, name) if name == 'METHODS' else getattr(ssl_lib, name)))\n"
        "threads = [threading.Thread(target=ask, args=[name]) for name in names]\n"
        "[thread.start() for thread in threads], [thread.join() for thread in threads]\n"
        "print(sorted(name for name, part in got if part) == sorted(names))"
    )
    assert out == "True\n"


def test_odd_names_are_missing_and_import_nothing():
    out = python(
        "import sys, ssl_lib; print([hasattr(ssl_lib, n) for n in ('a.b', '__wrapped__')], 'torch' in sys.modules)"
    )
    assert out == "[False, False] False\n"


def test_what_is_missing_is_named():
    with pytest.raises(AttributeError, match="module 'ssl_lib' has no attribute 'Trianer'"):
        ssl_lib.Trianer  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'ssl_lib'"):
        exec("from ssl_lib import nothing")


def test_torch_is_imported_for_what_needs_it():
    out = python(
        "import sys, ssl_lib, ssl_lib.doctor, ssl_lib.runs.compare\n"
        "ssl_lib.ConfigError, ssl_lib.METHODS; print('torch' in sys.modules)\n"
        "ssl_lib.Schedule; print('torch' in sys.modules)"
    )
    assert out == "False\nTrue\n"
