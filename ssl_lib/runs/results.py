"""What an evaluation found, as objects and as `evaluation.json`. Free of torch, as many look at it."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ssl_lib.utils.tables import text_table

__all__ = ["Metric", "Results", "mean_and_spread", "read_results"]

_FLAT_LIST = re.compile(r"\[\n[^\[\]{}]*\n\s*\]")  # of numbers and texts, which hold no line break in JSON


@dataclass(frozen=True)
class Metric:
    """One figure of a protocol.

    Attributes:
        key: Its name in results and files, such as `knn`; the spread over draws, where there are any, is `<key>_std`.
        title: Its heading in a table, such as `kNN (k=20)`.
        percent: Whether it is a share in [0, 1] that tables show in percent.
        main: Whether it is the protocol's own figure, shown in training too, or one more beside it.
        digits: After the point, in tables.
    """

    key: str
    title: str
    percent: bool = True
    main: bool = True
    digits: int = 1

    def shown(self, values: Mapping[str, float]) -> str:
        """Of these figures its own, as tables show it: `72.0 +- 1.4 %`, or a dash where it is none of them."""
        if self.key not in values:
            return "-"
        if not math.isfinite(values[self.key]):
            return "not finite"
        scale, unit = (100, " %") if self.percent else (1, "")
        spread = values.get(f"{self.key}_std")
        beside = "" if spread is None else f" +- {scale * spread:.{self.digits}f}"
        return f"{scale * values[self.key]:.{self.digits}f}{beside}{unit}"


@dataclass(frozen=True)
class Results:
    """What was measured, by row (`raw pixels`, `random init`, `trained`): `results["trained"]["knn"]`.

    Attributes:
        measures: The figures, in the order of a table.
        values: By row and key; a figure that a row cannot have is missing.
        details: By row and protocol, as plain numbers, texts, lists and mappings.
    """

    measures: tuple[Metric, ...]
    values: dict[str, dict[str, float]]
    details: dict[str, dict[str, Any]]

    def __getitem__(self, row: str) -> dict[str, float]:
        return self.values[row]

    def main(self, row: str) -> dict[str, float]:
        """The protocols' own figures of a row, for a line of metrics."""
        return {m.key: self[row][m.key] for m in self.measures if m.main and m.key in self[row]}

    def joined(self, earlier: Results) -> Results:
        """These, and the earlier figures of protocols that measured something else, before them."""
        keys = {measure.key for measure in self.measures}
        measures = (*(measure for measure in earlier.measures if measure.key not in keys), *self.measures)
        rows = dict.fromkeys([*earlier.values, *self.values])
        values = {row: {**earlier.values.get(row, {}), **self.values.get(row, {})} for row in rows}
        details = {row: {**earlier.details.get(row, {}), **self.details.get(row, {})} for row in rows}
        return Results(measures, values, details)

    def as_json(self, steps: int, **settings: Any) -> str:
        """The content of an `evaluation.json`, which `read_results` reads.

        Args:
            steps: Updates that were trained.
            **settings: Whatever else is to stand there, as plain values.
        """
        found = {"results": self.values, "measures": list(map(asdict, self.measures)), "details": self.details}
        text = json.dumps({"steps": steps, **found, **settings}, indent=2)
        return _FLAT_LIST.sub(_on_one_line, text) + "\n"

    def table(self, every: bool = True) -> str:
        """A plain table with a line per figure and a column per row; else only the protocols' own figures."""
        lines = [["", *self.values]]
        for measure in self.measures:
            anywhere = any(measure.key in scores for scores in self.values.values())
            if anywhere and (every or measure.main):
                lines.append([measure.title, *map(measure.shown, self.values.values())])
        return text_table(lines)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation where there are several; both NaN where a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan if len(values) > 1 else None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def read_results(path: Path) -> tuple[dict[str, Any], Results]:
    """What `Results.as_json` made: the whole of it, and the results.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not one of these.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    try:
        measures = tuple(Metric(**measure) for measure in content["measures"])
        return content, Results(measures, content["results"], content["details"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold results of an evaluation") from error


def _on_one_line(match: re.Match[str]) -> str:
    return re.sub(r"\n\s*", "", re.sub(r",\n\s*", ", ", match[0]))
