from __future__ import annotations

import pytest

from serving.harmony.vocabulary import token_table


@pytest.fixture(scope="session", autouse=True)
def vocabulary() -> None:
    token_table()
