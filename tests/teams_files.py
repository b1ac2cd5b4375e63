"""Fixtures: teams files written as a platform team writes them, and their keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.settings.keys import Key, new_key, new_salt

NewKey = Callable[..., tuple[Key, dict[str, Any]]]
WriteTeams = Callable[..., Path]


def _stored_key(**fields: Any) -> tuple[Key, dict[str, Any]]:
    key = new_key()
    return key, {"id": key.id, "hash": str(key.hashed(new_salt())), **fields}


@pytest.fixture
def stored_key() -> NewKey:
    """A key and its line in the file."""
    return _stored_key


@pytest.fixture
def write_teams(tmp_path: Path) -> WriteTeams:
    """Put a teams file in place at once, as editors and Kubernetes do."""

    def write(teams: Any, **others: Any) -> Path:
        path, draft = tmp_path / "teams.yaml", tmp_path / "draft.yaml"
        draft.write_text(yaml.safe_dump({"teams": teams, **others}))
        return draft.replace(path)

    return write
