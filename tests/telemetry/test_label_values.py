from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.telemetry.label_values import FirstValues, KnownValues


def test_unknown_values_fold_into_one_and_absent_ones_into_another() -> None:
    models = KnownValues(["demo"])
    assert [models.fold(value) for value in ("demo", "gpt-17", "other", None)] == ["demo", "other", "other", "none"]


@given(st.lists(st.text()))
def test_a_set_that_grows_stays_bounded_and_keeps_whom_it_knows(values: list[str]) -> None:
    teams = FirstValues(3)
    folded = [teams.fold(value) for value in values]
    first = list(dict.fromkeys(values))[:3]
    assert folded == [value if value in first else "other" for value in values]
