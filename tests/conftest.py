"""How made-up cases are made up.

Property tests try the same cases in each run, so that what fails has been broken by a change. To look for new ones:

    HYPOTHESIS_PROFILE=search .venv/bin/pytest tests/harmony
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# An example's time is no test's business: the machine may be busy.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark property tests as such."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.property)


pytest_plugins = [
    "tests.programs",
    "tests.redis_server",
    "tests.http_server",
    "tests.teams_files",
    "tests.oidc_provider",
]
