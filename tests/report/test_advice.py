"""The next steps of the report, whose commands run."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from ssl_lib.cli.main import main
from ssl_lib.report import gather
from ssl_lib.report.sections.overview import next_steps
from ssl_lib.training.checkpoint import save_checkpoint
from tests.report.conftest import train


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run whose name needs quoting in a shell."""
    return Path(shutil.copytree(run, tmp_path / "a run"))


def commands(*folders):
    return [command for _, command in next_steps([gather(folder, name=folder.name) for folder in folders])]


def run_command(command, **placeholders):
    """Runs a suggested command with its placeholders in capitals replaced."""
    name, *words = shlex.split(command)
    assert name == "ssl-lib"
    for placeholder, value in placeholders.items():
        assert any(placeholder in word for word in words), (placeholder, words)
        words = [word.replace(placeholder, str(value)) for word in words]
    assert main(words) == 0


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_run_without_evaluation_is_evaluated(copy):
    (copy / "evaluation.json").unlink()
    (command,) = commands(copy)
    run_command(command)
    assert (copy / "evaluation.json").exists() and commands(copy) != [command]


def test_run_trained_after_its_evaluation_is_evaluated_again(copy):
    rewrite(copy / "evaluation.json", steps=1)
    (command,) = commands(copy)
    run_command(command)
    assert json.loads((copy / "evaluation.json").read_text())["steps"] == 2 and commands(copy) != [command]


def test_good_run_is_used_and_bad_run_is_trained_longer(copy, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    scores = {row: {"knn": value} for row, value in {"raw pixels": 0.5, "random init": 0.5, "trained": 0.9}.items()}
    rewrite(copy / "evaluation.json", results=scores)
    embed, export, evaluate = commands(copy)
    run_command(embed.removesuffix(" IMAGES"))
    run_command(export)
    assert evaluate.startswith("ssl-lib evaluate ") and evaluate.endswith(" logistic retrieval spectrum")
    rewrite(copy / "evaluation.json", results={**scores, "trained": {"knn": 0.5}})
    longer, views, _ = commands(copy)
    assert "schedule.epochs=2 " in longer
    run_command(longer)
    assert (tmp_path / "a run-longer" / "checkpoints" / "last.pt").exists()
    run_command(views)
    run_command(evaluate)  # last, because its results change the next steps


def test_interrupted_run_is_resumed(copy):
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text(lines[0])
    (command,) = commands(copy)
    assert command == f"ssl-lib train '{copy}' --resume"
    assert "1 of 2 steps completed" in next_steps([gather(copy, name="a")])[0][0]


def test_finding_of_the_doctor_is_fixed(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = json.loads((copy / "metrics.jsonl").read_text().splitlines()[0])
    lines = [{**line, "step": step, "update_ratio": 0.5} for step in range(60)]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (fix,) = commands(copy)
    assert " optimizer.lr=VALUE " in fix
    run_command(fix, VALUE=0.001)
    (copy / "nonfinite.json").write_text('{"step": 1}')
    assert commands(copy)[0] == f"ssl-lib train '{copy}' --resume trainer.debug_nonfinite=true"


def test_run_without_labels_is_embedded_and_evaluated_on_labeled_images(patterns, tmp_path):
    images = f"data={{name: arrays, path: {patterns / 'train' / 'images.npy'}}}"
    train(patterns, tmp_path / "run", images)
    embed, nearest, evaluate, meaning = commands(tmp_path / "run")
    run_command(embed)
    run_command(nearest)
    run_command(evaluate, LABELED_IMAGES=patterns)
    assert not meaning and (tmp_path / "run" / "evaluation.json").exists()
    for command in commands(tmp_path / "run"):  # what to do with a trained run, but not a plain `evaluate`
        assert "evaluate" not in command
    rewrite(tmp_path / "run" / "evaluation.json", steps=1)
    again, meaning = commands(tmp_path / "run")
    run_command(again, LABELED_IMAGES=patterns)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["steps"] == 2


def test_run_of_an_older_version_gets_only_commands_that_need_no_labels(copy):
    environment = json.loads((copy / "environment.json").read_text())
    assert environment.pop("evaluable") is True
    (copy / "environment.json").write_text(json.dumps(environment))
    assert not [command for command in commands(copy) if command.startswith("ssl-lib evaluate")]


def test_several_runs_are_compared(copy, run, capsys):
    (command,) = commands(copy, run)
    run_command(command)
    assert "a run" in capsys.readouterr().out


def test_run_of_a_script_has_no_command(copy):
    (copy / "config.yaml").unlink()
    saved = torch.load(copy / "checkpoints" / "last.pt", weights_only=True)
    save_checkpoint(copy / "checkpoints" / "last.pt", {**saved, "config": None})
    assert commands(copy) == [""]
