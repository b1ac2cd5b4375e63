from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import example, given
from hypothesis import strategies as st

from serving_bench.chart import Chart, Line
from serving_bench.units import seconds, significant

VALUES = st.floats(0, 1e6, allow_nan=False) | st.none()


@given(
    points=st.lists(st.tuples(st.floats(0.1, 1e5), VALUES), min_size=1, max_size=20),
    log_x=st.booleans(),
    log_y=st.booleans(),
)
@example(points=[(1.0, 5e-324)], log_x=False, log_y=False)
def test_every_point_lies_inside_the_picture(
    points: list[tuple[float, float | None]], log_x: bool, log_y: bool
) -> None:
    line = Line("a < b", [x for x, _ in points], [y for _, y in points])
    svg = Chart("T & t", "x", [line], significant, log_x=log_x, log_y=log_y).svg()
    if all(y is None for _, y in points):
        assert svg == ""
        return
    figure = ElementTree.fromstring(svg)
    (path,) = figure.iter("path")
    places = [tuple(map(float, place.split())) for place in re.findall(r"[ML]([^ML]+)", path.get("d") or "")]
    assert len(places) == sum(y is not None for _, y in points)
    assert all(0 <= x <= 560 and 0 <= y <= 260 for x, y in places)


def test_a_gap_is_not_drawn_over() -> None:
    svg = Chart("t", "x", [Line("a", [1, 2, 3, 4], [1, 2, None, 3])], significant).svg()
    (path,) = ElementTree.fromstring(svg).iter("path")
    assert re.sub(r"[^ML]", "", path.get("d") or "") == "MLM"


def test_numbers_read_well() -> None:
    shown = [significant(value) for value in (None, 0, 0.01234, 1.234, 12.34, 123.4, 12345.6)]
    assert shown == ["-", "0", "0.012", "1.23", "12.3", "123", "12,346"]
    assert [seconds(value) for value in (None, 0.0123, 1.5)] == ["-", "12.3 ms", "1.50 s"]
