"""Which names clients may use, and the engine behind each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from serving.answering.backend import no_tokens
from serving.backends.registry import Backends, ResolvedBackend
from serving.engine.adapters.engine import AdaptedEngine
from serving.engine.adapters.registry import Adapters, KnownAdapter
from serving.engine.base import Adapter, Engine
from serving.errors import ModelNotFoundError, SettingsError
from serving.settings.backends import LOCAL_PROVIDER
from serving.settings.models import ModelSettings
from serving.settings.presets import PresetSettings

OWNER = "gpt-oss-serving"

_MOST_TOLD = 30

_ELSEWHERE = ModelSettings()
"""What holds for models of other servers: our defaults, since the settings say nothing of them."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that requests may use.

    `created` is in seconds since the epoch. `root` is the model that an alias or a preset stands for, `parent` the
    model below an adapter; None where the name is the model's own.
    """

    name: str
    created: int
    owner: str
    root: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model with its settings, and either its own engine or the backends that have it.

    `own` applies `adapter`, where there is one, to each request.
    """

    name: str
    settings: ModelSettings
    own: Engine | None = None
    found: ResolvedBackend | None = None
    adapter: Adapter | None = None

    @property
    def engine(self) -> Engine:
        """The engine that makes the model's tokens; raises UnsupportedParameterError for a model of other servers."""
        if self.own is None:
            raise no_tokens()
        return self.own

    @property
    def called(self) -> str:
        """The adapter's name, or the model's where it has none."""
        return self.name if self.adapter is None else self.adapter.name

    @property
    def identity(self) -> str:
        """Another for each model and each adapter that ever had a name: answers of one are none of another's."""
        adapter = self.adapter
        return self.name if adapter is None else f"{self.name} {adapter.name} {adapter.version}"


class ModelRegistry:
    """Models by name, alias, adapter and preset. `created` is what clients are told, in seconds since the epoch.

    Raises SettingsError when a model has no engine, or two models share a name or an alias.
    """

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        engines: Mapping[str, Engine],
        created: int,
        backends: Backends | None = None,
        presets: Mapping[str, PresetSettings] | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        problems: list[tuple[str, str]] = []
        self._created = created
        self._backends = backends
        self._adapters = adapters
        self._by_name: dict[str, ServedModel] = {}
        for name, settings in models.items():
            if name not in engines:
                problems.append((f"models.{name}", "no engine was given for this model"))
                continue
            served = ServedModel(name, settings, engines[name])
            for called in (name, *settings.aliases):
                if called in self._by_name:
                    problems.append((f"models.{name}.aliases", f"{called!r} already names a model; use another name"))
                self._by_name[called] = served
        if problems:
            raise SettingsError(problems)
        for name, each in (presets or {}).items():
            varied = self._by_name.get(each.model) or self._adapted(each.model)
            assert varied is not None, "settings refuse presets of unknown models"
            self._by_name[name] = _with_preset(varied, each)

    def resolve(self, name: str) -> ServedModel:
        """The model called `name`, or `PROVIDER:MODEL`; ours before others'. Raises ModelNotFoundError."""
        for own in (name, name.removeprefix(f"{LOCAL_PROVIDER}:")):
            if (served := self._by_name.get(own) or self._adapted(own)) is not None:
                return served
        found = self._backends.find(name) if self._backends is not None else None
        if found is None:
            shown = name if len(name) <= 64 else name[:64] + "..."
            raise ModelNotFoundError(
                f"The model '{shown}' does not exist. This server has: {self._told()}.", param="model"
            )
        return ServedModel(found.name, _ELSEWHERE, found=found)

    def models(self) -> list[ServedModel]:
        """Every model of our own once."""
        return [served for name, served in self._by_name.items() if name == served.name]

    def knows(self, name: str) -> bool:
        """Whether resolve() finds a model called `name`."""
        try:
            self.resolve(name)
        except ModelNotFoundError:
            return False
        return True

    def listed(self, name: str) -> ListedModel:
        """The entry of `name` in the list of models; raises ModelNotFoundError."""
        served = self.resolve(name)
        return ListedModel(
            name,
            self._created,
            OWNER if served.found is None else served.found.group,
            root=served.called if name != served.called else None,
            parent=served.name if served.adapter is not None else None,
        )

    def names(self) -> list[str]:
        """Every name that requests may use, aliases after their model."""
        adapters = () if self._adapters is None else self._adapters.all()
        others = () if self._backends is None else self._backends.names()
        return list(dict.fromkeys((*self._by_name, *adapters, *others)))

    def _told(self) -> str:
        names = self.names()
        return ", ".join(names[:_MOST_TOLD]) + (", ..." if len(names) > _MOST_TOLD else "")

    def _adapted(self, name: str) -> ServedModel | None:
        known = self._adapters.find(name) if self._adapters is not None else None
        return None if known is None else _with_adapter(self._by_name[known.model], known)


def _with_adapter(served: ServedModel, known: KnownAdapter) -> ServedModel:
    """`served` with the adapter at work, and without fallbacks: they do not know what it has learnt."""
    return ServedModel(
        served.name,
        served.settings.model_copy(update={"fallback": ()}),
        AdaptedEngine(served.engine, known.adapter),
        adapter=known.adapter,
    )


def _with_preset(served: ServedModel, preset: PresetSettings) -> ServedModel:
    """`served` with the preset's effort and budget for requests that name none."""
    defaults = {"default_effort": preset.effort, "default_max_reasoning_tokens": preset.max_reasoning_tokens}
    changes = {name: value for name, value in defaults.items() if value is not None}
    if not changes:
        return served
    reasoning = served.settings.reasoning.model_copy(update=changes)
    return replace(served, settings=served.settings.model_copy(update={"reasoning": reasoning}))
