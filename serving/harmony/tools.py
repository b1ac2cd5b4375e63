"""Function tools as the developer message shows them: oss-harmony's TypeScript, behind checks it does not make."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from openai_harmony import DeveloperContent, HarmonyError, Message, Role, ToolDescription

from serving.errors import InvalidValueError
from serving.harmony import stretches
from serving.harmony.conversation import FunctionTool
from serving.harmony.vocabulary import decode, encoding, without_lone_surrogates

_MAX_DEPTH = 64
"""Levels of nesting in a schema; serde_json refuses 128, our own wrapping included."""
_MAX_STRETCH = 2048
"""Characters without a boundary in one text; the library tokenizes tools in time quadratic in this."""
_LONGEST_NAME = 256
_UNFIT = frozenset(["Cc", "Cs", "Zl", "Zp"])
"""Unicode's categories of control characters, lone surrogates and line breaks."""
_STRUCTURE = re.compile(r"<\||(?:^|\s)to=")
"""What would end a header's recipient, or begin another one."""


def tools_section(tools: tuple[FunctionTool, ...]) -> str:
    """The `# Tools` section of the developer message, as oss-harmony words it.

    Raises InvalidValueError, with the place in `param`, for a name that would not survive a message header and for
    parameters that are not a JSON schema or cannot be shown.
    """
    descriptions = [_description(tool, f"tools[{index}].function") for index, tool in enumerate(tools)]
    content = DeveloperContent.new().with_function_tools(descriptions)
    tokens = _render(Message.from_role_and_content(Role.DEVELOPER, content))
    return decode(tokens[3:-1])  # <|start|>developer<|message|> ... <|end|>


def is_tool_name(name: str) -> bool:
    """True for names that can stand in a message header and be read back from it.

    Letters, digits and marks of any language, and blanks between them; no control characters and line breaks, no `<|`,
    nothing that reads as a recipient of its own. OpenAI takes [a-zA-Z0-9_-]{1,64}; other servers take more.
    """
    return (
        0 < len(name) <= _LONGEST_NAME
        and name == name.strip()
        and not _STRUCTURE.search(name)
        and not any(unicodedata.category(character) in _UNFIT for character in name)
    )


def header_name(name: str) -> str:
    """A name from history, fit for a header: changed, not refused, because the model itself may have made it up."""
    fit = "".join("_" if unicodedata.category(character) in _UNFIT else character for character in name)
    return _STRUCTURE.sub("_", fit)[:_LONGEST_NAME].strip() or "_"


def _description(tool: FunctionTool, place: str) -> ToolDescription:
    if not is_tool_name(tool.name):
        raise InvalidValueError(
            f"{tool.name!r:.80} cannot name a function: use 1 to {_LONGEST_NAME} letters, digits and marks, without "
            "control characters, blanks at the ends, '<|' and 'to='.",
            param=f"{place}.name",
        )
    description = _text(tool.description, f"{place}.description")
    if tool.parameters is None:
        return ToolDescription.new(tool.name, description)
    if not isinstance(tool.parameters, dict):
        raise InvalidValueError("A function's parameters are a JSON schema object.", param=f"{place}.parameters")
    return ToolDescription.new(tool.name, description, _json(tool.parameters, f"{place}.parameters", _MAX_DEPTH))


def _text(text: str, place: str) -> str:
    text = without_lone_surrogates(text)
    if not stretches.is_plain(text) and stretches.longest_stretch(text) > _MAX_STRETCH:
        raise InvalidValueError(
            f"A text in {place} has more than {_MAX_STRETCH} characters in a row without a boundary.", param=place
        )
    return text


def _json(value: Any, place: str, depth: int) -> Any:
    """A copy of `value` that the library can read."""
    if depth == 0:
        raise InvalidValueError(f"{place} is nested deeper than {_MAX_DEPTH} levels.", param=place)
    match value:
        case None | bool():
            return value
        case int() if value.bit_length() <= 63:
            return value
        case int() | float():
            if not math.isfinite(value):
                raise InvalidValueError(f"{place} has a number that JSON cannot write: {value}.", param=place)
            return float(value)
        case str():
            return _text(value, place)
        case list() | tuple():
            return [_json(item, place, depth - 1) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {_text(key, place): _json(item, place, depth - 1) for key, item in value.items()}
    raise InvalidValueError(f"{place} has a value that JSON cannot write: {type(value).__name__}.", param=place)


def _render(message: Message) -> list[int]:
    """One message's tokens; what the library refuses or panics on becomes InvalidValueError."""
    try:
        return list(encoding().render(message))
    except HarmonyError as error:
        raise InvalidValueError(f"The tools cannot be shown to the model: {error}", param="tools") from error
    except BaseException as error:
        # A Rust panic: pyo3 derives it from BaseException and exports the class under no importable name.
        if type(error).__name__ != "PanicException":
            raise
        raise InvalidValueError("The tools cannot be shown to the model.", param="tools") from error
