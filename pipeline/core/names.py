"""Names from params.yaml, which become parts of paths, of commands and of DVC's stage names."""

from __future__ import annotations

import re

from pipeline.core import params
from pipeline.core.errors import UserError

WORD = re.compile(r"[A-Za-z0-9_]{1,100}")
CELL = re.compile(r"[A-Za-z0-9_]{1,100}(-[A-Za-z0-9_]{1,100}){0,5}")


def _checked(name: object, kind: str, pattern: re.Pattern[str], allowed: str) -> str:
    text = str(name)
    if not pattern.fullmatch(text) or len(text) > 120:
        raise UserError(params.PARAMS, f"found the {kind} name {text[:120]!r}", expected=allowed)
    return text


def checked(name: object, kind: str) -> str:
    """Return the name of a dataset, model or method, known to be safe in a path and in a command.

    Args:
        name: what was found.
        kind: what it is a name of, for the message.

    Raises:
        UserError: it has a character that is not an ASCII letter, a digit or ``_``, or more than 100 of them.
    """
    return _checked(name, kind, WORD, "at most 100 letters, digits and _")


def checked_cell(name: object) -> str:
    """Return the name of a cell; it may have hyphens between words as `checked` allows them.

    Raises:
        UserError: it is not such a name.
    """
    return _checked(name, "cell", CELL, "letters, digits and _, with single hyphens between them")
