from __future__ import annotations

from pathlib import Path

import pytest

from serving.cli import main
from serving.errors import SettingsError
from serving.settings.tree import Settings
from serving.tenancy.auth.exposure import check_exposure


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gpu-7.example"])
def test_other_addresses_than_loopback_need_teams_or_a_word(host: str) -> None:
    with pytest.raises(SettingsError, match=r"--open"):
        check_exposure(Settings(host=host))

    check_exposure(Settings(host=host, open=True))
    check_exposure(Settings(host=host, teams_file="/teams.yaml"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_nothing(host: str) -> None:
    check_exposure(Settings(host=host))


def test_serving_up_refuses_before_it_starts_anything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["up", "--host", "0.0.0.0"])

    assert stopped.value.code == 2
    assert "teams_file: is missing" in capsys.readouterr().err


def test_serving_up_names_a_mistake_in_the_teams_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "teams.yaml").write_text("teams: {a: {weight: heavy}}")
    (tmp_path / "serving.yaml").write_text("teams_file: teams.yaml\n")

    with pytest.raises(SystemExit) as stopped:
        main(["up", "--config", str(tmp_path / "serving.yaml")])

    assert stopped.value.code == 2
    assert "teams.a.weight" in capsys.readouterr().err
