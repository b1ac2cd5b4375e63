from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import SettingsError
from serving.settings.loading.revision import wait_for_revision


def test_a_file_that_comes_late_is_awaited(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    states = iter([None, "# revision old\nport: 1\n", "port: 1\n", "# revision new\nport: 2\n"])
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        text = next(states)
        if text is not None:
            file.write_text(text)

    wait_for_revision(file, "new", clock=lambda: 0.0, sleep=sleep)
    assert len(slept) == 4


@pytest.mark.parametrize("text", [None, "port: 1\n", "# revision old\n"])
def test_one_that_never_comes_is_an_error_with_both_revisions(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "settings.yaml"
    if text is not None:
        file.write_text(text)
    clock = iter(range(100))
    with pytest.raises(SettingsError) as error:
        wait_for_revision(file, "new", seconds=3, clock=lambda: float(next(clock)), sleep=lambda seconds: None)
    ((field, message),) = error.value.problems
    assert field == str(file)
    assert "should have revision new" in message
    assert ("old" in message) == (text is not None and "old" in text)
