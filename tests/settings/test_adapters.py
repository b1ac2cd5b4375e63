"""Mistakes in what settings say of adapters are told by field."""

from __future__ import annotations

from typing import Any

import pytest

from serving.errors import SettingsError
from serving.settings.loading.load import load_settings
from serving.settings.models import ModelSettings
from serving.settings.tree import Settings

PIRATE = {"pirate": {"source": "/adapters/pirate"}}


@pytest.mark.parametrize(
    ("settings", "field", "says"),
    [
        (
            {"models": {"a": {"source": "/a", "aliases": ["pirate"]}, "b": {"source": "/b", "adapters": PIRATE}}},
            "models.b.adapters.pirate",
            "already means the model a",
        ),
        (
            {"models": {"a": {"source": "/a", "adapters": PIRATE}, "b": {"source": "/b", "adapters": PIRATE}}},
            "models.b.adapters.pirate",
            "already means the model a",
        ),
        (
            {"models": {"a": {"source": "/a", "adapters": PIRATE}}, "variants": {"pirate": {"model": "a"}}},
            "variants.pirate",
            "already means the model a",
        ),
        ({"models": {"demo": {"adapters": {"two words": {"source": "/x"}}}}}, "models.demo.adapters.two words", "1 to"),
        ({"models": {"demo": {"adapters": {"pirate": {}}}}}, "models.demo.adapters.pirate.source", "required"),
        ({"models": {"demo": {"lora": {"max_lora_rank": 9}}}}, "models.demo.lora.max_lora_rank", "8"),
        ({"models": {"demo": {"lora": {"max_loras": 9, "max_cpu_loras": 8}}}}, "models.demo.lora.max_cpu_loras", "9"),
        ({"models": {"demo": {"lora": {"directories": ["adapters"]}}}}, "models.demo.lora.directories", "absolute"),
        (
            {"models": {"demo": {"engine_args": {"max_loras": 4}}}},
            "models.demo.engine_args.max_loras",
            "lora.max_loras",
        ),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(config=None, overrides=settings, environ={})
    assert [(at, says in problem) for at, problem in caught.value.problems] == [(field, True)], caught.value


def test_a_variant_may_be_over_an_adapter() -> None:
    models = {"demo": ModelSettings.model_validate({"adapters": PIRATE})}
    Settings.model_validate({"models": models, "variants": {"captain": {"model": "pirate"}}})


def test_there_is_room_where_there_are_adapters_or_it_is_asked_for() -> None:
    assert ModelSettings().lora_settings is None
    assert ModelSettings.model_validate({"adapters": PIRATE}).lora_settings is not None
    assert ModelSettings.model_validate({"lora": {}}).lora_settings is not None
