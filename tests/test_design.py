"""docs/design.md draws the floors that import-linter holds; docs/contributing.md names the files of usual changes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PICTURE = "## The floors"
MOST_FILES = 8
"""Files that a usual change touches at most, tests and docs aside."""


def floors() -> list[set[str]]:
    """The names on each floor of the picture, the highest floor first."""
    picture = (DOCS / "design.md").read_text(encoding="utf-8").split(PICTURE)[1].split("```")[1]
    cells = [line.split("│")[1] for line in picture.splitlines() if line.startswith("│")]
    return [set(re.findall(r"\w+", cell)) for cell in cells if cell.strip()]


def layers() -> list[set[str]]:
    """The layers of import-linter's contract, the highest one first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    return [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def named_paths(page: str) -> set[str]:
    """What stands in backticks on a page and is written as a path of this repository; `*` stands for some name."""
    roots = {entry.name for entry in ROOT.iterdir()}
    spans = re.findall(r"`([\w.*-]+(?:/[\w.*-]*)*)`", (DOCS / page).read_text(encoding="utf-8"))
    return {span for span in spans if ("/" in span or span in roots) and span.split("/")[0] in roots}


def test_the_picture_has_the_floors_that_import_linter_holds() -> None:
    assert floors() == layers()


def test_each_package_of_serving_is_in_the_picture() -> None:
    entries = [entry for entry in (ROOT / "serving").iterdir() if entry.suffix == ".py" or entry.is_dir()]
    packages = {entry.stem for entry in entries if not entry.name.startswith("__")}
    assert packages - set().union(*floors()) == set()


@pytest.mark.parametrize("page", ["design.md", "contributing.md", "glossary.md"])
def test_each_path_that_is_named_exists(page: str) -> None:
    paths = named_paths(page)
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not list(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", ["design.md", "contributing.md", "glossary.md"])
def test_each_page_that_is_linked_exists(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (DOCS / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (DOCS / link).exists()] == []


@pytest.mark.parametrize("page", ["contributing.md"])
def test_each_make_target_that_is_named_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([a-z-]+)", (DOCS / page).read_text(encoding="utf-8")))
    assert [target for target in sorted(targets) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def changes() -> dict[str, tuple[str, str]]:
    """The usual changes of contributing.md: by heading, the pattern of the example and the section."""
    sections = (DOCS / "contributing.md").read_text(encoding="utf-8").split("\n### ")[1:]
    found = {}
    for section in sections:
        example = re.search(r"Example: `git grep -l(w|E) (\S+|\"[^`]+\") serving`", section)
        assert example, section.splitlines()[0]
        words = example[2].strip('"')
        found[section.splitlines()[0]] = (rf"\b{words}\b" if example[1] == "w" else words, section)
    return found


@pytest.mark.parametrize("change", changes())
def test_a_change_names_the_files_of_its_example_and_they_are_few(change: str) -> None:
    pattern, section = changes()[change]
    named = {path for path in re.findall(r"`([\w/.-]+)`", section) if (ROOT / path).is_file()}
    files = {path for path in named if path.endswith(".py") and not path.startswith(("tests/", "docs/"))}
    example = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "serving").rglob("*.py")
        if file.name != "__init__.py" and re.search(pattern, file.read_text(encoding="utf-8"))
    }
    assert example
    assert example - files == set()
    assert len(files) <= MOST_FILES
