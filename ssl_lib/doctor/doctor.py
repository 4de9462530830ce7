"""Applies the diagnosis rules to the lines of metrics.jsonl; each problem is reported once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ssl_lib.doctor.figures import FIGURES, Figure
from ssl_lib.doctor.history import History, RunFacts
from ssl_lib.doctor.rules import RULES, Rule

__all__ = ["Doctor", "Finding", "examine"]


@dataclass(frozen=True)
class Finding:
    """A problem found in a run.

    Attributes:
        step: 0-based index of the update of the first line with the problem.
        name: Name of the rule, such as `complete collapse`.
        seen: The evidence in the metrics.
        cause: Likely cause.
        cure: How to fix the problem.
    """

    step: int
    name: str
    seen: str
    cause: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name} at step {self.step}: {self.seen}. Likely: {self.cause}. Fix: {self.cure}"


class Doctor:
    """Diagnoses a run line by line.

    Args:
        facts: Facts about the run.
        rules: Rules in the order of checking.
    """

    def __init__(self, facts: RunFacts, rules: Sequence[Rule] = RULES) -> None:
        self.history = History(facts)
        self.findings: list[Finding] = []
        self._rules = rules

    @property
    def outside(self) -> list[Figure]:
        """The metrics that are out of their healthy range now; only some of them are a finding."""
        return [
            figure for figure in FIGURES.values() if self.history.all(figure.name) and figure.is_outside(self.history)
        ]

    def see(self, line: Mapping[str, float]) -> list[Finding]:
        """Adds a line of `metrics.jsonl` and returns the new findings."""
        self.history.add(line)
        before = len(self.findings)
        for rule in self._rules:
            known = {finding.name for finding in self.findings}
            if known.isdisjoint({rule.name, *rule.covered_by}) and (seen := rule.check(self.history)) is not None:
                self.findings.append(Finding(self.history.step, rule.name, seen, rule.cause, rule.cure))
        return self.findings[before:]


def examine(lines: Iterable[Mapping[str, float]], facts: RunFacts) -> list[Finding]:
    """Returns all findings for the lines of a run."""
    doctor = Doctor(facts)
    for line in lines:
        doctor.see(line)
    return doctor.findings
