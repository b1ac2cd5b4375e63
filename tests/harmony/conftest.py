from __future__ import annotations

import pytest
from hypothesis import settings

from serving.harmony.vocabulary import token_table

# An example's time is no test's business: the machine may be busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def vocabulary() -> None:
    token_table()
