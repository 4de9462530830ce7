"""What the README and the examples show, runs."""

from __future__ import annotations

import importlib
import inspect
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

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def run(path: Path, arguments: list[str], folder: Path) -> str:
    """What a script prints; a warning is an error."""
    out, err = folder / "out.txt", folder / "err.txt"
    assert ended(fork(run_script, path, arguments, folder, out=out, err=err)) == 0, err.read_text()
    return out.read_text()


def test_the_readme_script_is_short_and_runs(tmp_path):
    script = next(block for block in blocks(README, "python") if "trainer.fit" in block)
    assert len([line for line in script.splitlines() if line.strip()]) <= 12
    (tmp_path / "script.py").write_text(script.replace("epochs=1", "epochs=0.1"), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "script" / "checkpoints" / "last.pt").exists()


def test_the_readme_uses_a_trained_backbone(tmp_path):
    overrides = ["schedule.epochs=0.05", "schedule.warmup_epochs=0", "evaluation.every_epochs=0"]
    assert main(["train", "quickstart", *overrides, f"run_dir={tmp_path / 'runs' / 'quickstart'}"]) == 0
    script = next(block for block in blocks(README, "python") if "load_method" in block)
    (tmp_path / "script.py").write_text(script + "print(tuple(features.shape), tuple(labels.shape))", encoding="utf-8")
    shapes = re.search(r"# (\(\d+, \d+\), \(\d+,\))", script)
    assert shapes and run(tmp_path / "script.py", [], tmp_path).strip() == shapes[1].replace("), (", ") (")
    again = f"backbone.weights={tmp_path / 'backbone.pt'}"
    assert main(["train", "quickstart", *overrides, again, f"run_dir={tmp_path / 'again'}"]) == 0


PARTS = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")


USE = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_pages_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in [*blocks(PARTS, "python"), *blocks(USE, "python")]:
        exec(compile(block, "a page", "exec"), {"__name__": "block"})


def test_the_exports_of_the_page_give_one_and_the_same_features(tmp_path, monkeypatch, capsys):
    """Three of them are on the page, as they are printed."""
    for package in ("safetensors", "timm", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("cat.png", "dog.png", "photo.jpg"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((90, 70))  # smooth
        picture.save(name)
        picture.save(f"photos/{name}")
    tiny = ["data={name: image_folder, root: photos}", "backbone=resnet18", "views={preset: simclr, size: 32}",
            "trainer={batch_size: 2, workers: 0, device: cpu}", "schedule={epochs: 1}",
            "optimizer={name: sgd, lr: 0.1}", "method.hidden_dim=8",
            "evaluation={every_epochs: 0, image_size: 224}", "run_dir=runs/photos"]  # fmt: skip
    assert main(["train", "quickstart", *tiny]) == 0
    shown = dict(re.findall(r"^`ssl-lib export runs/photos --to (\w+)`\n\n```py\n(.*?)```$", USE, flags=re.M | re.S))
    assert len(shown) == 3
    names = {}
    exec(compile(blocks(USE, "py")[0], "docs/use.md", "exec"), names)
    assert names["features"].shape == (2, 512)
    expected = names["backbone"](names["backbone"].preprocess(Image.open("photo.jpg")))
    for to, fmt in FORMATS.items():
        capsys.readouterr()
        assert main(["export", "runs/photos", "--to", to]) == 0
        printed = capsys.readouterr().out
        assert shown.get(to, printed) == printed
        exec(compile(printed, to, "exec"), names)
        features = torch.as_tensor(names["features"])
        assert (features - expected).norm() < 1e-3 * expected.norm()  # Pillow resizes as torch does but for one in 255
        assert Path("runs/photos/export", fmt.file).exists()


def test_the_parts_page_names_every_public_part():
    named = set(re.findall(r"`([\w.]+)`", PARTS))
    modules = {name for name in ssl_lib.__all__ if inspect.ismodule(getattr(ssl_lib, name))}
    assert set(ssl_lib.__all__) - modules <= named
    for row in re.findall(r"^\| `ssl_lib\.(\w+)` \| (.*) \|$", PARTS, flags=re.M):
        module = importlib.import_module(f"ssl_lib.{row[0]}")
        assert all(hasattr(module, name) for name in re.findall(r"`(\w+)`", row[1])), row


def test_the_protocol_of_the_evaluation_page_is_measured(tmp_path, capsys):
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    protocol = next(block for block in blocks(text, "python") if "PROTOCOLS.register" in block)
    (tmp_path / "nearest_mean.py").write_text(protocol, encoding="utf-8")
    imports = f"imports=[{tmp_path / 'nearest_mean.py'}]"
    changes = ["schedule={epochs: 0.05, warmup_epochs: 0}", "evaluation={linear: null, nearest_mean: {}}"]
    assert main(["train", "quickstart", imports, *changes, f"run_dir={tmp_path / 'run'}"]) == 0
    raw, random, trained = re.search(
        r"nearest class mean +([\d.]+) % +([\d.]+) % +([\d.]+) %", capsys.readouterr().out
    ).groups()
    assert min(map(float, (raw, random, trained))) > 40  # of ten classes


def test_the_readme_method_trains_from_yaml(tmp_path):
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


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_yaml_in_the_docs_is_right(path):
    """Whole configs resolve; parts of one resolve within a whole one."""
    whole = {
        "data": "fashion_mnist_mini",
        "backbone": "resnet_tiny",
        "method": "simclr",
        "views": {"preset": "simclr", "size": 28},
        "optimizer": {"name": "lars", "lr": 0.3},
    }
    for block in blocks(path.read_text(encoding="utf-8"), "yaml"):
        resolve(parse_config({**whole, **yaml.safe_load(block)}))


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
                         ids=lambda path: path.name)  # fmt: skip
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_guarantees_name_tests_that_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"))
    assert len(named) >= 9
    for path, name in named:
        assert f"\ndef {name}(" in (ROOT / path).read_text("utf-8"), name


def test_the_tests_that_the_docs_name_exist():
    named = [row.split("|") for row in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
             if "::test_" in row]  # fmt: skip
    assert len(named) >= 10
    for row in named:
        (path,) = re.findall(r"`(tests/[\w/]+\.py)::", row[2])
        for name in re.findall(r"(test_\w+)`", row[2]):
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_the_readme_commands_name_files_and_extras_that_exist():
    quickstart, tests = blocks(README, "bash")[:2]
    assert "configs/quickstart.yaml" in quickstart and (ROOT / "configs/quickstart.yaml").exists()
    assert '".[test]"' in tests and "pytest" in tests


def test_example_train_from_script(tmp_path):
    out = run(ROOT / "examples/train_from_script.py", ["--epochs", "0.1"], tmp_path)
    assert "trained for 2 steps" in out


def test_example_loss_in_a_loop(tmp_path):
    out = run(ROOT / "examples/loss_in_a_loop.py", ["--steps", "41"], tmp_path)
    losses = [float(line.split()[-1]) for line in out.splitlines()]
    assert losses[-1] < losses[0]


def test_example_method_and_evaluation(tmp_path):
    config = ROOT / "examples" / "align_uniform.yaml"
    assert load_config(config).method.name == "align_uniform"
    overrides = ["schedule.epochs=0.1", "schedule.warmup_epochs=0", "evaluation.linear=null", "backbone.width=8"]
    assert main(["train", str(config), *overrides, f"run_dir={tmp_path / 'run'}"]) == 0
    out = run(ROOT / "examples/evaluate_checkpoint.py", [str(tmp_path / "run")], tmp_path)
    assert "random init" in out and "kNN, k=100" in out
