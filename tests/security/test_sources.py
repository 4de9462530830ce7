"""Tests that the package calls no function that executes, unpickles or unpacks."""

from __future__ import annotations

import ast
from pathlib import Path

import ssl_lib


def test_package_calls_nothing_that_executes_or_unpacks():
    names = {"eval", "exec", "compile", "__import__"}
    dotted = {"os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.unsafe_load", "yaml.full_load"}
    for path in Path(ssl_lib.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            assert name not in names | dotted, (path, call.lineno)
            if name.startswith(
                "subprocess."
            ):  # a sweep runs `ssl-lib train`, and `EnvironmentFile` runs git; both without a shell
                assert path.name in ("sweep.py", "run_info.py"), (path, call.lineno)
                assert not any(word.arg == "shell" for word in call.keywords), (path, call.lineno)
            assert not name.endswith((".extractall", ".extract")), (path, call.lineno)
            if name == "yaml.load":
                assert ast.unparse(call.args[1]) == "_Loader", (path, call.lineno)
