"""Response formats: the form of an answer that the developer message asks for.

The section is OpenAI's (the Harmony format's guide, "Structured output"). It only tells the model; holding the answer
to the form is the engine's grammar.
"""

from __future__ import annotations

from serving.harmony import json_values
from serving.harmony.conversation import ResponseFormat


def response_formats_section(response_format: ResponseFormat) -> str:
    """Render the `# Response Formats` section: the name, the description as comment lines, the schema as compact JSON.

    Raises InvalidValueError(param="response_format") for a schema that JSON cannot write or that nests too deep.
    """
    json_values.check(response_format.schema, "response_format")
    name = " ".join(response_format.name.split())  # one line: it is a heading
    lines = [f"# Response Formats\n\n## {name}\n"]
    lines += [f"// {line}" for line in response_format.description.splitlines()]
    lines.append(json_values.compact(response_format.schema))
    return "\n".join(lines)
