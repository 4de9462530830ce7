"""The top of the page: what came out of it, in a sentence, a picture and the doctor's words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_lib.report.html import Html, tag
from ssl_lib.report.numbers import measured
from ssl_lib.report.run import Evaluation, Missing, Run
from ssl_lib.report.sections.common import missing, section, style_of
from ssl_lib.report.verdict import Verdict, best_of, judge

__all__ = ["header", "headline", "overview"]


def header(runs: Sequence[Run]) -> Html:
    """Verdict and names."""
    verdict = headline(runs)
    names = " · ".join(run.name for run in runs)
    return tag(
        "header",
        tag("p", f"Training report: {names}", class_="kicker"),
        tag("h1", verdict.headline),
        tag("p", verdict.figures, class_="figures") if verdict.figures else None,
        [tag("p", _recipe(run, len(runs) > 1), class_="recipe") for run in runs],
        class_=f"top {verdict.news}",
    )


def headline(runs: Sequence[Run]) -> Verdict:
    """Of one run, how it did beside its baselines; of several, which is ahead."""
    known = [(run.name, run.evaluation) for run in runs if isinstance(run.evaluation, Evaluation)]
    if len(runs) == 1:
        return judge(known[0][1]) if known else Verdict("Trained, but not yet evaluated", "", "none")
    return best_of(known) or Verdict(f"{len(runs)} runs side by side", "", "none")


def overview(runs: Sequence[Run]) -> Html:
    """The accuracies as dots on a line, and what the doctor found."""
    bars = [_dots(run, len(runs) > 1) for run in runs if isinstance(run.evaluation, Evaluation)]
    left = tag("div", bars, missing(runs, "evaluation"))
    right = tag("div", [_doctor(run, runs) for run in runs])
    return section("verdict", "At a glance", None, tag("div", left, right, class_="glance"))


def _recipe(run: Run, named: bool) -> str:
    """`simclr with resnet_tiny on fashion_mnist_mini, 10 epochs, 460 steps`."""
    start = f"{run.name}: " if named else ""
    steps = _steps(run)
    trained = f"{steps:,} steps" if steps is not None else ""
    if isinstance(run.config, Missing):
        return f"{start}{trained or 'a run without a config'}"
    parts = [_name(run.config.get(key)) for key in ("method", "backbone", "data")]
    schedule = run.config.get("schedule")
    epochs = schedule.get("epochs") if isinstance(schedule, Mapping) else None
    told = [f"{parts[0]} with {parts[1]} on {parts[2]}", f"{epochs} epochs planned" if epochs else "", trained]
    return start + ", ".join(text for text in told if text)


def _name(component: Any) -> str:
    name = component.get("name") if isinstance(component, Mapping) else component
    return str(name or "unknown")


def _steps(run: Run) -> int | None:
    if not isinstance(run.observed, Missing):
        return run.observed.steps
    if isinstance(run.metrics, Missing):
        return None
    return max((line["step"] + 1 for line in run.metrics if isinstance(line.get("step"), int)), default=None)


def _dots(run: Run, named: bool) -> Html:
    """A line from 0 to 100 % per protocol, with a dot for each row of the evaluation."""
    assert isinstance(run.evaluation, Evaluation)
    results = run.evaluation.results
    lines = []
    for measure in (m for m in results.measures if m.main and m.percent):
        dots = [
            tag("i", class_=f"dot {style_of(row)}", style=f"left:{100 * scores[measure.key]:.2f}%")
            for row, scores in results.values.items()
            if 0 <= scores.get(measure.key, math.nan) <= 1
        ]
        told = ", ".join(f"{row} {measured(measure, scores)}" for row, scores in results.values.items())
        value = measured(measure, results.values.get("trained", {}))
        track = tag("span", dots, class_="track", role="img", aria_label=f"{measure.title}: {told}")
        lines.append(tag("li", tag("span", measure.title, class_="name"), track, tag("b", value)))
    if not lines:
        return Html()
    key = tag(
        "p", [[tag("i", class_=f"dot {style_of(row)}"), " ", row, " "] for row in results.values], class_="dot-key"
    )
    return tag("div", tag("h3", run.name) if named else None, key, tag("ul", lines, class_="dots"))


def _doctor(run: Run, runs: Sequence[Run]) -> Html | None:
    if isinstance(run.diagnosis, Missing):
        return tag("p", tag("strong", "Doctor"), " ", _of(run, runs), run.diagnosis.reason, class_="note")
    if not run.diagnosis.findings:
        return tag("p", tag("strong", "Doctor"), " ", _of(run, runs), "found nothing wrong.", class_="finding good")
    items = [
        tag("li", tag("strong", finding.name), f" since step {finding.step:,}: {finding.seen}. ",
            f"Likely: {finding.cause}. ", tag("em", f"Cure: {finding.cure}."))
        for finding in run.diagnosis.findings
    ]  # fmt: skip
    title = tag("p", tag("strong", "Doctor"), " ", _of(run, runs), f"found {len(items)}:")
    return tag("div", title, tag("ul", items), class_="finding bad")


def _of(run: Run, runs: Sequence[Run]) -> str:
    return f"of {run.name}: " if len(runs) > 1 else ""
