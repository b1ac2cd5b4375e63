"""Panels as pictures, from made-up answers of Prometheus."""

from __future__ import annotations

import math

import pytest

from grafana import generate
from grafana.pictures import Prometheus, Series, page, shown


class Answers(Prometheus):
    """Gives each query the same lines."""

    def __init__(self, *lines: Series) -> None:
        self._lines = list(lines)

    def range(self, expr: str, legend: str) -> list[Series]:
        return self._lines

    def now(self, expr: str) -> list[tuple[dict[str, str], float]]:
        return []


def of_type(kind: str) -> dict[str, object]:
    board = generate.built("throughput")
    return {**board, "panels": [next(panel for panel in board["panels"] if panel["type"] == kind)]}


def test_a_heatmap_has_a_cell_for_each_bucket_that_values_fell_into() -> None:
    # cumulative, as Prometheus keeps them: 2 values up to 0.1, 3 more up to 1, none beyond
    lines: list[Series] = [("1.0", [(0.0, 5.0)]), ("0.1", [(0.0, 2.0)]), ("0.01", [(0.0, 0.0)]), ("+Inf", [(0.0, 5.0)])]

    drawn = page(of_type("heatmap"), Answers(*lines))

    assert drawn.count("<rect") == 2
    assert "100 ms" in drawn
    assert ">1 s<" in drawn
    assert "more" not in drawn


def test_a_heatmap_without_values_says_so() -> None:
    assert "no data" in page(of_type("heatmap"), Answers(("0.1", [(0.0, math.nan)]), ("+Inf", [(0.0, 0.0)])))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(-9.99, "percentunit", "-999 %"), (0.12345, "percentunit", "12.3 %"), (1234.0, "count:tok/s", "1.23 k tok/s")],
)
def test_a_number_is_shown_in_its_unit_and_short(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text
