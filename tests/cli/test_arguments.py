"""Tests of the argument parser: error messages, positional arguments after options, and lazy import of torch."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_lib.cli.arguments import make_parser
from ssl_lib.cli.main import main
from tests.cli.conftest import error_of

FACTS = {"total_steps": 4, "steps_per_epoch": 2}
EVALUATION = {
    "results": {"raw pixels": {"knn": 0.1}, "random init": {"knn": 0.2}, "trained": {"knn": 0.5, "more": 3.0}},
    "measures": [
        {"key": "knn", "title": "kNN", "percent": True, "main": True, "digits": 1},
        {"key": "more", "title": "more", "percent": False, "main": False, "digits": 1},
    ],
    "details": {},
    "steps": 2,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with three runs, the file of a table, and a folder of images."""
    for name in ("quickstart", "other", "byol20"):
        run = tmp_path / "runs" / name
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "last.pt").touch()
        (run / "config.yaml").write_text("method: {name: simclr}\ntrainer: {batch_size: 8}\n")
        (run / "metrics.jsonl").write_text('{"step": 1, "epoch": 0, "loss": 2.0, "images_per_second": 8}\n')
        (run / "diagnosis.json").write_text(json.dumps({"facts": FACTS}))
        (run / "evaluation.json").write_text(json.dumps(EVALUATION))
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "table.npz").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "unknown command 'trian'. Did you mean 'train'?"),
        ("xyz", "unknown command 'xyz'. Known: bench, "),
        ("train", "the following arguments are required: CONFIG"),
        ("train nothing", "no config or run 'nothing': there is no such file or folder, nor a bundled config."),
        ("train simclr", "Did you mean 'cifar10/simclr'?"),
        ("train ./quickstart", "no config or run './quickstart'"),
        ("train quikstart", "Did you mean 'quickstart'?"),
        ("train runs/othr --resume", "no config or run 'runs/othr'"),
        ("train runs/othr --resume", "Did you mean 'runs/other'?"),
        ("train photos", "photos is a folder without a config.yaml"),
        ("train quickstart --rezume", "unrecognized arguments: --rezume"),
        ("train quickstart --o", "unrecognized arguments: --o"),
        ("train quickstart --trainer.batch_size=3", "unrecognized arguments: --trainer.batch_size=3"),
        ("list methods simclr seed=1", "unrecognized arguments: seed=1"),
        ("evaluate fashion_mnist/byol", "no run at fashion_mnist/byol: it is neither a folder nor a checkpoint file"),
        ("embed photos", "no run at photos: it holds none of config.yaml, metrics.jsonl"),
        ("export runs/other", "the following arguments are required: --to"),
        ("nearest table.npz", "the following arguments are required: QUERY"),
        ("select table.npz -n many", "argument -n: invalid int value: 'many'"),
        ("doctor runs/other runs/quickstart", "unrecognized arguments: runs/quickstart"),
        ("doctor photos", "photos has no metrics.jsonl and no diagnosis.json"),
        ("compare nothing", "nothing"),
        ("list nothing", "unknown kind 'nothing'. Known: backbones, "),
    ],
)
def test_errors_name_the_argument(line, message, folder, capsys):
    assert message in error_of(capsys, *shlex.split(line)).splitlines()[-1]


@pytest.mark.parametrize(
    "line",
    [
        *("train RUN --resume", "evaluate RUN", "doctor RUN", "report RUN", "compare RUN runs/other", "embed RUN"),
        *("export RUN --to timm", "views RUN", "bench RUN", "sweep RUN seed=1,2"),
    ],
)
def test_every_command_suggests_the_closest_run(line, folder, capsys):
    error = error_of(capsys, *line.replace("RUN", "runs/othr").split())
    assert re.search("[Dd]id you mean '?runs/other'?[?]", error)


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "nearest"])
def test_optional_arguments_are_not_reported_as_required(command, capsys):
    required = error_of(capsys, command).split("required: ")[1]
    assert "key=value" not in required


@pytest.mark.parametrize(
    ("line", "name", "values"),
    [
        ("report runs/other -o a.html runs/byol20", "runs", ["runs/other", "runs/byol20"]),
        ("compare runs/other -o c.csv runs/quickstart", "folders", ["runs/other", "runs/quickstart"]),
        ("nearest table.npz 0 -k 3 1", "queries", ["0", "1"]),
        ("train quickstart --resume seed=1", "overrides", ["seed=1"]),
        ("evaluate runs/other --output a.json knn", "overrides", ["knn"]),
    ],
)
def test_positional_arguments_may_follow_an_option(line, name, values, folder, monkeypatch):
    parsed = []
    monkeypatch.setattr(sys.modules["ssl_lib.cli.main"].pkgutil, "resolve_name", lambda path: parsed.append)
    assert main(shlex.split(line)) == 0
    assert getattr(parsed[0], name) == values


SUCCEEDS_WITHOUT_TORCH = """
--help
--version
train --help
evaluate --help
doctor runs/other
compare runs/other runs/quickstart -o table.csv
list configs
list configs quickstart
"""

FAILS_WITHOUT_TORCH = """
trian
train
train nothing
train nothing --resume
train quickstart --rezume
evaluate nothing
embed nothing
export runs/other
select table.npz -n many
doctor nothing
"""


def test_parsing_and_commands_without_tensors_import_no_torch(folder):
    code = (
        "import json, sys\n"
        "from ssl_lib.cli.main import main\n"
        "for line, expected in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        code = main(line.split())\n"
        "    except SystemExit as end:\n"
        "        code = end.code or 0\n"
        "    assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), line\n"
        "    assert code == expected, (line, code)\n"
    )
    succeed, fail = SUCCEEDS_WITHOUT_TORCH.strip().splitlines(), ["", *FAILS_WITHOUT_TORCH.strip().splitlines()]
    lines = json.dumps([*((line, 0) for line in succeed), *((line, 2) for line in fail)])
    ended = subprocess.run([sys.executable, "-c", code, lines], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
    assert "runs/other and 1 other run" in ended.stdout and "kNN, %" in (folder / "table.csv").read_text()


def test_ctrl_c_during_the_import_of_torch_prints_no_traceback(folder):
    code = (
        "import signal, sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch._tensor':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "from ssl_lib.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for line in ("train quickstart", "list losses"):
        done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "\nssl-lib: interrupted\n")


def test_help_lists_the_commands_in_the_order_of_the_readme(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    out = capsys.readouterr().out
    lines = re.findall(r"^    (\w+) +(\S.*)$", out.partition("COMMAND\n")[2], flags=re.M)
    _, commands = make_parser()
    assert [name for name, _ in lines] == list(commands)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^ssl-lib (\w+) ", readme, flags=re.M) == list(commands)


def test_every_command_has_a_function_and_its_examples_parse(folder):
    parser, commands = make_parser()
    for name, command in commands.items():
        module, _, function = command.get_default("work").partition(":")
        assert function == f"run_{name}"
        __import__(f"ssl_lib.cli.{module}")
        assert callable(getattr(sys.modules[f"ssl_lib.cli.{module}"], function))
        for example in re.findall(r"^  ssl-lib (.*)$", command.epilog or "", flags=re.M):
            assert parser.parse_known_args(example.split())[1] == []
