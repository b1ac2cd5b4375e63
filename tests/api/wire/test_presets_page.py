"""docs/presets.md: its settings are right, and name everything that can be set."""

from __future__ import annotations

import re
from pathlib import Path

from serving.settings.loading.load import load_settings
from serving.settings.presets import PresetAnswer, PresetSettings, PresetTool

PAGE = (Path(__file__).parents[3] / "docs" / "presets.md").read_text()


def test_the_settings_are_right_and_complete(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "serving.yaml"
    file.write_text(text)
    variants = load_settings(config=file, overrides={}, environ={}).variants
    triage = variants["gpt-oss-triage"]
    assert triage.model_fields_set == set(PresetSettings.model_fields)
    assert triage.tools[0].model_fields_set == set(PresetTool.model_fields)
    assert triage.answer is not None
    assert triage.answer.model_fields_set == set(PresetAnswer.model_fields)
