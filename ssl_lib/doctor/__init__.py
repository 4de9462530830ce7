"""Diagnoses training problems such as collapse from logged metrics: metrics, rules and findings."""

from ssl_lib.doctor.doctor import Doctor, Finding, examine
from ssl_lib.doctor.figures import FIGURES, Figure
from ssl_lib.doctor.history import History, RunFacts
from ssl_lib.doctor.next_steps import RunStatus, Step, format_steps, next_steps
from ssl_lib.doctor.report import diagnose, format_diagnosis, format_outside, write_diagnosis
from ssl_lib.doctor.rules import RULES, Rule

__all__ = [
    "FIGURES",
    "RULES",
    "Doctor",
    "Figure",
    "Finding",
    "History",
    "Rule",
    "RunFacts",
    "RunStatus",
    "Step",
    "diagnose",
    "examine",
    "format_diagnosis",
    "format_outside",
    "format_steps",
    "next_steps",
    "write_diagnosis",
]
