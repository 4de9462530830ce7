"""Tests of the public names of `ssl_lib`: lazy imports, registries, threads, and the table in docs/parts.md."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_lib

PACKAGE = Path(ssl_lib.__file__).parent
PARTS = (PACKAGE.parent / "docs" / "parts.md").read_text(encoding="utf-8")


def python(code: str) -> str:
    """Runs code in a new interpreter and returns its stdout."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_for_type_checkers() -> dict[str, str]:
    """The module from which type checkers import each name."""
    tree = ast.parse(Path(ssl_lib.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != "ssl_lib.version"]
    assert all(alias.asname == alias.name for node in imports for alias in node.names)  # otherwise not exported
    return {alias.name: node.module for node in imports for alias in node.names}


def test_public_names_are_listed_and_equal_the_names_for_type_checkers():
    homes = names_for_type_checkers()
    assert sorted(homes) == sorted(ssl_lib.__all__) == sorted(set(ssl_lib.__all__))
    assert set(ssl_lib.__all__) <= set(dir(ssl_lib))
    star: dict[str, object] = {}
    exec("from ssl_lib import *", star)
    for name, home in homes.items():
        module = importlib.import_module(f"ssl_lib.{name}" if home == "ssl_lib" else home)
        expected = module if home == "ssl_lib" else getattr(module, name)
        assert getattr(ssl_lib, name) is star[name] is expected, name


def test_subpackages_are_attributes_without_an_import():
    out = python(
        "import ssl_lib; print(ssl_lib.evaluation.rankme.__name__, ssl_lib.seed_everything.__name__);"
        "from ssl_lib import backbones, data, views; print(views.presets.__name__, callable(data.image_folder))"
    )
    assert out == "rankme seed_everything\nssl_lib.views.presets True\n"


def test_build_is_a_function_even_if_its_module_was_imported():
    out = python(
        "import inspect, ssl_lib.experiment.build; from ssl_lib import build\n"
        "print(inspect.isfunction(build), build is ssl_lib.build is ssl_lib.experiment.build.build)"
    )
    assert out == "True True\n"


def test_registries_have_all_components_whichever_module_is_imported_first():
    out = python("from ssl_lib.registry import LOGGERS, METHODS; print('simclr' in METHODS, len(LOGGERS) >= 2)")
    assert out == "True True\n"
    taken = (
        "from ssl_lib.registry import BACKBONES\n"
        "try: BACKBONES.register('resnet18')(lambda: None)\n"
        "except ValueError as error: print(error)"
    )
    assert "backbone 'resnet18' is taken by ssl_lib.backbones" in python(taken)


def test_threads_can_import_different_names_at_the_same_time():
    out = python(
        "import ssl_lib, threading\n"
        "names, values = ['methods', 'data', 'SimCLR', 'Loader', 'TrainedBackbone', 'METHODS', 'views', 'build'], []\n"
        "start = threading.Barrier(len(names))\n"
        "def load(name):\n"
        "    start.wait()\n"
        "    value = getattr(ssl_lib, name)\n"
        "    values.append((name, 'simclr' in value if name == 'METHODS' else value))\n"
        "threads = [threading.Thread(target=load, args=[name]) for name in names]\n"
        "[thread.start() for thread in threads], [thread.join() for thread in threads]\n"
        "print(sorted(name for name, value in values if value) == sorted(names))"
    )
    assert out == "True\n"


def test_plain_import_and_first_use_of_a_registry_in_two_threads_do_not_deadlock():
    out = python(
        "import ssl_lib, threading, torchvision\n"
        "start = threading.Barrier(2)\n"
        "def plainly():\n"
        "    start.wait()\n"
        "    import ssl_lib.backbones, ssl_lib.training.trainer\n"
        "def lazily():\n"
        "    start.wait()\n"
        "    list(ssl_lib.BACKBONES), ssl_lib.load_config\n"
        "threads = [threading.Thread(target=target, daemon=True) for target in (plainly, lazily)]\n"
        "[thread.start() for thread in threads], [thread.join(120) for thread in threads]\n"
        "print(any(thread.is_alive() for thread in threads), flush=True)"
    )
    assert out == "False\n"


def test_names_with_dots_and_special_names_are_missing_and_import_nothing():
    out = python(
        "import sys, ssl_lib; print([hasattr(ssl_lib, n) for n in ('a.b', '__wrapped__')], 'torch' in sys.modules)"
    )
    assert out == "[False, False] False\n"


def test_missing_name_is_an_error_that_names_it():
    with pytest.raises(AttributeError, match="module 'ssl_lib' has no attribute 'Trianer'"):
        ssl_lib.Trianer  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'ssl_lib'"):
        exec("from ssl_lib import nothing")


def test_torch_is_imported_only_when_a_name_needs_it():
    out = python(
        "import sys, ssl_lib, ssl_lib.doctor, ssl_lib.runs.compare\n"
        "ssl_lib.ConfigError, ssl_lib.METHODS; print('torch' in sys.modules)\n"
        "ssl_lib.Schedule; print('torch' in sys.modules)"
    )
    assert out == "False\nTrue\n"


def test_parts_page_names_every_public_name():
    named = set(re.findall(r"`([\w.]+)`", PARTS))
    modules = {name for name in ssl_lib.__all__ if inspect.ismodule(getattr(ssl_lib, name))}
    assert set(ssl_lib.__all__) - modules <= named
    rows = re.findall(r"^\| `(ssl_lib\.[\w.]+)` \| (.*) \|$", PARTS, flags=re.M)
    assert len(rows) >= 10
    for package, text in rows:
        module, names = importlib.import_module(package), set(re.findall(r"`(\w+)`", text))
        public = set(module.__all__)
        assert names <= public, f"{package} has no {sorted(names - public)}"
        assert public <= names or not hasattr(module, "__path__"), f"{package}: add {sorted(public - names)}"


def test_packages_without_a_row_on_the_parts_page_have_no_public_names_of_their_own():
    listed = set(re.findall(r"^\| `(ssl_lib\.[\w.]+)` \|", PARTS, flags=re.M))
    for path in PACKAGE.rglob("__init__.py"):
        package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
        own = set(getattr(importlib.import_module(package), "__all__", ())) - set(ssl_lib.__all__)
        assert package in listed or not own, f"{package}: {sorted(own)}"
