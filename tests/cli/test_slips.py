"""Slips on the command line: told at once, without torch, with the line that was meant."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_lib.cli import words
from ssl_lib.cli.arguments import make_parser
from ssl_lib.cli.common import bundled_configs, find_config
from ssl_lib.cli.main import main
from ssl_lib.cli.slips import refuse_slips
from ssl_lib.config.load import load_config
from ssl_lib.embedding import storage
from ssl_lib.export import FORMATS
from ssl_lib.registry import PROTOCOLS
from ssl_lib.report import PROJECTIONS

FACTS = {"total_steps": 4, "steps_per_epoch": 2}
EVALUATION = {
    "results": {"raw pixels": {"knn": 0.1}, "random init": {"knn": 0.2}, "trained": {"knn": 0.5, "more": 3.0}},
    "measures": [
        {"key": "knn", "title": "kNN", "percent": True, "main": True, "digits": 1},
        {"key": "more", "title": "more", "percent": False, "main": False, "digits": 1},
    ],
    "details": {},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the runs `quickstart`, `other` and `sweep/seed=0`, a table, and a folder of images."""
    for name in ("quickstart", "other", "sweep/seed=0"):
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


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    assert main(shlex.split(line)) == 2
    error = capsys.readouterr().err
    assert error.startswith("ssl-lib: error: ") and error.count("\n") == 1
    return error.removeprefix("ssl-lib: error: ").rstrip()


RIGHT = {
    "evaluate knn runs/other": "evaluate runs/other knn",
    "evaluate runs/other --protocol knn": "evaluate runs/other knn",
    "evaluate --protocol=knn runs/other": "evaluate runs/other knn",
    "evaluate evaluation.knn.k=3 runs/other": "evaluate runs/other evaluation.knn.k=3",
    "evaluate --output a.json knn runs/sweep/seed=0": "evaluate runs/sweep/seed=0 --output a.json knn",
    "runs/other evaluate knn": "evaluate runs/other knn",
    "evalute knn runs/other": "evaluate runs/other knn",
    "--resume train quickstart": "train --resume quickstart",
    "help train": "train --help",
    "version": "--version",
    "embed photos runs/other": "embed runs/other photos",
    "embed runs/other photos --batchsize 3": "embed runs/other photos --batch-size 3",
    "embed runs/other --images photos": "embed runs/other photos",
    "embed runs": "embed runs/other",
    "export torchvision runs/other": "export runs/other --to torchvision",
    "export runs/other torchvision": "export runs/other --to torchvision",
    "train quickstart --rezume": "train quickstart --resume",
    "train quickstart -resume": "train quickstart --resume",
    "train quickstart resume": "train quickstart --resume",
    "train quickstart trainer.batch_size 3": "train quickstart trainer.batch_size=3",
    "train seed=1 quickstart": "train quickstart seed=1",
    "train simclr": "train fashion_mnist/simclr",
    "train runs/other/checkpoints/last.pt --resume": "train runs/other --resume",
    "sweep seed=0,1 quickstart": "sweep quickstart seed=0,1",
    "report quickstart": "report runs/quickstart",
    "report quikstart": "report runs/quickstart",
    "report runs/other umap": "report runs/other --map umap",
    "report runs/other page.html": "report runs/other -o page.html",
    "evaluate quickstart": "evaluate runs/quickstart",
    "compare quickstart other": "compare runs/quickstart runs/other",
    "compare runs": "compare runs/other runs/quickstart",
    "doctor runs": "doctor runs/other",
    "doctor runs/sweep": "doctor runs/sweep/seed=0",
    "doctor runs/other/config.yaml": "doctor runs/other",
    "doctor runs/other/checkpoints/last.pt": "doctor runs/other",
    "nearest 0 table.npz": "nearest table.npz 0",
    "list simclr": "list methods simclr",
    "list quickstart": "list configs quickstart",
}


@pytest.mark.parametrize("line", RIGHT)
def test_the_right_line_is_given(line, folder, capsys):
    assert refused(line, capsys).endswith(f": ssl-lib {RIGHT[line]}")


@pytest.mark.parametrize("line", sorted(set(RIGHT.values())))
def test_in_the_right_line_no_slip_is_seen(line, folder):
    parser, commands = make_parser()
    refuse_slips(shlex.split(line), parser, commands)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "evaluate fashion_mnist/byol",
            "a config, not a run: train it first, by `ssl-lib train fashion_mnist/byol`",
        ),
        ("evaluate table.npz", "no run at table.npz"),
        ("embed photos", "no run at photos: it holds none of config.yaml, metrics.jsonl"),
        (
            "report runs/zzz",
            "no run at runs/zzz: it is no folder, and no checkpoint file; there are runs/other, ",
        ),
        ("nearest runs/other 0", "not its embeddings: `ssl-lib embed runs/other -o embeddings.npz` writes them"),
        ("nearest gone.npz 0", "gone.npz: no such file; `ssl-lib embed RUN IMAGES -o gone.npz` writes it"),
        ("nearest photos 0", "photos is no table of embeddings: these must end in .npz or .parquet"),
        ("train nothing", "no config or run 'nothing'"),
        (
            "train runs/othr --resume",
            "no run 'runs/othr' to go on with: there is no such folder. Did you mean 'runs/o",
        ),
        ("train runs/other", "runs/other holds a run already: go on with it by `ssl-lib train runs/other --resume`"),
        ("train quickstart more", "cannot read 'more': settings are key=value"),
        ("train quickstart --nonsense", "'--nonsense'. Did you mean '--resume'? Known: --help, --overwrite, --resume."),
        ("export runs/other --to torchvison", "unknown export format 'torchvison'. Did you mean 'torchvision'?"),
        ("export torchvision", "torchvision belongs behind --to: see ssl-lib export --help"),
        ("doctor runs/other runs/quickstart", "doctor has no use for 'runs/quickstart': see ssl-lib doctor --help"),
        ("doctor photos", "photos holds no metrics.jsonl and no diagnosis.json"),
        ("trian", "unknown command 'trian', perhaps train: see ssl-lib train --help"),
        ("xyz", "unknown command 'xyz'. Known: bench, "),
        ("list nothing", "unknown kind 'nothing'. Known: backbones, "),
    ],
)
def test_what_is_wrong_is_named_where_no_line_is_known(line, message, folder, capsys):
    (folder / "runs/other/config.yaml").write_text(find_config("quickstart").read_text())
    assert message in refused(line, capsys)


LET_THROUGH = """
evaluate runs/other knn own_protocol evaluation.knn.k=3 --output a.json
evaluate runs/other/checkpoints/last.pt
train runs/sweep/seed=0 --resume
train quickstart --overwrite seed=1 run_dir=runs/x
train nothing --help
embed runs/other photos data.root=x -o t.npz --batch-size 3
nearest table.npz a.png -1 resume -k5 -oa.png
report runs/other runs/sweep/seed=0 data.root=x -o a.html --no-images
compare runs/other runs/sweep/seed=0
select table.npz -n3 --method random
export runs/other --to=onnx evaluation.image_size=96
pack photos out --size 8
replay runs/other trainer.precision=fp32 --step 1
views quickstart -o a.png
list methods
train -- quickstart
sweep quickstart -- seed=0,1
nearest ~/table.npz 0
"""


@pytest.mark.parametrize("line", [*LET_THROUGH.strip().splitlines(), f"train quickstart data.root={'x' * 300}"])
def test_right_lines_are_let_through(line, folder, monkeypatch):
    monkeypatch.setattr(sys.modules["ssl_lib.cli.main"].pkgutil, "resolve_name", lambda name: lambda options: 0)
    monkeypatch.setenv("HOME", str(folder))
    if "--help" not in line:
        assert main(shlex.split(line)) == 0


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ("report runs/other -o a.html runs/sweep/seed=0", "runs", ["runs/other", "runs/sweep/seed=0"]),
        ("compare runs/other -o c.csv runs/quickstart", "folders", ["runs/other", "runs/quickstart"]),
        ("nearest table.npz 0 -k 3 1", "queries", ["0", "1"]),
        ("train quickstart --resume seed=1", "overrides", ["seed=1"]),
        ("evaluate runs/other --output a.json knn", "overrides", ["knn"]),
    ],
)
def test_words_behind_an_option_belong_to_those_before_it(line, place, words, folder, monkeypatch):
    seen = []
    monkeypatch.setattr(sys.modules["ssl_lib.cli.main"].pkgutil, "resolve_name", lambda name: seen.append)
    assert main(shlex.split(line)) == 0
    assert getattr(seen[0], place) == words


@pytest.mark.parametrize("line", ["train runs/other --override seed=1", "train runs/other overwrite"])
def test_no_line_is_composed_that_deletes_a_run(line, folder, capsys):
    (folder / "runs/other/config.yaml").write_text(find_config("quickstart").read_text())
    error = refused(line, capsys)
    assert "deletes a run" in error and "ssl-lib train" not in error


DONE_WITHOUT_TORCH = """
--help
--version
train --help
evaluate --help
doctor runs/other
compare runs/other runs/quickstart -o table.csv
list configs
list configs quickstart
"""

REFUSED_WITHOUT_TORCH = """
trian
train
train nothing
train nothing --resume
train quickstart --rezume
evaluate nothing
embed nothing
export runs/other
nearest nothing 0
select table.npz -n many
report nothing
doctor nothing
list method
"""


def test_torch_is_not_imported_before_it_is_needed(folder):
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
    done, refused = DONE_WITHOUT_TORCH.strip().splitlines(), REFUSED_WITHOUT_TORCH.strip().splitlines()
    refused += ["", *(line for line in RIGHT if not line.startswith("list "))]
    lines = json.dumps([*((line, 0) for line in done), *((line, 2) for line in refused)])
    ended = subprocess.run([sys.executable, "-c", code, lines], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
    assert "runs/other and 1 other run" in ended.stdout and "kNN, %" in (folder / "table.csv").read_text()


def test_ctrl_c_while_torch_is_imported_is_no_traceback(folder):
    """The signal comes in the midst of the import, at a module that torch imports."""
    code = (
        "import signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch._tensor':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "from ssl_lib.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for line in ("train quickstart", "list losses"):
        done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "\nssl-lib: interrupted\n")


def test_without_a_command_help_is_printed_a_line_for_each_as_in_the_readme(capsys, monkeypatch):
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


def test_every_command_has_its_work_and_its_examples_parse():
    parser, commands = make_parser()
    for name, command in commands.items():
        module, _, function = command.get_default("work").partition(":")
        assert function == f"run_{name}"
        __import__(f"ssl_lib.cli.{module}")
        assert callable(getattr(sys.modules[f"ssl_lib.cli.{module}"], function))
        for example in re.findall(r"^  ssl-lib (.*)$", command.epilog or "", flags=re.M):
            assert parser.parse_known_args(example.split())[1] == []


def test_the_names_known_without_torch_are_those_of_the_parts():
    assert set(words.FORMATS) == set(FORMATS) and set(words.PROJECTIONS) == set(PROJECTIONS)
    assert tuple(PROTOCOLS) == words.PROTOCOLS and set(words.TABLES) == set(storage._STORAGES)


@pytest.mark.parametrize("name", [name for name, _ in bundled_configs()])
def test_a_configs_run_is_looked_for_where_it_is_written(name):
    assert str(words._RUNS / words._run_name(name)) == load_config(find_config(name)).run_dir
