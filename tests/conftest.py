"""How made-up cases are made up.

Property tests try the same cases in each run, so that what fails has been broken by a change. To look for new ones:

    HYPOTHESIS_PROFILE=search .venv/bin/pytest tests/harmony
"""

from __future__ import annotations

import os

from hypothesis import settings

# An example's time is no test's business: the machine may be busy.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

pytest_plugins = ["tests.programs", "tests.redis_server", "tests.http_server", "tests.teams_files"]
