"""What a word on the command line is, and what it was meant to be. Free of torch."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ssl_lib.cli.common import bundled_configs, find_config
from ssl_lib.errors import ConfigError, listed
from ssl_lib.runs.files import is_checkpoint_file, is_run_folder, no_run, run_around, runs_in

__all__ = ["FORMATS", "KINDS", "PROJECTIONS", "PROTOCOLS", "TABLES", "Kind", "Verdict"]

FORMATS = ("torchvision", "timm", "safetensors", "onnx", "torch_export", "huggingface")
"""The keys of `ssl_lib.export.FORMATS`."""

PROJECTIONS = ("umap", "tsne", "pca")
"""The keys of `ssl_lib.report.PROJECTIONS`."""

PROTOCOLS = ("cluster", "finetune", "knn", "linear", "logistic", "lowshot", "retrieval", "spectrum")
"""The library's own in `ssl_lib.PROTOCOLS`."""

TABLES = (".npz", ".parquet")
"""The suffixes of the files that `ssl-lib embed` writes."""

_RUNS = Path("runs")
"""Where runs lie unless a config says otherwise."""


class Verdict(NamedTuple):
    """Why a word is not what it should be, and the words that were meant, where they can be known."""

    said: str
    meant: tuple[str, ...] = ()


class Kind(NamedTuple):
    """What the first word of a command should be."""

    name: str
    fits: Callable[[str], bool]
    explain: Callable[[str], Verdict]


def _is_run(word: str) -> bool:
    """A run's folder, or one checkpoint file, whose name may be any."""
    path = Path(word)
    return is_run_folder(path) or is_checkpoint_file(path)


def _may_be_run_folder(word: str) -> bool:
    """A folder; what it lacks, if it is no run's, is for the command to say."""
    path = Path(word)
    return path.is_dir() and (is_run_folder(path) or (not runs_in(path) and run_around(path) is None))


def _is_config(word: str) -> bool:
    """What `find_config` finds."""
    try:
        return find_config(word).suffix not in (".pt", *TABLES)
    except ConfigError:
        return False


def _is_table(word: str) -> bool:
    """A file of embeddings, by its name."""
    return Path(word).expanduser().is_file() and Path(word).suffix in TABLES


def _explain_run(word: str, several: bool = False) -> Verdict:
    path, named = Path(word), _RUNS / _run_name(word)
    if verdict := _beside_a_run(path, several):
        return verdict
    if is_run_folder(named):
        return Verdict(f"{word} is no run, but {named} is", (str(named),))
    if _is_config(word) and not (path.is_file() and path.suffix not in (".yaml", ".yml")):
        return Verdict(f"{word} is a config, not a run: train it first, by `ssl-lib train {word}`")
    runs = {run.name: run for run in (*runs_in(_RUNS), *runs_in(path.parent))}
    if near := difflib.get_close_matches(path.name, runs, n=1, cutoff=0.75):
        return Verdict(f"no run at {word}, but at {runs[near[0]]}", (str(runs[near[0]]),))
    return Verdict(f"{no_run(word)}{f'; there are {listed(runs.values())}' if runs else ''}")


def _explain_config(word: str, resume: bool = False) -> Verdict:
    if verdict := _beside_a_run(Path(word)):
        return verdict
    names = [name for name, _ in bundled_configs() if word in name.split("/")]
    if names:
        names.sort(key=lambda name: not name.startswith("fashion_mnist/"))  # those that need no GPU first
        return Verdict(f"{word} is no config, but {listed(names)} are", (names[0],))
    try:
        find_config(word, resume)
    except ConfigError as error:
        return Verdict(str(error))
    return Verdict(f"{word} is no config: these are YAML files")


def _explain_table(word: str) -> Verdict:
    if _is_run(word):
        return Verdict(f"{word} is a run, not its embeddings: `ssl-lib embed {word} -o embeddings.npz` writes them")
    if Path(word).suffix in TABLES:
        return Verdict(f"{word}: no such file; `ssl-lib embed RUN IMAGES -o {word}` writes it")
    return Verdict(f"{word} is no table of embeddings: these must end in {' or '.join(TABLES)}")


def _beside_a_run(path: Path, several: bool = False) -> Verdict | None:
    """Of a folder of runs, and of what lies in a run."""
    if runs := runs_in(path):
        return Verdict(f"{path} is a folder of runs ({listed(runs)})", tuple(map(str, runs if several else runs[:1])))
    run = run_around(path)
    return None if run is None else Verdict(f"{path} lies in the run {run}", (str(run),))


def _run_name(config: str) -> str:
    """The name of the folder that a run of a bundled config gets."""
    return config.removesuffix(".yaml").removeprefix("configs/").replace("/", "_")


KINDS = {
    "run": Kind("RUN", _is_run, _explain_run),
    "runs": Kind("RUN", _is_run, _explain_run),
    "folder": Kind("RUN", _may_be_run_folder, _explain_run),
    "folders": Kind("RUN", _may_be_run_folder, functools.partial(_explain_run, several=True)),
    "config": Kind("CONFIG", _is_config, _explain_config),
    "resumed": Kind("CONFIG", _is_config, functools.partial(_explain_config, resume=True)),
    "table": Kind("EMBEDDINGS", _is_table, _explain_table),
}
"""By the place that it is for."""
