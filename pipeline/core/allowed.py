"""What is allowed where pydantic refuses a value, in the words of our messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def _plain(limit: float) -> float:
    return int(limit) if limit == int(limit) else limit


_ALLOWED: dict[str, Callable[[Any], str]] = {
    "greater_than_equal": lambda limit: f"at least {_plain(limit['ge'])}",
    "greater_than": lambda limit: f"more than {_plain(limit['gt'])}",
    "less_than_equal": lambda limit: f"at most {_plain(limit['le'])}",
    "less_than": lambda limit: f"less than {_plain(limit['lt'])}",
    "finite_number": lambda _: "a finite number",
    "int_type": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "int_parsing_size": lambda _: "a whole number with fewer digits",
    "float_type": lambda _: "a number",
    "bool_type": lambda _: "true or false",
    "string_type": lambda _: "text",
    "string_too_short": lambda limit: f"at least {limit['min_length']} characters",
    "string_too_long": lambda limit: f"at most {limit['max_length']} characters",
    "string_pattern_mismatch": lambda limit: f"text that matches {limit['pattern']}",
    "tuple_type": lambda _: "a list",
    "list_type": lambda _: "a list",
    "too_short": lambda limit: f"at least {limit['min_length']} entries",
    "too_long": lambda limit: f"at most {limit['max_length']} entries",
    "extra_forbidden": lambda _: "no further keys",
    "dict_type": lambda _: "a mapping",
    "model_type": lambda _: "a mapping",
    "model_attributes_type": lambda _: "a mapping",
    "none_required": lambda _: "null",
    "literal_error": lambda limit: str(limit["expected"]),
}


def allowed(error: Any) -> str:
    """Return what is allowed instead of a value, for one of the errors that pydantic lists.

    Args:
        error: a mapping with the keys ``type``, ``ctx``, ``msg`` and ``input``; see ``ValidationError.errors``.
    """
    say = _ALLOWED.get(error["type"])
    if say is None:  # our own validators say it themselves
        said = str(error["msg"]).removeprefix("Value error, ")
        return f"{said[:1].lower()}{said[1:]}"
    quoted = ", in quotes" if error["type"] == "string_type" and isinstance(error["input"], int | float) else ""
    return say(error.get("ctx", {})) + quoted


def either(alternatives: Iterable[str]) -> str:
    """Join what is allowed to a list: "a number, 'folders' or 'table'"."""
    *others, last = dict.fromkeys(alternatives)
    return f"{', '.join(others)}{', ' if ' or ' in last else ' or '}{last}" if others else last


def shown(value: object) -> str:
    """Return a value as messages show it: on one line, and not all of it where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number with more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 120 else f"{text[:117]}..."
