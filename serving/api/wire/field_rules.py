"""Fields of requests that are known and not done here, in one table: the models read it, and docs/api.md repeats it.

A hint describes the request or cannot change the answer: it is taken and not used. A refused field would change the
answer, and is refused by name unless its value asks for nothing. A field that neither a model nor this table has is
unknown: ignored and named in the reply, or refused where the server or the request is strict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Place = Literal[
    "everywhere",
    "generation",
    "chat",
    "conversation",
    "completions",
    "tokenize",
    "responses",
    "messages",
    "message",
    "assistant message",
    "stream options",
    "structured outputs",
    "template",
    "call",
    "chat tool",
    "responses tool",
    "messages tool",
    "item",
    "block",
]
"""Objects that a rule holds for: "everywhere" is each object of a request, the others are named in PLACES."""

EVERYWHERE: Place = "everywhere"

PLACES: Mapping[Place, str] = {
    "everywhere": "every object of a request",
    "generation": "chat, completions",
    "chat": "chat",
    "conversation": "chat, `/tokenize`",
    "completions": "completions",
    "tokenize": "`/tokenize`",
    "responses": "Responses",
    "messages": "Messages",
    "message": "a chat message",
    "assistant message": "a chat message of the assistant",
    "stream options": "`stream_options`",
    "structured outputs": "`structured_outputs`",
    "template": "`chat_template_kwargs`",
    "call": "a call in a chat message",
    "chat tool": "a chat function",
    "responses tool": "a Responses tool",
    "messages tool": "a Messages tool",
    "item": "a Responses item",
    "block": "a Messages block",
}


OFF: tuple[object, ...] = (False, "", [])
"""Values that ask for nothing in most fields."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Rule for one field at one place. `instead` is None for a hint, else what to do without the field.

    `nothing` are the values of a refused field that ask for nothing, beside null.
    """

    name: str
    instead: str | None = None
    nothing: tuple[object, ...] = OFF

    def asks_for_nothing(self, value: object) -> bool:
        """Whether a refused field with this value may be ignored."""
        # 1 is not True here, and 1.0 is 1.
        return value is None or any(
            isinstance(value, bool) is isinstance(each, bool) and value == each for each in self.nothing
        )


def _hints(*names: str) -> tuple[FieldRule, ...]:
    return tuple(FieldRule(name) for name in names)


_NO_MEDIA = "gpt-oss writes text alone."
_NO_EXTRAS = "Replies do not have this: leave it out."

FIELD_RULES: Mapping[Place, tuple[FieldRule, ...]] = {
    "everywhere": _hints(
        *("id", "annotations", "cache_control", "prompt_cache_breakpoint", "client_metadata"),
        *("provider_options", "providerOptions", "provider_metadata", "providerMetadata"),
        *("provider_specific_fields", "extra_content", "additional_kwargs", "response_metadata"),
    ),
    "generation": (
        *_hints("user", "metadata", "request_id", "session_id", "priority", "trace"),
        *_hints("add_special_tokens", "spaces_between_special_tokens", "stream_interval", "truncation_side"),
        *_hints("media_io_kwargs", "mm_processor_kwargs", "guided_decoding_backend"),
        FieldRule("use_beam_search", "There is no beam search: sample with `n`."),
        FieldRule("length_penalty", "It belongs to beam search, which there is not.", (*OFF, 1)),
        FieldRule("early_stopping", "It belongs to beam search, which there is not."),
        FieldRule("include_stop_str_in_output", "A stop string is never delivered; `finish_reason` tells of it."),
        FieldRule("truncate_prompt_tokens", "Shorten the prompt, or use chat with truncation 'auto'."),
        FieldRule("prompt_logprobs", "Log probabilities are those of the answer alone."),
        FieldRule("logprob_token_ids", "Use `top_logprobs`."),
        FieldRule("allowed_token_ids", "It would forbid the format's own tokens: use `structured_outputs`."),
        FieldRule("bad_words", "Use `logit_bias`."),
        FieldRule("logits_processors", "Code of a request is never run."),
        FieldRule("watermarking", "There is none."),
        FieldRule("repetition_detection", "Use `frequency_penalty`."),
        FieldRule("top_a", "Use `min_p`, which does much the same.", (*OFF, 0)),
        FieldRule("return_tokens_as_token_ids", _NO_EXTRAS),
        FieldRule("return_token_ids", _NO_EXTRAS),
        FieldRule("return_token_offsets", _NO_EXTRAS),
        FieldRule("return_prompt_text", "Use `separate_thinking`, whose `parsed` has the prompt, or `/tokenize`."),
        FieldRule("cache_salt", "Prefixes are cached by their tokens alone; a salt would be a promise not kept."),
        FieldRule("kv_transfer_params", "Caches are not moved by requests.", (*OFF, {})),
        FieldRule("ec_transfer_params", "Caches are not moved by requests.", (*OFF, {})),
        FieldRule("vllm_xargs", "Extra arguments of engines come from the server's settings.", (*OFF, {})),
        FieldRule("guided_whitespace_pattern", "Use a grammar or a regular expression."),
    ),
    "chat": (
        *_hints("store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options"),
        *_hints("prompt_cache_retention", "prediction", "skip_special_tokens"),
        *_hints("provider", "models", "route", "debug"),
        FieldRule("best_of", "Use `n`.", (*OFF, 1)),
        FieldRule("modalities", "Only 'text' is.", (*OFF, ["text"])),
        FieldRule("audio", _NO_MEDIA),
        FieldRule("image_config", _NO_MEDIA),
        FieldRule("functions", "Use `tools`."),
        FieldRule("function_call", "Use `tool_choice`.", (*OFF, "auto", "none", {})),
        FieldRule("moderation", "This server moderates nothing."),
        FieldRule("web_search_options", "This server searches nothing: describe a function that does."),
        FieldRule("plugins", "This server runs no tools itself."),
        FieldRule("echo", "An answer never begins with the prompt's last message."),
    ),
    "conversation": (
        FieldRule("add_generation_prompt", "The prompt always ends where the answer begins.", (True,)),
        FieldRule("continue_final_message", "An answer always begins with a message of its own."),
        FieldRule("documents", "Put them into a message."),
        FieldRule("chat_template", "The prompt is always rendered as Harmony."),
        FieldRule("prompt", "A request has `messages` or `prompt`.", ()),
        FieldRule("input", "Here it is `messages`.", ()),
    ),
    "completions": (
        FieldRule("messages", "They are chat's; here it is `prompt`.", ()),
        FieldRule("suffix", "gpt-oss was not trained to fill in."),
        FieldRule("prompt_embeds", "Send text or token ids."),
    ),
    "tokenize": _hints("add_special_tokens", "media_io_kwargs", "mm_processor_kwargs"),
    "responses": (
        *_hints("prompt_cache_options", "prompt_cache_retention", "access_programs", "image"),
        *_hints("session_id", "trace", "provider", "models", "request_id", "priority"),
        FieldRule("moderation", "This server moderates nothing."),
        FieldRule("n", "A response has one answer.", (*OFF, 1)),
        FieldRule("logprobs", "Here it is `top_logprobs`."),
    ),
    "messages": (
        *_hints("metadata", "service_tier", "diagnostics"),
        FieldRule("n", "A message is one answer.", (*OFF, 1)),
        FieldRule("stop", "Here it is `stop_sequences`."),
        FieldRule("logprobs", "Use chat or Responses."),
        FieldRule("top_logprobs", "Use chat or Responses."),
        FieldRule("response_format", "Here it is `output_config.format`.", (*OFF, {"type": "text"})),
        FieldRule("reasoning_effort", "Here it is `output_config.effort`."),
        FieldRule("speed", "There is one speed.", (*OFF, "standard")),
        FieldRule("inference_geo", "Answers are made where this server is.", (*OFF, "global", "not_available")),
        FieldRule("container", "This server runs no code."),
        FieldRule("mcp_servers", "This server calls no others: describe their tools with an input_schema."),
    ),
    "message": _hints("timestamp", "created_at"),
    "assistant message": (
        *_hints("parsed", "thinking", "reasoning_truncated", "channel"),
        FieldRule("audio", "gpt-oss reads text alone: send its transcript as `content`."),
        FieldRule("function_call", "Use `tool_calls`.", (*OFF, {})),
    ),
    "stream options": _hints("include_obfuscation", "continuous_usage_stats"),
    "structured outputs": (
        FieldRule("structural_tag", "Use a grammar."),
        FieldRule("whitespace_pattern", "Use a grammar or a regular expression."),
        *_hints("disable_any_whitespace"),
        FieldRule("disable_additional_properties", "Say `additionalProperties: false` in the schema."),
    ),
    "template": (
        FieldRule("model_identity", "Say who the model is in a system message."),
        FieldRule("builtin_tools", "This server runs no tools itself."),
    ),
    "call": _hints("index", "parsed_arguments"),
    "chat tool": _hints("metadata"),
    "responses tool": (
        *_hints("output_schema", "defer_loading"),
        FieldRule("allowed_callers", "The model calls functions itself here: only 'direct' is.", (*OFF, ["direct"])),
    ),
    "messages tool": (
        *_hints("eager_input_streaming", "defer_loading"),
        FieldRule("allowed_callers", "The model calls tools itself here: only 'direct' is.", (*OFF, ["direct"])),
        FieldRule("input_examples", "Put examples into the description or the schema."),
    ),
    "item": _hints("created_by", "parsed", "parsed_arguments", "logprobs", "recipient"),
    "block": _hints("citations", "parsed_output", "caller"),
}


def rules_at(places: tuple[Place, ...]) -> dict[str, FieldRule]:
    """Rules that hold for an object of these kinds, by the field's name; a later place wins."""
    return {rule.name: rule for place in (EVERYWHERE, *places) for rule in FIELD_RULES[place]}


def told(rule: FieldRule, value: Any) -> str | None:
    """Why a field with this value is refused; None where it is taken."""
    return None if rule.instead is None or rule.asks_for_nothing(value) else rule.instead
