"""Optional packages: the error names the package and the extra, and the table equals the package's metadata."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from ssl_lib import ConfigError
from ssl_lib.report.projection import choose_projection
from ssl_lib.utils.optional import EXTRAS, needs


def test_table_of_extras_equals_the_project_file():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n\n")[0]
    lines = [line.partition(" = ") for line in section.splitlines()]  # no tomllib in Python 3.10
    extras = {name: [re.split("[>=<]", entry)[0] for entry in ast.literal_eval(value)] for name, _, value in lines}
    assert {"test", "dev"} <= extras.keys()
    assert {name: list(packages) for name, packages in EXTRAS.items()} == {
        name: packages for name, packages in extras.items() if name not in ("test", "dev")
    }


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("timm", 'it needs timm: pip install timm, or pip install "ssl_lib[timm]"'),
        ("scikit-learn", 'it needs scikit-learn: pip install scikit-learn, or pip install "ssl_lib[eval]"'),
        ("onnxscript", 'it needs onnxscript: pip install onnxscript, or pip install "ssl_lib[onnx]"'),
        ("ssl_lib[heic]", 'it needs pillow-heif: pip install pillow-heif, or pip install "ssl_lib[heic]"'),
        (
            "ssl_lib[tiff]",
            'it needs tifffile and imagecodecs: pip install tifffile imagecodecs, or pip install "ssl_lib[tiff]"',
        ),
        ("timm>=9", "it needs timm: pip install 'timm>=9', or pip install \"ssl_lib[timm]\""),
        (
            "fsspec[http]>=2025.5",
            "it needs fsspec[http]: pip install 'fsspec[http]>=2025.5', or pip install \"ssl_lib[remote]\"",
        ),
        ("dodo>=2", "it needs dodo: pip install 'dodo>=2'"),
    ],
)
def test_missing_package_names_the_package_and_the_extra(package, message):
    with pytest.raises(ConfigError) as caught, needs(package, "it"):
        importlib.import_module("no_such_module_at_all")
    assert str(caught.value) == message


def test_missing_projection_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'--map umap needs umap-learn: .* "ssl_lib\[report\]"; --map pca needs no'):
        choose_projection("umap")
