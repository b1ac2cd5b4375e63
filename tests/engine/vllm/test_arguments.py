from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.engine.vllm.arguments import engine_argument_problems, engine_argument_types
from serving.settings.models import OWNED_ENGINE_ARGS
from serving.settings.tree import Settings


def problems(types: dict[str, str], **arguments: Any) -> dict[str, str]:
    settings = Settings.model_validate({"models": {"demo": {"source": "demo", "engine_args": arguments}}})
    return {path[-1]: message for path, message in engine_argument_problems(settings, types)}


def test_the_installed_vllm_is_read_without_importing_it() -> None:
    types = engine_argument_types()
    assert types is not None
    # In a process of its own: other tests import vLLM.
    script = (
        "import sys, serving.engine.vllm.arguments as a; assert a.engine_argument_types(); print('vllm' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )
    assert types["enforce_eager"] == "bool"
    assert types["enable_log_requests"] == "bool", "a field that only AsyncEngineArgs has"
    assert types.keys() >= OWNED_ENGINE_ARGS.keys(), "what we refuse by name must be names"


def test_without_vllm_there_are_no_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert engine_argument_types() is None


def test_another_layout_of_vllm_is_not_taken_for_no_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "vllm" / "engine" / "arg_utils.py"
    source.parent.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    assert engine_argument_types() is None
    source.write_text("class Moved:\n    seed: int = 0\n", encoding="utf-8")
    assert engine_argument_types() is None
    source.write_text("class EngineArgs:\n    seed: int = 0\n    def f(self): ...\n", encoding="utf-8")
    assert engine_argument_types() == {"seed": "int"}


def test_unknown_names_are_refused_with_the_likely_one() -> None:
    types = {"enforce_eager": "bool", "model": "str"}
    assert "did you mean `enforce_eager`?" in problems(types, **{"enforce-eager": True})["enforce-eager"]
    assert "AsyncEngineArgs" in problems(types, zzz=1)["zzz"]
    assert "`model`" not in problems(types, mode=1)["mode"], "an argument that is refused is no suggestion"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("bool", 1),
        ("bool", "true"),
        ("int", True),
        ("int", 1.5),
        ("float | None", "0.9"),
        ("str", 5),
        ("int | str", []),
    ],
)
def test_plain_values_of_a_wrong_type_are_refused(annotation: str, value: Any) -> None:
    assert problems({"it": annotation}, it=value) == {
        "it": f"should be {annotation.replace(' | ', ' or ')}; got {value!r}"
    }


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("bool", True),
        ("int", 3),
        ("float", 1),
        ("int | None", None),
        ("int", None),
        ("Literal['a']", 5),
        ("X | int", "a"),
    ],
)
def test_what_fits_or_cannot_be_judged_is_left_to_vllm(annotation: str, value: Any) -> None:
    assert problems({"it": annotation}, it=value) == {}
