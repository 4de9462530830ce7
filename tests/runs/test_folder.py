"""Tests of `RunFolder`: a missing file is None, and a damaged file is an error that names it."""

from __future__ import annotations

import json

import pytest

from ssl_lib import DataError
from ssl_lib.cli.main import main
from ssl_lib.runs.folder import RunFolder

METRIC = {"key": "knn", "title": "kNN", "percent": True, "main": True, "digits": 1}
EVALUATION = {"steps": 2, "measures": [METRIC], "results": {"trained": {"knn": 0.5}}, "details": {"trained": {}}}
LINES = [
    {"step": 0, "epoch": 0, "loss": 2.0, "images_per_second": 8.0},
    {"step": 1, "epoch": 0, "loss": 1.0, "images_per_second": 8.0, "note": "text", "knn": None},
]
GOOD = {
    "config.yaml": "seed: 1\nmethod: {name: simclr}\n",
    "metrics.jsonl": "".join(f"{json.dumps(line)}\n" for line in LINES),
    "evaluation.json": json.dumps(EVALUATION),
    "environment.json": '{"torch": "2.9"}',
    "diagnosis.json": '{"facts": {"total_steps": 2}}',
    "nonfinite.json": '{"step": 1}',
}
"""The files of a run with valid contents; the method of `RunFolder` is the name without its suffix."""

DEEP = "[" * 100_000
NOT_MAPPINGS = ["", "[]", "1e400", '"text"', "null", DEEP, f'{{"a": {DEEP}', "9" * 5000]
WRONG_METRICS = [{"key": 1}, {"title": None}, {"percent": "yes"}, {"digits": "x"}, {"digits": 10**9}, {"more": 1}]
WRONG_RESULTS = [
    [],
    {"trained": 5},
    {"trained": {"knn": "high"}},
    {"trained": {"knn": None}},
    {"trained": {"knn": 10**400}},
]
WRONG_EVALUATIONS = [
    *({"steps": "two"}, {"steps": 1.5}, {"measures": 5}, {"measures": ["knn"]}, {"measures": [{"key": "knn"}]}),
    *({"measures": [{**METRIC, **wrong}]} for wrong in WRONG_METRICS),
    *({"results": wrong} for wrong in WRONG_RESULTS),
    *({"details": []}, {"details": {"trained": 5}}),
]
WRONG_LINES = [
    *(
        '{"step": 1, "lo',
        "[1, 2]",
        "text",
        "1e400",
        "",
        "null",
        "\0\0",
        "\ufffd",
        DEEP,
        f'{{"loss": {DEEP}',
        "9" * 5000,
    ),
    *('{"step": "one"}', '{"step": -1}', '{"step": 1.5}', '{"step": 1e400}', f'{{"step": {2**63}}}', '{"epoch": true}'),
    *('{"epoch": null}', '{"loss": {}}', '{"loss": [1]}'),
]
WRONG_CONFIGS = [
    "seed: [1",
    "- a",
    "text",
    "1",
    "",
    "lr: 1e400",
    "a: 1\na: 2",
    "a: &x 1\nb: *x",
    "a: !x 1",
    "a: \0",
    DEEP,
]
DAMAGED = {
    "config.yaml": WRONG_CONFIGS,
    "metrics.jsonl": WRONG_LINES,
    "evaluation.json": [
        *(
            *NOT_MAPPINGS,
            "{}",
            GOOD["evaluation.json"][:40],
            GOOD["evaluation.json"].replace('"steps": 2', '"steps": 1e400'),
        ),
        *(json.dumps({**EVALUATION, **wrong}) for wrong in WRONG_EVALUATIONS),
    ],
    "environment.json": [*NOT_MAPPINGS, GOOD["environment.json"][:-3]],
    "diagnosis.json": [*NOT_MAPPINGS, GOOD["diagnosis.json"][:-3]],
    "nonfinite.json": [*NOT_MAPPINGS, GOOD["nonfinite.json"][:-3]],
}
CASES = [(name, content) for name, contents in DAMAGED.items() for content in contents]


def read(folder, name):
    """Reads a file by the method of `RunFolder` for it."""
    return getattr(RunFolder(folder), name.partition(".")[0])()


@pytest.fixture
def folder(tmp_path):
    """A folder with all files of a run."""
    for name, content in GOOD.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_files_are_read(folder):
    run = RunFolder(folder)
    assert run.config() == {"seed": 1, "method": {"name": "simclr"}}
    assert run.metrics() == LINES
    content, results = run.evaluation()
    assert content == EVALUATION and results["trained"] == {"knn": 0.5} and results.measures[0].title == "kNN"
    assert run.environment() == {"torch": "2.9"}
    assert run.diagnosis() == {"facts": {"total_steps": 2}}
    assert run.nonfinite() == {"step": 1}


def test_evaluation_of_a_checkpoint_is_read_by_its_name(folder):
    (folder / "evaluation.json").rename(folder / "evaluation_epoch_0010.json")
    assert RunFolder(folder).evaluation() is None
    assert RunFolder(folder).evaluation("evaluation_epoch_0010.json")[0] == EVALUATION


@pytest.mark.parametrize("name", GOOD)
def test_missing_file_is_none(name, folder):
    (folder / name).unlink()
    assert read(folder, name) is None
    (folder / name).mkdir()
    assert read(folder, name) is None
    assert read(folder / "missing", name) is None


def test_missing_checkpoints_are_an_empty_list(folder):
    assert RunFolder(folder).checkpoints() == RunFolder(folder / "missing").checkpoints() == []
    (folder / "checkpoints").mkdir()
    for name in ("epoch_0002.pt", "step_00000003.pt", "last.pt", "step_00000010.pt", "other.pt"):
        (folder / "checkpoints" / name).touch()
    names = [path.name for path in RunFolder(folder).checkpoints()]
    assert names == ["last.pt", "step_00000010.pt", "step_00000003.pt", "epoch_0002.pt"]


@pytest.mark.parametrize(("name", "content"), CASES, ids=lambda text: text[:25])
def test_damaged_file_is_an_error_that_names_it(name, content, folder):
    (folder / name).write_text(content + "\n" * (name == "metrics.jsonl"))
    with pytest.raises(DataError) as caught:
        read(folder, name)
    assert str(folder / name) in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", GOOD)
def test_file_that_is_not_utf8_is_an_error_that_names_it(name, folder):
    (folder / name).write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(DataError, match=name):
        read(folder, name)


@pytest.mark.parametrize(
    ("name", "content"), [case for case in CASES if case[0] in list(GOOD)[:3]], ids=lambda text: text[:25]
)
def test_compare_reports_a_damaged_file_without_a_traceback(name, content, folder, capsys):
    (folder / name).write_text(content + "\n" * (name == "metrics.jsonl"))
    assert main(["compare", str(folder)]) == 2
    assert capsys.readouterr().err.startswith("ssl-lib: error: ")


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "low"},
        {"loss": None},
        {"loss": 10**400},
        {"effective_rank": "x"},
        {"memory_gb": None},
        {"images_per_second": None},
        {"images_per_second": "fast"},
    ],
    ids=str,
)
def test_compare_reports_a_metric_that_is_not_a_number(change, folder, capsys):
    (folder / "metrics.jsonl").write_text(f"{json.dumps({**LINES[0], **change})}\n")
    assert main(["compare", str(folder)]) == 2
    assert f"{folder}: config.yaml, metrics.jsonl or evaluation.json is damaged" in capsys.readouterr().err


def test_compare_reports_a_batch_size_that_is_not_a_number(folder, capsys):
    (folder / "config.yaml").write_text("trainer: {batch_size: many}\n")
    (folder / "metrics.jsonl").write_text(f"{json.dumps({**LINES[0], 'step': 2**62})}\n")
    assert main(["compare", str(folder)]) == 2
    assert "config.yaml, metrics.jsonl or evaluation.json is damaged" in capsys.readouterr().err
