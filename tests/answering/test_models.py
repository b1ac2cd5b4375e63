from __future__ import annotations

import pytest

from serving.answering.models import ModelRegistry
from serving.engine.base import Engine
from serving.engine.scripted import Script, ScriptedEngine
from serving.errors import ModelNotFoundError, SettingsError
from serving.settings.models import ModelSettings


def engine() -> Engine:
    return ScriptedEngine(Script(()))


def test_each_name_leads_to_its_own_engine() -> None:
    engines = {"a": engine(), "b": engine()}
    registry = ModelRegistry({"a": ModelSettings(aliases=("x",)), "b": ModelSettings(aliases=("y",))}, engines, 0)
    assert registry.resolve("a").engine is registry.resolve("x").engine is engines["a"]
    assert registry.resolve("b").engine is registry.resolve("y").engine is engines["b"]
    assert [model.name for model in registry.models()] == ["a", "b"]


def test_names_are_exact() -> None:
    registry = ModelRegistry({"demo": ModelSettings()}, {"demo": engine()}, 0)
    for name in ("Demo", "demo ", "", "dem"):
        with pytest.raises(ModelNotFoundError):
            registry.resolve(name)


def test_a_long_unknown_name_is_not_echoed_in_full() -> None:
    registry = ModelRegistry({"demo": ModelSettings()}, {"demo": engine()}, 0)
    with pytest.raises(ModelNotFoundError) as caught:
        registry.resolve("x" * 100_000)
    assert len(caught.value.message) < 300


def test_a_model_without_an_engine_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError, match="no engine"):
        ModelRegistry({"demo": ModelSettings()}, {}, 0)


@pytest.mark.parametrize("alias", ["a", "b"])
def test_a_name_used_twice_is_a_mistake_in_the_settings(alias: str) -> None:
    with pytest.raises(SettingsError, match="already names a model"):
        ModelRegistry({"a": ModelSettings(), "b": ModelSettings(aliases=(alias,))}, {"a": engine(), "b": engine()}, 0)
