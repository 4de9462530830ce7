"""Which methods a test runs on: one per family in the fast suite, all others under `-m slow`."""

from __future__ import annotations

import pytest

from ssl_lib import METHODS

FAST = ["byol", "deepcluster_v2", "dino", "jigsaw", "moco_v2", "swav"]
"""One method per family, and one per shared part: teacher, clusters, center, random numbers, queue, prototypes."""

BY_FAMILY = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in METHODS]
