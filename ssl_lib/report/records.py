"""What the files of a run say; a file that is missing or damaged is a reason, not an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_lib.doctor import Doctor, diagnose
from ssl_lib.errors import ConfigError, DataError
from ssl_lib.evaluation import read_results
from ssl_lib.report.run import Evaluation, Missing, Table
from ssl_lib.runs.files import CONFIG_FILE, ENVIRONMENT_FILE, METRICS_FILE
from ssl_lib.runs.metrics import read_metrics as read_lines
from ssl_lib.utils.yaml import parse_yaml

__all__ = ["read_config", "read_diagnosis", "read_environment", "read_evaluation", "read_metrics"]


def read_config(folder: Path) -> Table | Missing:
    """The mapping in config.yaml."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return Missing(
            "There is no config.yaml: the run was trained by a script. `ssl-lib train CONFIG` writes one into the run."
        )
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        return Missing(f"config.yaml cannot be read: {error}")
    return values if isinstance(values, dict) else Missing("config.yaml holds no mapping of keys to values.")


def read_metrics(folder: Path) -> Sequence[Table] | Missing:
    """The lines of metrics.jsonl, but for a last one that a killed process left half written."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return Missing(
            "There is no metrics.jsonl: train with `ssl-lib train`, or give the Trainer the callback MetricsLog."
        )
    try:
        lines = read_lines(path)
    except (DataError, OSError) as error:
        return Missing(f"{error}.")
    return lines or Missing(
        "metrics.jsonl is empty: the run stopped before its first line; a lower trainer.log_every brings it sooner."
    )


def read_evaluation(path: Path) -> Evaluation | Missing:
    """The results in a file of `ssl-lib evaluate`."""
    if not path.is_file():
        return Missing(f"There is no {path.name}: `ssl-lib evaluate RUN` writes it, given labeled images.")
    try:
        content, results = read_results(path)
        queries, classes = content.get("images", {}).get("queries"), content.get("classes")
        names = list(map(str, classes)) if isinstance(classes, list) else []
        return Evaluation(results, queries, content.get("steps"), names)
    except (OSError, ValueError, AttributeError) as error:
        return Missing(f"{path.name} cannot be read ({error}): `ssl-lib evaluate RUN` writes it anew.")


def read_diagnosis(folder: Path) -> Doctor | Missing:
    """What the doctor says of the lines of metrics.jsonl."""
    try:
        return diagnose(folder)
    except DataError as error:
        return Missing(f"{error}.")


def read_environment(folder: Path) -> Table | Missing:
    """Versions and device of the training."""
    path = folder / ENVIRONMENT_FILE
    if not path.is_file():
        return Missing("There is no environment.json: the run was trained by a script, or by an older version.")
    try:
        return _table(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        return Missing(f"environment.json is damaged ({error}): delete it.")


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a mapping was expected, not {type(value).__name__}")
    return value
