"""Goes through a run's lines and says what is wrong, once for each thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ssl_lib.doctor.history import History, RunFacts
from ssl_lib.doctor.rules import RULES, Rule

__all__ = ["Doctor", "Finding", "examine"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run.

    Attributes:
        step: 0-based index of the update at whose line it was seen first.
        name: Such as `complete collapse`.
        seen: In which figures.
        cause: The likely one.
        cure: What to do.
    """

    step: int
    name: str
    seen: str
    cause: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name} at step {self.step}: {self.seen}. Likely: {self.cause}. Cure: {self.cure}"


class Doctor:
    """Sees a run line by line.

    Args:
        facts: What is known of the run.
        rules: In the order in which they are asked.
    """

    def __init__(self, facts: RunFacts, rules: Sequence[Rule] = RULES) -> None:
        self.history = History(facts)
        self.findings: list[Finding] = []
        self._rules = rules

    def see(self, line: Mapping[str, float]) -> list[Finding]:
        """Takes a line of `metrics.jsonl` in, and returns what is new."""
        self.history.add(line)
        before = len(self.findings)
        for rule in self._rules:
            known = {finding.name for finding in self.findings}
            if known.isdisjoint({rule.name, *rule.covered_by}) and (seen := rule.check(self.history)) is not None:
                self.findings.append(Finding(self.history.step, rule.name, seen, rule.cause, rule.cure))
        return self.findings[before:]


def examine(lines: Iterable[Mapping[str, float]], facts: RunFacts) -> list[Finding]:
    """All findings of a run, from its lines."""
    doctor = Doctor(facts)
    for line in lines:
        doctor.see(line)
    return doctor.findings
