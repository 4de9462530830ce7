"""The README, the docs and the examples run, and name things that exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import ssl_lib
from ssl_lib.cli.main import main
from ssl_lib.config.load import load_config, parse_config
from ssl_lib.config.resolve import resolve
from ssl_lib.export import FORMATS
from tests.fork_server import ended, fork, run_script
from tests.test_import_rules import LAYERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PARTS = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")
USE = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINKED = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs" / "README.md", *PAGES]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language in a Markdown text."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def run(path: Path, arguments: list[str], folder: Path) -> str:
    """Runs a script and returns its output; warnings are errors."""
    out, err = folder / "out.txt", folder / "err.txt"
    assert ended(fork(run_script, path, arguments, folder, out=out, err=err)) == 0, err.read_text()
    return out.read_text()


def test_readme_script_is_short_and_runs(tmp_path):
    script = next(block for block in blocks(README, "python") if "trainer.fit" in block)
    assert len([line for line in script.splitlines() if line.strip()]) <= 12
    (tmp_path / "script.py").write_text(script.replace("epochs=1", "epochs=0.1"), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "script" / "checkpoints" / "last.pt").exists()


def test_readme_code_for_a_trained_backbone_runs(tmp_path):
    overrides = ["schedule.epochs=0.05", "schedule.warmup_epochs=0", "evaluation.every_epochs=0"]
    assert main(["train", "quickstart", *overrides, f"run_dir={tmp_path / 'runs' / 'quickstart'}"]) == 0
    script = next(block for block in blocks(README, "python") if "load_method" in block)
    (tmp_path / "script.py").write_text(script + "print(tuple(features.shape), tuple(labels.shape))", encoding="utf-8")
    shapes = re.search(r"# (\(\d+, \d+\), \(\d+,\))", script)
    assert shapes and run(tmp_path / "script.py", [], tmp_path).strip() == shapes[1].replace("), (", ") (")
    again = f"backbone.weights={tmp_path / 'backbone.pt'}"
    assert main(["train", "quickstart", *overrides, again, f"run_dir={tmp_path / 'again'}"]) == 0


def test_scripts_that_read_images_have_a_main_guard():
    """Without it, a worker process that imports the script would run it again."""
    texts = [*blocks(README, "python"), *blocks(PARTS, "python")]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]
    scripts = [text for text in texts if re.search(r"run_dir|FolderData|argparse", text)]
    assert len(scripts) >= 6
    for script in scripts:
        before, guard, _ = script.partition('if __name__ == "__main__":')
        kinds = {type(statement) for statement in ast.parse(before).body}
        assert guard and kinds <= {ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Expr}  # Expr: the docstring


def test_python_blocks_of_the_parts_and_use_pages_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in [*blocks(PARTS, "python"), *blocks(USE, "python")]:
        exec(compile(block, "docs", "exec"), {"__name__": "__main__"})


def test_export_formats_give_equal_features_and_the_use_page_shows_their_printed_code(tmp_path, monkeypatch, capsys):
    """The page shows the printed code of three formats."""
    for package in ("safetensors", "timm", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("cat.png", "dog.png", "photo.jpg"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((90, 70))  # a smooth image, so that resizing methods agree
        picture.save(name)
        picture.save(f"photos/{name}")
    changes = [
        "data={name: image_folder, root: photos}",
        "backbone=resnet18",
        "views={preset: simclr, size: 32}",
        "trainer={batch_size: 2, workers: 0, device: cpu}",
        "schedule={epochs: 1}",
        "optimizer={name: sgd, lr: 0.1}",
        "method.hidden_dim=8",
        "evaluation={every_epochs: 0, image_size: 224}",
        "run_dir=runs/photos",
    ]
    assert main(["train", "quickstart", *changes]) == 0
    on_page = dict(re.findall(r"^`ssl-lib export runs/photos --to (\w+)`\n\n```py\n(.*?)```$", USE, flags=re.M | re.S))
    assert len(on_page) == 3
    names = {}
    exec(compile(blocks(USE, "py")[0], "docs/use.md", "exec"), names)
    assert names["features"].shape == (2, 512)
    expected = names["backbone"](names["backbone"].preprocess(Image.open("photo.jpg")))
    for to, fmt in FORMATS.items():
        capsys.readouterr()
        assert main(["export", "runs/photos", "--to", to]) == 0
        printed = capsys.readouterr().out
        assert on_page.get(to, printed) == printed
        exec(compile(printed, to, "exec"), names)
        features = torch.as_tensor(names["features"])
        assert (
            features - expected
        ).norm() < 1e-3 * expected.norm()  # Pillow's resize differs from torch's by up to 1/255
        assert Path("runs/photos/export", fmt.file).exists()


def test_architecture_page_lists_the_layers_in_order():
    layers, *others = blocks(ARCHITECTURE, "text")
    assert re.findall(r"\w+", layers) == list(LAYERS) and not others


def test_architecture_page_names_every_package():
    rows = "\n".join(line for line in ARCHITECTURE.splitlines() if line.startswith("| `"))
    package = Path(ssl_lib.__file__).parent
    names = {path.parent.name for path in package.glob("*/__init__.py")}
    names |= {path.stem for path in package.glob("[!_]*.py")}
    assert names <= set(re.findall(r"`(\w+)`", rows))


def test_architecture_page_names_functions_and_files_that_exist():
    places = re.findall(r"`([\w.]+)`\s+\(`(ssl_lib/[\w/]+\.py)`\)", ARCHITECTURE)
    assert len(places) >= 10
    for dotted, path in places:
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in dotted.split("."):
            assert re.search(rf"^ *(?:def|class) {name}\b", source, flags=re.M), f"{path} has no {name}"
    for path in re.findall(r"`(ssl_lib/[\w/]+\.py)`", ARCHITECTURE):
        assert (ROOT / path).exists() or "NAME" in path, path


def test_protocol_on_the_evaluation_page_runs(tmp_path, capsys):
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    protocol = next(block for block in blocks(text, "python") if "PROTOCOLS.register" in block)
    (tmp_path / "nearest_mean.py").write_text(protocol, encoding="utf-8")
    imports = f"imports=[{tmp_path / 'nearest_mean.py'}]"
    changes = ["schedule={epochs: 0.05, warmup_epochs: 0}", "evaluation={linear: null, nearest_mean: {}}"]
    assert main(["train", "quickstart", imports, *changes, f"run_dir={tmp_path / 'run'}"]) == 0
    raw, random, trained = re.search(
        r"nearest class mean +([\d.]+) % +([\d.]+) % +([\d.]+) %", capsys.readouterr().out
    ).groups()
    assert min(map(float, (raw, random, trained))) > 40  # percent, with ten classes


def test_readme_method_trains_from_yaml(tmp_path):
    method = next(block for block in blocks(README, "python") if "METHODS.register" in block)
    (tmp_path / "decorrelate.py").write_text(method, encoding="utf-8")
    config = {
        "imports": ["decorrelate.py"],
        "data": "fashion_mnist_mini",
        "backbone": {"name": "resnet_tiny", "width": 8},
        "method": {"name": "decorrelate", "out_dim": 128},
        "views": {"preset": "simclr", "size": 28},
        "optimizer": {"name": "adamw", "lr": 0.001},
        "schedule": {"epochs": 0.1},
        "evaluation": {"every_epochs": 0},
        "run_dir": str(tmp_path / "run"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["train", str(tmp_path / "run.yaml")]) == 0


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_yaml_blocks_are_valid_configs(path):
    """A block that is only a part of a config is valid in a complete one."""
    complete = {
        "data": "fashion_mnist_mini",
        "backbone": "resnet_tiny",
        "method": "simclr",
        "views": {"preset": "simclr", "size": 28},
        "optimizer": {"name": "lars", "lr": 0.3},
    }
    for block in blocks(path.read_text(encoding="utf-8"), "yaml"):
        resolve(parse_config({**complete, **yaml.safe_load(block)}))


@pytest.mark.parametrize("path", LINKED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_links_point_to_existing_files_and_headings(path):
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
        page = path.parent / target if target else path
        assert page.exists(), target
        headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], anchor


def test_guarantees_on_the_troubleshooting_page_name_existing_tests():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"))
    assert len(named) >= 9
    for path, name in named:
        assert f"\ndef {name}(" in (ROOT / path).read_text("utf-8"), name


def test_guarantees_on_the_reliability_page_name_existing_tests():
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    named = [row.split("|") for row in lines if "::test_" in row]
    assert len(named) >= 10
    for row in named:
        (path,) = re.findall(r"`(tests/[\w/]+\.py)::", row[2])
        for name in re.findall(r"(test_\w+)`", row[2]):
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_readme_commands_name_existing_files_and_extras():
    quickstart, tests = blocks(README, "bash")[:2]
    assert "configs/quickstart.yaml" in quickstart and (ROOT / "configs/quickstart.yaml").exists()
    assert '".[test]"' in tests and "pytest" in tests


def test_example_train_from_script_runs(tmp_path):
    out = run(ROOT / "examples/train_from_script.py", ["--epochs", "0.1"], tmp_path)
    assert "trained for 2 steps" in out


def test_example_loss_in_a_loop_reduces_the_loss(tmp_path):
    out = run(ROOT / "examples/loss_in_a_loop.py", ["--steps", "41"], tmp_path)
    losses = [float(line.split()[-1]) for line in out.splitlines()]
    assert losses[-1] < losses[0]


def test_example_method_trains_and_the_evaluation_example_runs(tmp_path):
    config = ROOT / "examples" / "align_uniform.yaml"
    assert load_config(config).method.name == "align_uniform"
    overrides = ["schedule.epochs=0.1", "schedule.warmup_epochs=0", "evaluation.linear=null", "backbone.width=8"]
    assert main(["train", str(config), *overrides, f"run_dir={tmp_path / 'run'}"]) == 0
    out = run(ROOT / "examples/evaluate_checkpoint.py", [str(tmp_path / "run")], tmp_path)
    assert "random init" in out and "kNN, k=100" in out
