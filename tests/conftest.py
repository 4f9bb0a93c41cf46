"""Settings of all tests: caches stay inside the project, and properties are found again."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase

CACHE = Path(__file__).resolve().parents[1] / "build" / "cache"

# Before anything imports numba: compiled loops are shared by all test processes and runs.
os.environ.setdefault("NUMBA_CACHE_DIR", str(CACHE / "numba"))

set_hypothesis_home_dir(CACHE / "hypothesis")

# No deadline: the first example of a property may pay for a compilation. One seed for all runs,
# so that a red build is red again tomorrow; HYPOTHESIS_PROFILE=explore looks for new examples, and
# `long` for thirty times as many.
_database = DirectoryBasedExampleDatabase(CACHE / "hypothesis")
settings.register_profile("repeat", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, database=_database, print_blob=True)
settings.register_profile("long", settings.get_profile("explore"), max_examples=3_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))
