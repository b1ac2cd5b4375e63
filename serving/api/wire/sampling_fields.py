"""Fields of a request for the model and for sampling: OpenAI's, and vLLM's beside them. Null means absent."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, StringConstraints

from serving.api.wire.base_model import WireModel, invalid
from serving.api.wire.field_rules import Place
from serving.harmony.tokenization import VOCABULARY_SIZE

SMALLEST_TOP_P = 1e-6
"""The least top_p that an engine is given: 0 means the likeliest token alone, and vLLM wants more than 0."""

RequestedEffort = Annotated[str, StringConstraints(max_length=64)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Penalty = Annotated[Finite, Field(ge=-2, le=2)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _token_ids(value: dict[str, float] | None) -> dict[str, float] | None:
    for key in value or ():
        if not (key.isascii() and key.isdecimal() and len(key) <= 6 and int(key) < VOCABULARY_SIZE):
            raise invalid(
                f"Invalid key in 'logit_bias': expected token ids from 0 to {VOCABULARY_SIZE - 1} as strings."
            )
    return value


class ModelField(WireModel):
    """The model that is asked."""

    model: Annotated[str, StringConstraints(min_length=1)] = Field(description="A name or alias from GET /v1/models.")


class SamplingFields(WireModel):
    """Sampling of chat and of completions."""

    temperature: Finite | None = Field(None, ge=0, le=2, description="0 picks the likeliest token; default 1.")
    top_p: Finite | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=VOCABULARY_SIZE, description="0 and -1: all tokens.")
    min_p: Finite | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1, le=128, description="How many choices; default 1.")
    stop: Annotated[
        list[Annotated[str, StringConstraints(min_length=1)]] | None,
        Field(max_length=16),
        FailFast(),
        BeforeValidator(_listed, json_schema_input_type=str | list[str] | None),
    ] = Field(None, description="Up to 16 strings that end the answer; not delivered.")
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Finite | None = Field(None, gt=0, le=2)
    logit_bias: Annotated[dict[str, Annotated[Finite, Field(ge=-100, le=100)]] | None, AfterValidator(_token_ids)] = (
        Field(None, description="Token ids, as strings, to what is added to their logits.")
    )

    min_tokens: int | None = Field(None, ge=0, description="Fewest tokens to write before the answer may end.")
    ignore_eos: bool | None = Field(None, description="true: write as many tokens as may be written; for benchmarks.")
    stop_token_ids: Annotated[
        list[Annotated[int, Field(ge=0, lt=VOCABULARY_SIZE)]] | None, Field(max_length=64), FailFast()
    ] = Field(None, description="Tokens that end the answer; not delivered.")


class StreamOptions(WireModel):
    """Options of a streamed answer."""

    places: ClassVar[tuple[Place, ...]] = ("stream options",)
    include_usage: bool | None = Field(None, description="Send usage in a last chunk without choices.")


class StreamFields(WireModel):
    """Whether the answer is streamed, and how."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a last chunk without choices has the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def check_stream_options(self) -> None:
        """Refuse options without a stream; for the request's own validator."""
        if self.stream_options is not None and not self.stream:
            raise invalid("'stream_options' needs 'stream' to be true.", at="stream_options")
