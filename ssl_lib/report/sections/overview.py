"""The top of the page: what came out of it, in a sentence, a picture and the doctor's words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssl_lib.doctor import Doctor
from ssl_lib.evaluation import Metric, Results
from ssl_lib.report.advice import Step, next_steps, steps_done, steps_planned
from ssl_lib.report.defaults import part_name
from ssl_lib.report.html import Child, Html, tag
from ssl_lib.report.numbers import measured
from ssl_lib.report.run import Evaluation, Missing, Run
from ssl_lib.report.sections.common import prose, section, style_of
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
        return judge(known[0][1]) if known else _unevaluated(runs[0])
    return best_of(known) or Verdict(f"{len(runs)} runs side by side", "", "none")


def _unevaluated(run: Run) -> Verdict:
    """How far it came, and whether it went wrong."""
    done, total = steps_done(run), steps_planned(run)
    unfinished = done is not None and total is not None and done < total
    came = f"{done:,} of {total:,} steps are done." if unfinished else ""
    if isinstance(run.diagnosis, Doctor) and run.diagnosis.findings:
        return Verdict(f"Something is wrong: {run.diagnosis.findings[0].name}", came, "bad")
    if done is None:
        return Verdict("It has only begun", "", "none")
    if unfinished:
        return Verdict("Not trained to its end, and not yet evaluated", came, "none")
    return Verdict("Trained, but not yet evaluated", "", "none")


def overview(runs: Sequence[Run]) -> Html:
    """The accuracies as dots on a line, what the doctor found, and what to do next."""
    known = [(run, run.evaluation.results) for run in runs if isinstance(run.evaluation, Evaluation)]
    scores = _scores(known, len(runs) > 1)
    left = tag("div", scores) if scores else None
    right = tag("div", [_doctor(run, runs) for run in runs], _next(next_steps(runs)))
    return section("verdict", "At a glance", None, tag("div", left, right, class_="glance"))


def _recipe(run: Run, named: bool) -> str:
    """`simclr with resnet_tiny on fashion_mnist_mini, 10 epochs, 460 steps`."""
    start = f"{run.name}: " if named else ""
    steps = steps_done(run)
    trained = f"{steps:,} steps" if steps is not None else ""
    if isinstance(run.config, Missing):
        return f"{start}{trained or 'a run without a config'}"
    parts = [part_name(run.config.get(key)) or "unknown" for key in ("method", "backbone", "data")]
    schedule = run.config.get("schedule")
    epochs = schedule.get("epochs") if isinstance(schedule, Mapping) else None
    told = [f"{parts[0]} with {parts[1]} on {parts[2]}", f"{epochs} epochs planned" if epochs else "", trained]
    return start + ", ".join(text for text in told if text)


def _scores(known: Sequence[tuple[Run, Results]], named: bool) -> list[Child]:
    """All protocols' shares on lines of one scale, which is as short as the scores allow, in steps of ten percent."""
    shares = [
        scores[measure.key]
        for _, results in known
        for measure in _shares(results)
        for scores in results.values.values()
        if 0 <= scores.get(measure.key, math.nan) <= 1
    ]
    if not shares:
        return []
    high = max(1, math.ceil(round(10 * max(shares), 6)))
    low = min(high - 1, math.floor(round(10 * min(shares), 6)))
    scale = low / 10, high / 10
    rows = dict.fromkeys(row for _, results in known for row in results.values)
    key = [[tag("i", class_=f"dot {style_of(row)}"), " ", row, " "] for row in rows]
    ends = [tag("span", f"{100 * end:.0f}\u00a0%") for end in scale]
    return [
        tag("p", key, class_="dot-key"),
        [_dots(run.name if named else None, results, scale) for run, results in known],
        tag("div", tag("span", ends, class_="ends"), class_="scale", aria_hidden="true"),
    ]


def _shares(results: Results) -> list[Metric]:
    return [measure for measure in results.measures if measure.main and measure.percent]


def _dots(name: str | None, results: Results, scale: tuple[float, float]) -> Child:
    """A line per protocol, with a dot for each row of the evaluation."""
    low, high = scale
    lines = []
    for measure in _shares(results):
        dots = [
            tag(
                "i",
                class_=f"dot {style_of(row)}",
                style=f"left:{100 * (scores[measure.key] - low) / (high - low):.2f}%",
            )
            for row, scores in results.values.items()
            if 0 <= scores.get(measure.key, math.nan) <= 1
        ]
        told = ", ".join(f"{row} {measured(measure, scores)}" for row, scores in results.values.items())
        value = measured(measure, results.values.get("trained", {}))
        track = tag("span", dots, class_="track", role="img", aria_label=f"{measure.title}: {told}")
        lines.append(tag("li", tag("span", measure.title, class_="name"), track, tag("b", value)))
    return [tag("h3", name) if name else None, tag("ul", lines, class_="dots")]


def _next(steps: Sequence[Step]) -> Html:
    items = [tag("li", step.reason, tag("code", step.command) if step.command else None) for step in steps]
    return tag("div", tag("h3", "What next"), tag("ul", items), class_="next")


def _doctor(run: Run, runs: Sequence[Run]) -> Html | None:
    if isinstance(run.diagnosis, Missing):
        return tag("p", tag("strong", "Doctor"), " ", _of(run, runs), run.diagnosis.reason, class_="note")
    if not run.diagnosis.findings:
        history = run.diagnosis.history
        early = ", but the run is too short to tell" if history.finished else " so far, but it is too early to tell"
        told = f"found nothing wrong{early if history.too_short else ''}."
        return tag("p", tag("strong", "Doctor"), " ", _of(run, runs), told, class_="finding good")
    items = [
        tag("li", tag("strong", finding.name), f" since step {finding.step:,}: {finding.seen}. ",
            f"Likely: {finding.cause}. ", tag("em", "Cure: ", prose(finding.cure), "."))
        for finding in run.diagnosis.findings
    ]  # fmt: skip
    count = "one thing" if len(items) == 1 else f"{len(items)} things"
    title = tag("p", tag("strong", "Doctor"), " ", _of(run, runs), f"found {count} wrong:")
    return tag("div", title, tag("ul", items), class_="finding bad")


def _of(run: Run, runs: Sequence[Run]) -> str:
    return f"of {run.name}: " if len(runs) > 1 else ""
