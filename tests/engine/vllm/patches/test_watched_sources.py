"""vLLM's source where it is patched: each patch says what it was written for, and a change there needs a look."""

from __future__ import annotations

import ast
import hashlib
import importlib
import pkgutil
from types import ModuleType

import pytest

from serving.engine.vllm import patches
from serving.engine.vllm.patches import start_progress
from serving.engine.vllm.source import WatchedSource, source_of

MODULES = [
    importlib.import_module(f"{patches.__name__}.{module.name}") for module in pkgutil.iter_modules(patches.__path__)
]


def definition(tree: ast.AST, name: str) -> ast.AST | None:
    """The class or function of that dotted name, or the import that gives a module the name."""
    first, _, rest = name.partition(".")
    for node in getattr(tree, "body", ()):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == first:
            return definition(node, rest) if rest else node
        if isinstance(node, ast.ImportFrom) and first in {alias.asname or alias.name for alias in node.names}:
            return ast.ImportFrom(node.module, [alias for alias in node.names if alias.name == first], node.level)
    return None


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_each_patch_says_what_it_patches(module: ModuleType) -> None:
    assert getattr(module, "WATCHED", ()) or getattr(module, "LOGGED", {}), (
        "name the definitions of vLLM that the patch relies on in WATCHED, or the messages in LOGGED"
    )


@pytest.mark.parametrize(
    ("module", "watched"),
    [(module, source) for module in MODULES for source in getattr(module, "WATCHED", ())],
    ids=lambda each: each.name if isinstance(each, WatchedSource) else each.__name__.rpartition(".")[2],
)
def test_vllm_is_as_it_was_when_it_was_patched(module: ModuleType, watched: WatchedSource) -> None:
    again = f"vllm/{watched.file} is not what it was in vLLM {watched.version}: look at {module.__file__} again"
    source = source_of(watched.file)
    assert source is not None, f"{again}; the file is gone"
    found = definition(ast.parse(source), watched.name)
    assert found is not None, f"{again}; {watched.name} is gone"
    digest = hashlib.sha256(ast.unparse(found).encode()).hexdigest()
    assert digest == watched.sha256, f"{again}, then write down the sha256 of {watched.name}, {digest}"


@pytest.mark.parametrize(("file", "texts"), start_progress.LOGGED.items())
def test_vllm_logs_its_steps_as_it_did(file: str, texts: tuple[str, ...]) -> None:
    source = source_of(file)
    again = f"vllm/{file} is not what it was: look at {start_progress.__file__} again"
    assert source is not None, f"{again}; the file is gone"
    literals = {
        node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and type(node.value) is str
    }
    for text in texts:
        assert any(text in literal for literal in literals), f"{again}; nothing in it says {text!r}"
