from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from serving.commands.config import to_yaml
from serving.demo.architecture import hf_config
from serving.errors import SettingsError
from serving.settings.keys import new_key, new_salt
from serving.settings.layer import Layer
from serving.settings.loading.environment import read_environment
from serving.settings.loading.load import load, load_settings
from serving.settings.loading.sources import read_sources
from serving.settings.models import _KNOWN_SHAPES, ModelSettings
from serving.settings.tree import Settings


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(
    text: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    models: Sequence[str] = (),
    tensor_parallel_size: int | None = None,
) -> Settings:
    """Settings from a file `serving.yaml` with `text` in the working directory, variables and flags."""
    config = None
    if text is not None:
        config = Path("serving.yaml")
        config.write_text(text, encoding="utf-8")
    return load_settings(
        config=config,
        overrides=overrides or {},
        environ=environ or {},
        models=models,
        tensor_parallel_size=tensor_parallel_size,
    )


def problems(*args: Any, **kwargs: Any) -> dict[str, str]:
    """The problems by field, of settings that must be refused."""
    with pytest.raises(SettingsError) as caught:
        loaded(*args, **kwargs)
    return dict(caught.value.problems)


pytestmark = pytest.mark.usefixtures("workdir")


class TestPrecedence:
    def test_without_any_source_the_defaults_serve_the_demo_on_loopback(self) -> None:
        settings = loaded()
        assert (settings.host, settings.port, list(settings.models)) == ("127.0.0.1", 8000, ["demo"])

    def test_flags_win_over_variables_over_the_file_over_defaults(self) -> None:
        file = "port: 1001\nhost: 10.0.0.1\ningress_replicas: 2\n"
        environ = {"SERVING_PORT": "1002", "SERVING_HOST": "10.0.0.2"}
        settings = loaded(file, environ=environ, overrides={"port": 1003})
        assert (settings.port, settings.host, settings.ingress_replicas) == (1003, "10.0.0.2", 2)
        assert settings.http.keep_alive_s == 15.0

    def test_nested_sources_are_merged_key_by_key(self) -> None:
        file = "models: {gpt: {source: openai/gpt-oss-20b, dtype: bfloat16, replicas: {min: 2, max: 4}}}"
        environ = {"SERVING_MODELS__GPT__REPLICAS__MAX": "6"}
        model = loaded(file, environ=environ, overrides={"models": {"gpt": {"dtype": "float16"}}}).models["gpt"]
        assert (model.replicas.min, model.replicas.max, model.dtype) == (2, 6, "float16")

    def test_models_of_the_file_take_the_place_of_the_default_one(self) -> None:
        assert list(loaded("models: {gpt: {source: openai/gpt-oss-20b}}").models) == ["gpt"]

    def test_serving_config_names_the_file_unless_a_file_is_given(self) -> None:
        Path("other.yaml").write_text("port: 2001\n", encoding="utf-8")
        assert loaded(environ={"SERVING_CONFIG": "other.yaml"}).port == 2001
        assert loaded("port: 2002\n", environ={"SERVING_CONFIG": "other.yaml"}).port == 2002

    def test_constructing_settings_reads_no_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVING_PORT", "9")
        assert Settings().port == 8000


class TestEnvironment:
    def test_a_model_in_a_variable_is_matched_whatever_its_case_and_punctuation(self) -> None:
        file = "models: {GPT-OSS.20b: {source: openai/gpt-oss-20b}}"
        settings = loaded(file, environ={"SERVING_MODELS__gpt_oss_20B__DTYPE": "bfloat16"})
        assert settings.models["GPT-OSS.20b"].dtype == "bfloat16"

    @pytest.mark.parametrize(
        "name", ["SERVING_MODELS__demo__TENSOR_PARALLEL_SIZE", "SERVING_MODELS__DEMO__tensor_parallel_size"]
    )
    def test_the_default_model_is_reached_in_any_case(self, name: str) -> None:
        assert loaded(environ={name: "2"}).models["demo"].tensor_parallel_size == 2

    def test_json_makes_models_of_any_name_and_longer_variables_refine_them(self) -> None:
        environ = {
            "SERVING_MODELS": json.dumps({"gpt-oss-20b": {"source": "openai/gpt-oss-20b", "aliases": ["a"]}}),
            "SERVING_MODELS__GPT_OSS_20B__ALIASES": '["b", "c"]',
        }
        assert loaded(environ=environ).models["gpt-oss-20b"].aliases == ("b", "c")

    def test_engine_args_are_json_where_they_can_be_and_text_otherwise(self) -> None:
        prefix = "SERVING_MODELS__DEMO__ENGINE_ARGS__"
        environ = {f"{prefix}SEED": "3", f"{prefix}QUANTIZATION": "mxfp4", f"{prefix}COMPILATION_CONFIG__LEVEL": "0"}
        assert loaded(environ=environ).models["demo"].engine_args == {
            "seed": 3,
            "quantization": "mxfp4",
            "compilation_config": {"level": 0},
        }

    def test_an_empty_variable_is_unset_and_null_unsets_an_optional_setting(self) -> None:
        settings = loaded("ray_address: auto\nport: 7\n", environ={"SERVING_RAY_ADDRESS": "null", "SERVING_PORT": ""})
        assert (settings.ray_address, settings.port) == (None, 7)

    def test_other_variables_are_none_of_our_business(self) -> None:
        assert loaded(environ={"PORT": "1", "SERVINGS": "2", "RAY_SERVE_PORT": "3"}) == Settings()

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("SERVING_PROT", "did you mean `SERVING_PORT`?"),
            ("SERVING_HTTP__KEEPALIVE_S", "did you mean `SERVING_HTTP__KEEP_ALIVE_S`?"),
            ("SERVING_MODELS__DEMO__DTYP", "did you mean `SERVING_MODELS__DEMO__DTYPE`?"),
            ("SERVING_PORT__NUMBER", "`port` has nothing below it"),
            ("SERVING_MODELS__", "a name is missing after SERVING_MODELS__"),
            ("SERVING_", "a name is missing"),
        ],
    )
    def test_unknown_variables_are_refused_with_the_likely_one(self, name: str, hint: str) -> None:
        assert hint in problems(environ={name: "x"})[name]

    def test_a_name_that_means_two_models_is_refused(self) -> None:
        file = "models: {a-b: {source: x/a}, a_b: {source: x/b}}"
        found = problems(file, environ={"SERVING_MODELS__A_B__DTYPE": "auto"})
        assert "a-b or a_b" in found["SERVING_MODELS__A_B__DTYPE"]

    def test_two_spellings_of_one_variable_are_refused(self) -> None:
        assert "set twice" in problems(environ={"SERVING_PORT": "1", "serving_port": "2"})["port"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("SERVING_MODELS", "demo"),
            ("SERVING_MODELS", "[]"),
            ("SERVING_MODELS", '{"a": {"source": "x"}, "a": {}}'),
            ("SERVING_MODELS", '{"a":' * 5000),
            ("SERVING_HTTP", "5"),
            ("SERVING_MODELS__DEMO__ALIASES", "a,b"),
        ],
    )
    def test_sections_and_lists_that_are_not_json_are_refused_by_name(self, name: str, text: str) -> None:
        (found,) = problems(environ={name: text}).values()
        assert "should be a JSON" in found
        assert name in found

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("SERVING_PORT", "tcp://10.0.0.1:8000"),
            ("SERVING_SERVICE_HOST", "10.0.0.1"),
            ("SERVING_GATEWAY_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ],
    )
    def test_what_kubernetes_sets_for_a_service_of_our_name_is_explained(self, name: str, text: str) -> None:
        assert "enableServiceLinks: false" in problems(environ={name: text})[name]


class TestYaml:
    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "models:\n  demo: {}\n"])
    def test_files_that_set_nothing_are_the_defaults(self, text: str) -> None:
        assert loaded(text) == Settings()

    def test_merge_keys_share_settings_between_models(self) -> None:
        text = "models:\n  a: &a {source: x/a, dtype: float16}\n  b:\n    <<: *a\n    source: x/b\n"
        b = loaded(text).models["b"]
        assert (b.source, b.dtype) == ("x/b", "float16")

    @pytest.mark.parametrize(
        ("text", "field", "message"),
        [
            ("port: [1\n", "config", "serving.yaml line"),
            ("- port: 1\n", "settings", "not a list or a single value"),
            ("just text\n", "settings", "not a list or a single value"),
            ("port: 1\nhost: a\nport: 2\n", "port", "set twice, first on line 1; remove one (serving.yaml line 3)"),
            ("http: {keep_alive_s: 1, keep_alive_s: 2}\n", "http.keep_alive_s", "set twice"),
            ("models: {demo: {}, yes: {}}\n", "models", "a key is not text; put it in quotes (serving.yaml line 1)"),
            ("a: 1\n---\nb: 2\n", "config", "single document"),
            ("host: !!python/object:os.system x\n", "config", "python/object"),
            ("host: !!set {a}\n", "host", "tag"),
            ("script: 2024-02-31\n", "script", "put it in quotes"),
            ("script: 2024-02-01\n", "script", "reads as a date"),
            ("host: \0\n", "config", "not valid YAML"),
            ("a: " + "[" * 3000, "config", "nested too deeply"),
            ("a: &a [*a]\n", "config", "not valid YAML"),
            ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
                f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
            ), "config", "more than 10000 values"),
        ],
    )  # fmt: skip
    def test_mistakes_in_the_file_are_named_with_their_line(self, text: str, field: str, message: str) -> None:
        assert message in problems(text)[field]

    def test_a_file_that_is_not_there_or_not_text_is_named(self) -> None:
        Path("bad.yaml").write_bytes(b"\xff\xfe\xff")
        for name, reason in (("missing.yaml", "No such file"), (".", "directory"), ("bad.yaml", "decode")):
            found = problems(environ={"SERVING_CONFIG": name})["config"]
            assert name in found
            assert reason in found

    def test_relative_paths_are_seen_from_the_file_they_stand_in(self, workdir: Path) -> None:
        folder = workdir / "etc"
        folder.mkdir()
        (folder / "s.yaml").write_text("engine: scripted\nscript: a.jsonl\nmodels: {m: {source: ./m}}\n", "utf-8")
        settings = load_settings(config=Path("etc/s.yaml"), overrides={}, environ={"SERVING_CACHE_DIR": "cache"})
        assert settings.script == str(folder / "a.jsonl")
        assert settings.models["m"].source == str(folder / "m")
        assert settings.cache_dir == str(workdir / "cache")


class TestRefusals:
    def test_all_mistakes_of_all_sources_come_at_once_each_with_its_origin(self) -> None:
        text = "prot: 1\nport: 99999\nmodels:\n  demo:\n    dtype: bf16\n    replicas: {min: 3, max: 2}\n"
        environ = {"SERVING_INGRESS_REPLICAS": "many", "SERVING_HSOT": "x"}
        assert problems(text, environ=environ, overrides={"http": {"keep_alive_s": 0}}) == {
            "SERVING_HSOT": "unknown variable; did you mean `SERVING_HOST`?",
            "prot": "unknown setting; did you mean `port`? (serving.yaml line 1)",
            "port": "should be at most 65535; got 99999 (serving.yaml line 2)",
            "models.demo.dtype": "should be 'auto', 'bfloat16', 'float16' or 'float32'; did you mean 'bfloat16'?; "
            "got 'bf16' (serving.yaml line 5)",
            "models.demo.replicas.max": "should be at least min, 3; got 2 (serving.yaml line 6)",
            "ingress_replicas": "should be a valid integer, unable to parse string as an integer; got 'many' "
            "(SERVING_INGRESS_REPLICAS)",
            "http.keep_alive_s": "should be greater than 0; got 0 (--http)",
        }

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            ("http: {max_body_byte: 5}", "http.max_body_byte"),
            ("models: {demo: {sorce: demo}}", "models.demo.sorce"),
            ("models: {demo: {replicas: {maximum: 1}}}", "models.demo.replicas.maximum"),
            ("models: {demo: {reasoning: {effort: low}}}", "models.demo.reasoning.effort"),
            ("_env_file: x", "_env_file"),
            ("self: x", "self"),
        ],
    )
    def test_unknown_keys_are_refused_at_every_depth(self, text: str, field: str) -> None:
        assert "unknown setting" in problems(text)[field]

    @pytest.mark.parametrize(
        ("text", "field", "message"),
        [
            ("port: yes", "port", "should be a number, not true"),
            ("http: 5", "http", "should hold settings"),
            ("models: {}", "models", "at least 1"),
            ("models: {demo: 5}", "models.demo", "should hold settings"),
            ("host: http://here:80/", "host", "an address or a host name alone"),
            ("http: {keep_alive_s: .inf}", "http.keep_alive_s", "finite"),
            ("engine: scripted", "script", "--script"),
            ("script: a.jsonl", "script", "engine: scripted"),
            ("models: {gpt: {dtype: auto}}", "models.gpt.source", "is missing"),
            ("models: {gpt: {source: ' x'}}", "models.gpt.source", "blanks"),
            ("models: {demo: {replicas: {min: 0}}}", "models.demo.replicas.max", "1 or more"),
            ("models: {demo: {executor: ray}}", "models.demo.executor", "single device"),
            ("models: {demo: {tensor_parallel_size: 3}}", "models.demo.tensor_parallel_size", "use 1, 2, 4"),
            ("models: {demo: {pipeline_parallel_size: 5}}", "models.demo.pipeline_parallel_size", "4 layers"),
            ("models: {demo: {engine_args: {model: x}}}", "models.demo.engine_args.model", "set `source`"),
            ("models: {demo: {engine_args: {dtype: auto}}}", "models.demo.engine_args.dtype", "set `dtype`"),
            ("models: {demo: {engine_args: {a: .nan}}}", "models.demo.engine_args", "plain data"),
        ],
    )  # fmt: skip
    def test_values_that_cannot_work_are_refused_with_the_fix(self, text: str, field: str, message: str) -> None:
        assert message in problems(text)[field]

    @pytest.mark.parametrize("name", ["a b", "a\tb", "\x1b[31m", "", "\u00a0", "\u2028", "x" * 201])
    def test_names_that_clients_cannot_send_are_refused(self, name: str) -> None:
        models = {"demo": {"source": "demo", "aliases": [name]}, name: {"source": "demo"}}
        found = problems(overrides={"models": models})
        assert found.keys() >= {f"models.{name}", "models.demo.aliases.0"}

    @pytest.mark.parametrize("aliases", [["b"], ["a"], ["x", "x"], ["y"]])
    def test_a_name_means_one_model(self, aliases: list[str]) -> None:
        models = {"a": {"source": "demo", "aliases": aliases}, "b": {"source": "demo", "aliases": ["y"]}}
        assert any("already means the model" in message for message in problems(overrides={"models": models}).values())

    def test_the_constructor_refuses_the_same(self) -> None:
        with pytest.raises(ValidationError, match="scripted engine plays a file"):
            Settings(engine="scripted")


class TestSelection:
    FILE = (
        "models: {gpt-oss-20b: {source: openai/gpt-oss-20b, max_num_seqs: 9}, demo: {aliases: [gpt], max_num_seqs: 7}}"
    )

    @pytest.mark.parametrize(
        ("wanted", "name", "source", "max_num_seqs"),
        [
            ("demo", "demo", "demo", 7),
            ("gpt-oss-20b", "gpt-oss-20b", "openai/gpt-oss-20b", 9),
            ("openai/gpt-oss-20b", "gpt-oss-20b", "openai/gpt-oss-20b", 9),
            ("openai/gpt-oss-120b", "gpt-oss-120b", "openai/gpt-oss-120b", None),
            ("/ckpt/mine/", "mine", "/ckpt/mine", None),
            ("./here", "here", "{cwd}/here", None),
            ("there/mine", "mine", "{cwd}/there/mine", None),
        ],
    )
    def test_a_wanted_model_is_served_alone_with_what_the_file_says_of_it(
        self, workdir: Path, wanted: str, name: str, source: str, max_num_seqs: int | None
    ) -> None:
        (workdir / "there" / "mine").mkdir(parents=True)
        models = loaded(self.FILE, models=[wanted]).models
        assert list(models) == [name]
        assert models[name].source == source.format(cwd=workdir)
        assert models[name].max_num_seqs == max_num_seqs

    def test_several_models_may_be_wanted(self) -> None:
        assert list(loaded(self.FILE, models=["demo", "/x/y", "demo"]).models) == ["demo", "y"]

    def test_two_sources_of_one_name_are_refused(self) -> None:
        assert "would be called `a`" in problems(models=["x/a", "y/a"])["models"]

    def test_tensor_parallel_size_goes_to_the_one_model_served(self) -> None:
        assert loaded(tensor_parallel_size=2).models["demo"].tensor_parallel_size == 2
        wanted = loaded(self.FILE, models=["gpt-oss-20b"], tensor_parallel_size=4)
        assert wanted.models["gpt-oss-20b"].tensor_parallel_size == 4

    def test_tensor_parallel_size_without_saying_of_which_model_is_refused(self) -> None:
        assert "name it with --model" in problems(self.FILE, tensor_parallel_size=4)["models"]


class TestViews:
    def test_gpus_are_devices_of_a_replica_times_replicas(self) -> None:
        model = ModelSettings.model_validate(
            {"source": "x/y", "tensor_parallel_size": 8, "pipeline_parallel_size": 2, "replicas": {"min": 1, "max": 3}}
        )
        assert (model.devices, model.gpus, model.resolved_executor) == (16, (16, 48), "ray")
        assert (ModelSettings().gpus, ModelSettings().resolved_executor) == ((1, 1), "mp")

    def test_the_demo_is_split_as_its_checkpoint_can_be(self) -> None:
        config = hf_config()
        assert _KNOWN_SHAPES["demo"] == (config["num_attention_heads"], config["num_hidden_layers"])

    def test_every_setting_says_what_it_is_for(self) -> None:
        fields = [
            (tree.__name__, name, field) for tree in _trees(Settings) for name, field in tree.model_fields.items()
        ]
        assert len(fields) > 20
        assert [(tree, name) for tree, name, field in fields if not (field.description or "").strip()] == []


def _trees(tree: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield tree
    for field in tree.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _trees(part)


names = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def right_settings(draw: st.DrawFn) -> Settings:
    models = draw(st.dictionaries(names, st.builds(_model, names, st.integers(0, 2), plain), min_size=1, max_size=3))
    return Settings(
        models=models,
        port=draw(st.integers(1, 65535)),
        http={"keep_alive_s": draw(st.floats(min_value=1e-3, max_value=1e6))},
        ray_address=draw(st.none() | names),
    )


def _model(source: str, fewest: int, argument: Any) -> dict[str, Any]:
    return {
        "source": "x/" + source,
        "replicas": {"min": fewest, "max": fewest + 1},
        "engine_args": {"hf_overrides": argument},
    }


no_fixture_check = hypothesis_settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@no_fixture_check
@given(right_settings())
def test_settings_survive_a_trip_through_a_settings_file(settings: Settings) -> None:
    assert loaded(to_yaml(settings)) == settings


keys = st.sampled_from([*Settings.model_fields, *ModelSettings.model_fields, "demo", "min", "max", "<<", "_env_file"])
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=4) | st.integers(), inner),
    max_leaves=20,
)


@no_fixture_check
@given(st.dictionaries(keys | st.text(max_size=6), junk))
@example({"models": {"demo": {"engine_args": {"a": "\ud800"}}}})
@example({"host": "\ud800", "script": "\0"})
def test_any_flags_load_or_are_refused(values: dict[str, Any]) -> None:
    _loads_or_is_refused(overrides=values)


@no_fixture_check
@given(st.text() | junk.map(lambda value: json.dumps(value, default=str)) | st.text("{}[]:,-&*!<>|'\"%# \nab1"))
def test_any_file_loads_or_is_refused(text: str) -> None:
    Path("any.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    _loads_or_is_refused(config=Path("any.yaml"))


variables = st.lists(keys | st.text("ABC_-. ", max_size=4), min_size=1, max_size=4).map(
    lambda parts: "SERVING_" + "__".join(map(str.upper, parts))
)


@no_fixture_check
@given(st.dictionaries(variables, st.text(max_size=6) | junk.map(lambda value: json.dumps(value, default=str))))
@example({"SERVING_MODELS": '{"demo": 5}', "SERVING_MODELS__DEMO__DTYPE": "auto"})
@example({"SERVING_SCRIPT": "\udcff"})
def test_any_environment_loads_or_is_refused(environ: dict[str, str]) -> None:
    _loads_or_is_refused(environ=environ)


@no_fixture_check
@given(st.lists(st.text(max_size=6), max_size=3), st.none() | st.integers(), junk)
def test_any_selection_loads_or_is_refused(models: list[str], size: int | None, below: Any) -> None:
    _loads_or_is_refused(models=models, tensor_parallel_size=size, overrides={"models": below})


def _loads_or_is_refused(**given: Any) -> None:
    try:
        load_settings(**{"config": None, "overrides": {}, "environ": {}, **given})
    except SettingsError as error:
        found = error.problems
    else:
        return
    assert found
    assert all(field and message for field, message in found)


def test_origins_name_file_line_variable_and_flag() -> None:
    Path("s.yaml").write_text("host: 10.0.0.1\nhttp:\n  keep_alive_s: 3\n", encoding="utf-8")
    layer = read_sources(Settings, Path("s.yaml"), {"engine": "vllm"}, {"SERVING_PORT": "9"}, ["demo"], 2)
    paths = [("host",), ("http", "keep_alive_s"), ("port",), ("engine",), ("models", "demo", "tensor_parallel_size")]
    assert [load(layer).layer.origin(path) for path in paths] == [
        "s.yaml line 1",
        "s.yaml line 3",
        "SERVING_PORT",
        "--engine",
        "--tensor-parallel-size",
    ]
    assert layer.origin(("http", "longest_answer_s")) == "s.yaml line 2"


def test_reading_the_environment_changes_neither_it_nor_the_layer_below() -> None:
    below = Layer(values={"models": {"demo": {"dtype": "auto"}}})
    environ = {"SERVING_MODELS__DEMO__DTYPE": "float16"}
    read_environment(environ, Settings, below)
    assert below.values == {"models": {"demo": {"dtype": "auto"}}}


@pytest.mark.parametrize(
    ("reasoning", "field"),
    [
        ({"default_effort": "high", "highest_effort": "low"}, "models.demo.reasoning.default_effort"),
        (
            {"default_max_reasoning_tokens": 11, "highest_max_reasoning_tokens": 10},
            "models.demo.reasoning.default_max_reasoning_tokens",
        ),
    ],
)
def test_a_default_of_reasoning_above_its_cap_is_named(reasoning: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(config=None, overrides={"models": {"demo": {"reasoning": reasoning}}}, environ={})
    assert [name for name, _ in caught.value.problems] == [field]


def test_a_cap_of_effort_alone_is_enough() -> None:
    overrides = {"models": {"demo": {"reasoning": {"highest_effort": "low"}}}}
    assert load_settings(config=None, overrides=overrides, environ={}).models["demo"].reasoning.highest_effort == "low"


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"limits": {"backend": "redis"}}, "limits.backend"),
        ({"usage": {"backend": "redis"}}, "usage.backend"),
        ({"open": True, "teams_file": "teams.yaml"}, "open"),
        ({"admin_key_hash": str(new_key().hashed(new_salt())), "admin_key_file": "admin"}, "admin_key_file"),
    ],
)
def test_settings_of_access_that_do_not_fit_together_are_named(overrides: dict[str, Any], field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(config=None, overrides=overrides, environ={})
    assert field in [name for name, _ in caught.value.problems]
