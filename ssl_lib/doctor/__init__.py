"""Diagnoses training problems such as collapse from logged metrics: metrics, rules and findings."""

from ssl_lib.doctor.doctor import Doctor, Finding, examine
from ssl_lib.doctor.figures import FIGURES, Figure
from ssl_lib.doctor.history import History, RunFacts
from ssl_lib.doctor.report import diagnose, format_diagnosis, write_diagnosis
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
    "diagnose",
    "examine",
    "format_diagnosis",
    "write_diagnosis",
]
