"""Says what is wrong with a run, by the figures it logs: measures, rules, findings."""

from ssl_lib.doctor.examination import Doctor, Finding, examine
from ssl_lib.doctor.facts import Facts
from ssl_lib.doctor.figures import FIGURES, Figure
from ssl_lib.doctor.files import diagnose, write_diagnosis
from ssl_lib.doctor.history import History
from ssl_lib.doctor.report import format_diagnosis
from ssl_lib.doctor.rules import RULES, Rule

__all__ = [
    "FIGURES",
    "RULES",
    "Doctor",
    "Facts",
    "Figure",
    "Finding",
    "History",
    "Rule",
    "diagnose",
    "examine",
    "format_diagnosis",
    "write_diagnosis",
]
