from __future__ import annotations

import sys
from pathlib import Path

import pytest

import serving
from serving.cluster.run.console_scripts import console_script
from serving.errors import ClusterError


def script(folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / "serving-haproxy"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter without our commands beside it, and a package in a folder of its own."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python" / "bin" / "python"))
    monkeypatch.setattr(serving, "__file__", str(tmp_path / "lib" / "python3.11" / "packages" / "serving" / "x.py"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sysconfig.get_scheme_names", lambda: ())


def test_beside_the_interpreter() -> None:
    assert console_script("serving-haproxy") == Path(sys.executable).parent / "serving-haproxy"


@pytest.mark.parametrize("folder", ["lib/python3.11/packages/bin", "bin"], ids=["target", "prefix"])
def test_in_an_installation_apart_from_the_interpreter(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path, monkeypatch)
    wanted = script(tmp_path / folder)
    assert console_script("serving-haproxy") == wanted


def test_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(tmp_path, monkeypatch)
    wanted = script(tmp_path / "mine")
    monkeypatch.setenv("PATH", f"relative:{tmp_path / 'mine'}")
    assert console_script("serving-haproxy") == wanted


def test_one_that_is_nowhere_is_an_error_that_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path, monkeypatch)
    with pytest.raises(ClusterError, match=f"serving-haproxy .*{tmp_path}/python/bin.*PATH"):
        console_script("serving-haproxy")
