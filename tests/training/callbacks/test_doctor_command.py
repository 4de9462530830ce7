"""`ssl-lib doctor` on the files that the callback Diagnosis writes."""

from __future__ import annotations

from ssl_lib.cli.main import main
from tests.training.helpers import write_run


def test_command_prints_problems_or_that_there_is_no_alarm(tmp_path, capsys):
    healthy = [{"step": step, "epoch": 0, "loss": 2.0, "feature_std": 0.2, "embedding_norm": 1.0} for step in range(9)]
    write_run(tmp_path, healthy, chance_loss=4.0)
    assert main(["doctor", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "no alarm after 9 of 100 steps, but it is too early to tell" in out and "0.025 to 0.25" in out
    assert "out of" not in out
    write_run(tmp_path, healthy, chance_loss=4.0, total_steps=9, steps_per_epoch=3)
    assert main(["doctor", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "9 of 9 steps, but the run is too short to tell: most rules need one epoch and 30 steps" in out
    write_run(tmp_path, [{**line, "feature_std": 1e-4} for line in healthy])
    assert main(["doctor", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "complete collapse, first at step 2" in out and "fix: " in out and "no alarm" not in out
    (marked,) = [line for line in out.splitlines() if " ! " in line]
    assert marked.startswith("feature_std") and "! out of the healthy range" in out


def test_error_names_a_missing_or_damaged_file(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 2
    assert "no metrics.jsonl and no diagnosis.json" in capsys.readouterr().err
    write_run(tmp_path, [])
    (tmp_path / "diagnosis.json").write_text("{}")
    assert main(["doctor", str(tmp_path)]) == 2
    assert "damaged" in capsys.readouterr().err
