"""Plain values for the tests of YAML: the core schema's table, texts that are no other values, and tricky texts."""

from __future__ import annotations

import math
from typing import Any

CORE_SCHEMA = {
    **dict.fromkeys(["null", "Null", "NULL", "~", ""], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **{"0": 0, "-19": -19, "+12": 12, "012": 12, "-0": 0, "685230": 685230},
    **{"0o7": 7, "0o17": 15, "0x3A": 58, "0xff": 255, "0xFFFF": 65535},
    **{"0.": 0.0, "-0.0": -0.0, ".5": 0.5, "+12e03": 12000.0, "-2E+05": -200000.0, "1e-4": 1e-4, "1e5": 1e5},
    **{"6.8523015e+5": 685230.15, "1.5E3": 1500.0, "-.5e-1": -0.05, "12.e2": 1200.0},
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}
"""Plain scalars with their values by the table of section 10.3.2 of yaml.org/spec/1.2.2, without NaN."""

TEXTS = [
    *("yes", "Yes", "NO", "no", "on", "off", "y", "n", "nULL", "tRUE", "none", "None", "nil", "nan", "inf", "-inf"),
    *("0o8", "0O7", "-0o7", "0xg", "+0x1", "0b1", "1_000", "1,000", "190:20:30", "1:30", "2024-01-01", "2024-99-99"),
    *("1e", "e1", "1e5.", ".", "+", "..5", "1.2.3", "+.nan", "-.nan", ".nAn", ".iNF", "\u0661", "\uff11", "<<", "="),
]
"""Plain scalars that no row of the table matches, many of them values of YAML 1.1."""

SYNTAX = """
a: b
a:
: a
a #b
#a
- a
-
--
? a
?
[
]
[a]
{
}
{a: b}
,
a, b
&a
*a
!a
!!int 1
|
>
%a
@a
`a`
'
''
'a'
"
"a"
\\
\\n
a'b"c
---
--- a
...
... a
train-{000..146}.tar
s3://b/{0..9}.tar
C:\\data
~/data
60:00
2001-12-14t21:59:43.10-05:00
""".strip().splitlines()
"""Texts that mean something else without quotes, one per line."""

SPACES = [
    *(" ", " a", "a ", "\t", "a\tb", "\n", "a\n", "\na", "a\n\nb\n\n", " a\n  b", "a \nb", "\r", "a\r\nb", "a\n\n\n"),
    *("a\n---\nb", "|-\n a", "\xa0", "a\xa0", "\x85", "\x85b", "a\x85", "a\u2028b", "\u2029", "a\u2029\n"),
    *("word " * 100, "two  spaces " * 50, "a\n" * 100, "\xfc " * 200, "\\ " * 150, "x" * 500, "'" * 200),
]
"""Texts with spaces and line breaks, some of them longer than a line."""

CHARACTERS = [
    "\xfc",
    "\u65e5\u672c",
    "\U0001f600",
    "\U0010ffff",
    "\ufeff",
    "a\ufeffb",
    "\x00",
    "\x07",
    "\x7f",
    "\ud800",
]
"""Characters beyond ASCII, and characters that YAML does not allow without an escape."""

NUMBERS = [
    *(0, -1, 10**300, 1e-4, 1e16, 1e20, 1e-300, 5e-324, 1.7976931348623157e308, 0.1, -0.0, 1e5, 123456789.0),
    *(math.inf, -math.inf, math.nan, True, False, None),
]


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are equal and have equal types, at every depth; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return repr(a) == repr(b)
