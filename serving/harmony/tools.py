"""Function tools in the developer message: a namespace of TypeScript types, and the rules of names."""

from __future__ import annotations

import re
import unicodedata

from serving.errors import InvalidValueError
from serving.harmony.conversation import FunctionTool
from serving.harmony.typescript import comment, parameters

_LONGEST_NAME = 256
_UNFIT = frozenset(["Cc", "Cs", "Zl", "Zp"])
"""Unicode's categories of control characters, lone surrogates and line breaks."""
_STRUCTURE = re.compile(r"<\||(?:^|\s)to=")
"""Text that would end a header's recipient, or begin another one."""


def tools_section(tools: tuple[FunctionTool, ...]) -> str:
    """Render the `# Tools` section of the developer message, as oss-harmony lays it out.

    Raises InvalidValueError, with the place in `param`, for a name that would not survive a message header and for
    parameters that cannot be shown (see typescript.py).
    """
    lines = ["# Tools\n\n## functions\n\nnamespace functions {\n"]
    taken = {tool.name for tool in tools}
    for index, tool in enumerate(tools):
        lines += _function(tool, f"tools[{index}].function", taken)
    return "\n".join([*lines, "} // namespace functions"])


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
    """Make a name from history fit for a header: changed, not refused, because the model itself may have made it up."""
    fit = "".join("_" if unicodedata.category(character) in _UNFIT else character for character in name)
    return _STRUCTURE.sub("_", fit)[:_LONGEST_NAME].strip() or "_"


def _function(tool: FunctionTool, place: str, taken: set[str]) -> list[str]:
    """A function's lines, after those of the types that it names."""
    if not is_tool_name(tool.name):
        raise InvalidValueError(
            f"{tool.name!r:.80} cannot name a function: use 1 to {_LONGEST_NAME} letters, digits and marks, without "
            "control characters, blanks at the ends, '<|' and 'to='.",
            param=f"{place}.name",
        )
    description = comment(tool.description) if tool.description else []
    if tool.parameters is None:
        return [*description, f"type {tool.name} = () => any;\n"]
    if not isinstance(tool.parameters, dict):
        raise InvalidValueError("A function's parameters are a JSON schema object.", param=f"{place}.parameters")
    types = parameters(tool.parameters, f"{place}.parameters", taken)
    argument = "" if types.argument is None else f"_: {types.argument}"
    named = [f"type {name} = {text};\n" for name, text in types.named.items()]
    return [*named, *description, f"type {tool.name} = ({argument}) => any;\n"]
