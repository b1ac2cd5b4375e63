from __future__ import annotations

import pytest

from serving.engine.device import thread_binding


@pytest.mark.parametrize(
    ("ranks", "cores", "expected"),
    [
        (1, [0, 1], "0,1"),
        (2, [0, 1], "0|1"),
        (2, [0, 1, 2, 3, 4], "0,1,2|3,4"),
        (2, [5], "5|5"),
        (4, [0, 1], "0|1|0|1"),
    ],
)
def test_ranks_share_the_cores(ranks: int, cores: list[int], expected: str) -> None:
    assert thread_binding(ranks, cores) == expected
