"""Data flows one way: what each room may import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ssl_lib
from ssl_lib import run_files

ROOT = Path(ssl_lib.__file__).parent
GLUE = {
    *(
        "settings",
        "config",
        "resolve",
        "rehearsal",
        "build",
        "runs",
        "comparison",
        "report",
        "trained_backbone",
        "export",
    ),
    *("cli", "commands"),
}
LOOP = {"trainer", "callbacks", "loggers", "state", "meter", "finite", "checkpoint", "run_lock", "doctor"}
# A room may not import what is downstream of it.
FORBIDDEN = {
    "losses": {"methods", "heads", "backbones", "views", "data", "evaluation", "optim"} | LOOP | GLUE,
    "heads": {"methods", "losses", "backbones", "views", "data", "evaluation", "optim"} | LOOP | GLUE,
    "backbones": {"methods", "heads", "losses", "views", "data", "evaluation", "optim"} | LOOP | GLUE,
    "views": {"methods", "heads", "losses", "backbones", "data", "evaluation", "optim"} | LOOP | GLUE,
    "optim": {"methods", "heads", "losses", "backbones", "views", "data", "evaluation"} | LOOP | GLUE,
    "data": {"methods", "heads", "losses", "backbones", "evaluation", "optim"} | LOOP | GLUE,
    "methods": {"backbones", "views", "data", "evaluation"} | LOOP | GLUE,
    "doctor": {"methods", "heads", "losses", "backbones", "views", "data"} | (LOOP - {"doctor"}) | GLUE,
    "evaluation": {"methods", "heads", "losses", "backbones"} | LOOP | GLUE,
    "embedding": {"methods", "heads", "losses", "backbones", "optim"} | LOOP | GLUE,
    "trainer.py": {"evaluation", "backbones", "losses", "heads"} | GLUE,
    "callbacks": {"backbones", "losses", "heads"} | GLUE,
    "ema.py": {"methods", "optim"} | LOOP | GLUE,
    "types.py": {"methods", "views", "data"} | LOOP | GLUE,
    "settings.py": {"methods", "backbones", "losses", "heads", "views", "build", "cli", "config"} | LOOP,
    "config.py": {"methods", "backbones", "losses", "heads", "views", "build", "cli"} | LOOP,
}


def imported_rooms(path: Path) -> set[str]:
    """The first names under `ssl_lib` that a file imports."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" if node.module == "ssl_lib" else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("ssl_lib.")}
    return rooms


@pytest.mark.parametrize("room", FORBIDDEN)
def test_import_rules(room):
    files = [ROOT / room] if room.endswith(".py") else list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert not imported_rooms(path) & FORBIDDEN[room], path


def test_only_the_glue_imports_the_config():
    for path in ROOT.rglob("*.py"):
        if not {Path(part).stem for part in path.relative_to(ROOT).parts} & {*GLUE, "__init__", "__main__"}:
            assert not imported_rooms(path) & GLUE, path


UNSAFE = {"torch.load", "np.load", "numpy.load", "pickle.load", "pickle.loads", "marshal.loads"}


def test_no_unsafe_loading():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE:
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert keywords.get("weights_only") == "True" or keywords.get("allow_pickle") == "False", path


def test_the_names_of_a_runs_files_stand_in_one_place():
    home = Path(run_files.__file__)
    names = {value for name, value in vars(run_files).items() if name.isupper() and "." in value}
    assert names >= {"config.yaml", "metrics.jsonl", "last.pt"}
    for path in ROOT.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert path == home or not found & names, path
