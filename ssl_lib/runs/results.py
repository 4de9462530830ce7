"""Results of an evaluation, in memory and as `evaluation.json`; imports no torch."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from ssl_lib.errors import DataError
from ssl_lib.utils.files import read_json
from ssl_lib.utils.tables import text_table

__all__ = ["Evaluation", "Metric", "Results", "mean_and_spread", "read_results"]

_FLAT_LIST = re.compile(r"\[\n[^\[\]{}]*\n\s*\]")  # of numbers and texts, which hold no line break in JSON


@dataclass(frozen=True)
class Metric:
    """One metric of a protocol.

    Attributes:
        key: Its name in results and files, such as `knn`; its standard deviation over draws, if any, is `<key>_std`.
        title: Its heading in a table, such as `kNN (k=20)`.
        percent: Whether it is a fraction in [0, 1], which tables show in percent.
        main: Whether it is one of the protocol's main metrics, which training logs, too.
        digits: Decimal places in tables.
    """

    key: str
    title: str
    percent: bool = True
    main: bool = True
    digits: int = 1

    def shown(self, values: Mapping[str, float]) -> str:
        """Formats this metric's value among `values`: `72.0 +- 1.4 %`, or a dash if it is missing."""
        if self.key not in values:
            return "-"
        if not math.isfinite(values[self.key]):
            return "not finite"
        scale, unit = (100, " %") if self.percent else (1, "")
        spread = values.get(f"{self.key}_std")
        deviation = "" if spread is None else f" +- {scale * spread:.{self.digits}f}"
        return f"{scale * values[self.key]:.{self.digits}f}{deviation}{unit}"


@dataclass(frozen=True)
class Results:
    """What an evaluation measured, by row (`raw pixels`, `random init`, `trained`): `results["trained"]["knn"]`.

    Attributes:
        measures: The metrics, in the order of a table.
        values: By row and key; a metric that does not apply to a row is missing.
        details: By row and protocol, as plain numbers, texts, lists and mappings.
    """

    measures: tuple[Metric, ...]
    values: dict[str, dict[str, float]]
    details: dict[str, dict[str, Any]]

    def __getitem__(self, row: str) -> dict[str, float]:
        return self.values[row]

    def main(self, row: str) -> dict[str, float]:
        """The main metrics of a row, for a line of metrics.jsonl."""
        return {m.key: self[row][m.key] for m in self.measures if m.main and m.key in self[row]}

    def joined(self, earlier: Results) -> Results:
        """These results, preceded by the earlier results of other metrics."""
        keys = {measure.key for measure in self.measures}
        measures = (*(measure for measure in earlier.measures if measure.key not in keys), *self.measures)
        rows = dict.fromkeys([*earlier.values, *self.values])
        values = {row: {**earlier.values.get(row, {}), **self.values.get(row, {})} for row in rows}
        details = {row: {**earlier.details.get(row, {}), **self.details.get(row, {})} for row in rows}
        return Results(measures, values, details)

    def as_json(self, steps: int, **settings: Any) -> str:
        """The text of an `evaluation.json`, which `read_results` reads.

        Args:
            steps: Number of updates trained.
            **settings: Further plain values to store.
        """
        found = {"results": self.values, "measures": list(map(asdict, self.measures)), "details": self.details}
        text = json.dumps({"steps": steps, **found, **settings}, indent=2)
        return _FLAT_LIST.sub(_on_one_line, text) + "\n"

    def table(self, every: bool = True) -> str:
        """A plain table with a line per metric and a column per row; without `every` only the main metrics."""
        lines = [["", *self.values]]
        for measure in self.measures:
            measured = any(measure.key in scores for scores in self.values.values())
            if measured and (every or measure.main):
                lines.append([measure.title, *map(measure.shown, self.values.values())])
        return text_table(lines)


@dataclass(frozen=True)
class Evaluation:
    """What an `evaluation.json` holds.

    Attributes:
        results: The results.
        queries: Number of test images; None if it is not known.
        steps: Training steps of the weights.
        classes: Class names by label; empty if they are not known.
    """

    results: Results
    queries: int | None
    steps: int
    classes: Sequence[str] = ()

    @classmethod
    def of(cls, content: Mapping[str, Any], results: Results) -> Evaluation:
        """Builds it from what `read_results` returns."""
        images, classes = content.get("images"), content.get("classes")
        queries = images.get("queries") if isinstance(images, Mapping) else None
        names = list(map(str, classes)) if isinstance(classes, list) else []
        return cls(results, queries if isinstance(queries, int) else None, content["steps"], names)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation if there are several values; both NaN if a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan if len(values) > 1 else None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def read_results(path: Path) -> tuple[dict[str, Any], Results]:
    """Reads an `evaluation.json`: the whole content, and the results in it.

    Raises:
        DataError: The file is missing, damaged or of another kind.
    """
    content = read_json(path, "run `ssl-lib evaluate` again to write it")
    try:
        measures = tuple(Metric(**measure) for measure in content["measures"])
        results = Results(measures, content["results"], content["details"])
        whole = all(map(_is_whole, measures))
        rows = {row: {key: float(value) for key, value in scores.items()} for row, scores in results.values.items()}
        details = all(isinstance(entry, dict) for entry in results.details.values())
        if not whole or not details or not isinstance(content["steps"], int):
            raise TypeError("a value has the wrong type")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path} is damaged or not an evaluation ({error!r:.200}); run `ssl-lib evaluate` again to write it"
        ) from error
    return content, Results(measures, rows, results.details)


def _is_whole(metric: Metric) -> bool:
    """Whether the fields of a metric that was read from a file have their types."""
    return list(map(type, astuple(metric))) == [str, str, bool, bool, int] and 0 <= metric.digits <= 20


def _on_one_line(match: re.Match[str]) -> str:
    return re.sub(r"\n\s*", "", re.sub(r",\n\s*", ", ", match[0]))
