from __future__ import annotations

import subprocess
import sys

import pytest

from serving.app import create_app
from serving.errors import SettingsError
from serving.parts import Parts
from serving.settings.tree import Settings


def test_importing_the_application_imports_neither_ray_nor_vllm() -> None:
    code = "import sys, serving.app; print([m for m in ('ray', 'vllm', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


async def test_an_application_needs_an_engine_for_each_model() -> None:
    with pytest.raises(SettingsError, match="demo"):
        async with Parts.in_process(Settings(), {}) as parts:
            create_app(parts)
