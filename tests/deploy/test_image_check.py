"""How scripts/image_check.py reads the Dockerfile and hands package sources over; `make image-check` does the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_check import CheckError, Step, expand, flags, let_in, parse, size_of, sources_of

RECIPE = """\
# A comment
ARG BASE=python:3

FROM ${BASE} AS tools
RUN one \\
    # said in the middle
    && two "a  b"
COPY --from=other /a /b

FROM tools
USER 1000:1000
"""


class TestParse:
    def test_stages_are_found_with_their_steps_and_bases(self) -> None:
        recipe = parse(RECIPE)
        assert recipe.arguments == {"BASE": "python:3"}
        assert {name: stage.base for name, stage in recipe.stages.items()} == {"tools": "${BASE}", "1": "tools"}
        assert recipe.stages["1"].steps == [Step("USER", "1000:1000")]

    def test_lines_that_go_on_are_one_step_less_the_comments_between(self) -> None:
        first, second = parse(RECIPE).stages["tools"].steps
        assert first == Step("RUN", 'one     && two "a  b"')
        assert second == Step("COPY", "--from=other /a /b")

    @pytest.mark.parametrize(
        "text", ["FROM a\nADD x y\n", "FROM a\nRUN <<EOF\nEOF\n", "RUN early\n", "FROM a\nRUN cut \\\n"]
    )
    def test_what_the_check_cannot_do_is_refused(self, text: str) -> None:
        with pytest.raises(CheckError):
            parse(text)


def test_values_take_the_place_of_their_names() -> None:
    assert expand("/x:$PATH ${A}b $none.", {"PATH": "/bin", "A": "a"}) == "/x:/bin ab ."


def test_flags_are_told_from_the_command() -> None:
    assert flags("--mount=type=bind,from=w  --network=none run --really") == (
        [("mount", "type=bind,from=w"), ("network", "none")],
        "run --really",
    )


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("LICENSE", True),
        ("requirements/cpu.txt", True),
        ("requirements/deep/cpu.txt", False),
        ("serving/api/app.py", True),
        ("serving/api/__pycache__/app.pyc", False),
        (".git/config", False),
    ],
)
def test_dockerignore_says_what_reaches_the_builder(path: str, passes: bool) -> None:
    rules = ["*", "!LICENSE", "!requirements/*.txt", "!serving/**", "**/__pycache__", "**/*.pyc"]
    assert let_in(path, rules) is passes


class TestSources:
    def test_pip_and_uv_get_the_same_indexes_and_see_their_files(self, tmp_path: Path) -> None:
        index = tmp_path / "index" / "simple"
        index.mkdir(parents=True)
        certificates = tmp_path / "ca.pem"
        certificates.touch()
        settings = {"extra-index-url": index.as_uri(), "cert": str(certificates)}
        sources = sources_of(settings, {"HTTPS_PROXY": "http://proxy", "SECRET": "x"}, tmp_path / "mirror")
        environment = dict(sources.environment)
        assert environment.pop("HTTPS_PROXY") == "http://proxy"
        assert environment["PIP_EXTRA_INDEX_URL"] == environment["UV_EXTRA_INDEX_URL"] == index.as_uri()
        inside = environment["SSL_CERT_FILE"]
        assert sources.binds == {inside: certificates, str(index.parent): index.parent}
        assert "SECRET" not in environment

    def test_a_folder_of_wheels_is_an_index_for_the_cpu_build_alone(self, tmp_path: Path) -> None:
        wheels = tmp_path / "wheels"
        wheels.mkdir()
        (wheels / "Some_Torch-1.0+cpu-py3-none-any.whl").touch()
        sources = sources_of({"find-links": str(wheels)}, {}, tmp_path / "mirror")
        assert sources.arguments == {"TORCH_CPU_INDEX": (tmp_path / "mirror").as_uri()}
        assert not any(str(wheels) in value for value in sources.environment.values())
        page = (tmp_path / "mirror" / "some-torch" / "index.html").read_text()
        assert (wheels / "Some_Torch-1.0+cpu-py3-none-any.whl").as_uri() in page

    def test_an_index_that_is_named_is_used(self, tmp_path: Path) -> None:
        sources = sources_of(
            {"find-links": str(tmp_path)}, {"TORCH_CPU_INDEX": "https://mirror/cpu"}, tmp_path / "mirror"
        )
        assert sources.arguments == {"TORCH_CPU_INDEX": "https://mirror/cpu"}


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").write_bytes(b"x" * 10)
    assert size_of(tmp_path) == 110
