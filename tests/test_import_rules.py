"""Tests of the rules on the package's source: the order of the layers, safe loading, short files and functions."""

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
    *("memory", "clustering", "heads", "losses", "optim"),
    *("views", "backbones", "data", "methods", "evaluation"),
    *("doctor", "embedding", "config", "training", "experiment", "export", "report"),
    *("__init__", "cli", "__main__"),
)
"""Packages and modules in the order of docs/architecture.md: each imports only itself and those before it."""

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
    """The modules of the package that a module imports, including imports in functions and for type checkers."""
    for node in ast.walk(tree_of(MODULES[module])):
        assert not isinstance(node, ast.ImportFrom) or not node.level, f"{module} has a relative import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ssl_lib":
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "ssl_lib")


def package_of(module: str) -> str:
    """The layer of a module: `data` for `ssl_lib.data.loader`, `__init__` for `ssl_lib`."""
    return module.split(".")[1] if "." in module else "__init__"


def test_modules_import_only_from_their_layer_and_earlier_layers():
    violations = []
    for module in MODULES:
        package = package_of(module)
        for imported in imported_modules(module):
            other = package_of(imported)
            earlier = other == package or LAYERS.index(other) < LAYERS.index(package)
            if imported == "ssl_lib" or not earlier or (other == "config" and package not in READS_CONFIG):
                violations.append(f"{module} imports {imported}")
    assert not violations


def test_imports_have_no_cycles():
    graph = {module: set(imported_modules(module)) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_module_imports_no_torch(module):
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


UNSAFE = {"torch.load", "np.load", "numpy.load", "pickle.load", "pickle.loads", "marshal.loads"}


def test_files_are_loaded_safely():
    for module, path in MODULES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE:
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                safe = keywords.get("weights_only") == "True" or keywords.get("allow_pickle") == "False"
                assert safe, f"{module}, line {node.lineno}"


def test_names_of_the_files_of_a_run_are_in_one_module():
    constants = {value for name, value in vars(files).items() if name.isupper() and isinstance(value, str)}
    names = {name for name in constants if "." in name[1:]}  # without `.lock`, which other folders have, too
    assert names >= {"config.yaml", "metrics.jsonl", "last.pt"}
    for module, path in MODULES.items():
        nodes = ast.walk(tree_of(path))
        found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert path == Path(files.__file__) or not found & names, module


LONGEST_FILE, LONGEST_FUNCTION = 250, 40


def test_files_and_functions_are_short():
    """Docstrings of functions are not counted, and the declarations of the command line may be longer."""
    too_long = []
    for module, path in MODULES.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        too_long += [f"{module}: {lines} lines"] * (lines > LONGEST_FILE)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and module != "ssl_lib.cli.arguments":
                length = length_of(node)
                too_long += [f"{module}.{node.name}: {length} lines"] * (length > LONGEST_FUNCTION)
    assert not too_long


def length_of(function: ast.FunctionDef) -> int:
    """Number of lines of a function without its docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring
