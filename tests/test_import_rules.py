"""Imports go one way through the layers, and other rules on the package's source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ssl_lib
from ssl_lib.runs import files

ROOT = Path(ssl_lib.__file__).parent
LAYERS = (
    *("errors", "version", "types", "ema", "utils", "registry", "runs", "distributed"),
    *("memory", "heads", "losses", "optim", "views", "backbones", "data", "methods", "evaluation"),
    *("doctor", "embedding", "config", "training", "experiment", "export", "report"),
    *("__init__", "cli", "__main__"),
)
"""Packages and modules in the order of docs/architecture.md: a file imports from the left of its layer, or from it."""

READS_CONFIG = {"config", "experiment", "report", "__init__", "cli"}
WITHOUT_TORCH = ("ssl_lib", "ssl_lib.runs.compare", "ssl_lib.doctor", "ssl_lib.cli.main", "ssl_lib.cli.arguments")
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(module: str) -> Iterator[str]:
    """The modules of the package that a module imports: anywhere in it, also for type checkers alone."""
    for node in ast.walk(tree_of(MODULES[module])):
        assert not isinstance(node, ast.ImportFrom) or not node.level, f"{module} has a relative import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ssl_lib":
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "ssl_lib")


def package_of(module: str) -> str:
    """The layer of a module: `ssl_lib.data.loader` is in `data`, `ssl_lib` itself in `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def test_modules_import_from_the_left_of_their_layer_or_from_it():
    found = []
    for module in MODULES:
        package = package_of(module)
        for imported in imported_modules(module):
            other = package_of(imported)
            down = other == package or LAYERS.index(other) < LAYERS.index(package)
            if imported == "ssl_lib" or not down or (other == "config" and package not in READS_CONFIG):
                found.append(f"{module} imports {imported}")
    assert not found


def test_modules_do_not_import_in_a_cycle():
    graph = {module: set(imported_modules(module)) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_it_imports_no_torch(module):
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


UNSAFE = {"torch.load", "np.load", "numpy.load", "pickle.load", "pickle.loads", "marshal.loads"}


def test_no_unsafe_loading():
    for module, path in MODULES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE:
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                safe = keywords.get("weights_only") == "True" or keywords.get("allow_pickle") == "False"
                assert safe, f"{module}, line {node.lineno}"


def test_only_one_module_holds_the_names_of_a_runs_files():
    names = {value for name, value in vars(files).items() if name.isupper() and "." in value}
    assert names >= {"config.yaml", "metrics.jsonl", "last.pt"}
    for module, path in MODULES.items():
        nodes = ast.walk(tree_of(path))
        found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert path == Path(files.__file__) or not found & names, module


LONGEST_FILE, LONGEST_FUNCTION = 250, 40


def test_files_and_functions_are_short():
    """Functions are counted without their docstrings; declarations of the command line's arguments may be longer."""
    found = []
    for module, path in MODULES.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        found += [f"{module}: {lines} lines"] * (lines > LONGEST_FILE)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and module != "ssl_lib.cli.arguments":
                length = length_of(node)
                found += [f"{module}.{node.name}: {length} lines"] * (length > LONGEST_FUNCTION)
    assert not found


def length_of(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring
