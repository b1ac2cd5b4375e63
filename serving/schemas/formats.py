"""Formats of strings: those that answers are held to, as patterns, and those that say nothing of a string's form."""

from __future__ import annotations

_YEARS = r"(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_DATE = (
    rf"({_YEARS}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    r"|([0-9][0-9](0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"
_HEX = "[0-9a-fA-F]{1,4}"
_IPV6 = (
    rf"(({_HEX}:){{7}}{_HEX}|({_HEX}:){{1,7}}:|({_HEX}:){{1,6}}:{_HEX}|({_HEX}:){{1,5}}(:{_HEX}){{1,2}}"
    rf"|({_HEX}:){{1,4}}(:{_HEX}){{1,3}}|({_HEX}:){{1,3}}(:{_HEX}){{1,4}}|({_HEX}:){{1,2}}(:{_HEX}){{1,5}}"
    rf"|{_HEX}:(:{_HEX}){{1,6}}|:((:{_HEX}){{1,7}}|:))"
)
_LABEL = "[a-zA-Z0-9]{1,20}(-[a-zA-Z0-9]{1,20}){0,2}"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,3}}"
_PATH = r"([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})"
_QUERY = rf"(\?({_PATH}|[/?])*)?(#({_PATH}|[/?])*)?"
_PERIOD = r"([0-9]{1,4}D(T_)?|[0-9]{1,4}M([0-9]{1,4}D)?(T_)?|[0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?(T_)?|T_)"
_CLOCK = r"([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)"

HELD: dict[str, str] = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "duration": f"^P({_PERIOD.replace('T_', 'T' + _CLOCK)}|[0-9]{{1,4}}W)$",
    "email": rf"^[a-zA-Z0-9_%+-]+(\.[a-zA-Z0-9_%+-]+)*@{_LABEL}(\.{_LABEL}){{1,3}}$",
    "hostname": f"^{_HOST}$",
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^{_IPV6}$",
    "uuid": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "uri": rf"^([a-z][a-z0-9+.-]*://{_HOST}(:[0-9]{{1,4}})?(/{_PATH}*)*{_QUERY}|(mailto|urn|tel):{_PATH}+)$",
    "uri-reference": rf"^({_PATH}*/)*{_PATH}*{_QUERY}$",
    "json-pointer": r"^(/([^\x00-\x1f/~]|~[01])*)*$",
    "relative-json-pointer": r"^[0-9](#|(/([^\x00-\x1f/~]|~[01])*)*)$",
    "byte": r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
"""Format and the pattern that stands for it: narrower than the format in places, never wider."""

SILENT = frozenset(["password", "binary", "textarea", "markdown", "html"])
"""Formats of OpenAPI and of form builders that tell a program how to show a string."""

OF_NUMBERS: dict[str, tuple[int, int] | None] = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "float": None,
    "double": None,
    "decimal": None,
}
"""OpenAPI's formats of numbers, and their bounds."""
