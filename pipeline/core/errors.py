"""The one kind of error that the user can fix, and how its message is put together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the user's input is wrong; the message is one line: where, what was found, what is allowed."""


def nearest(name: object, known: Iterable[str]) -> str:
    """Return ", did you mean X?" for the known name closest to ``name``, or "" when none is close."""
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""


def unknown_name(where: str, kind: str, name: object, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not in a registry.

    Args:
        where: the file and key the name was found in.
        kind: what the name should be a name of, in the singular ("method").
        name: what was found.
        known: what is allowed.

    Returns:
        The error, to be raised; it says the nearest known name and lists them all.
    """
    names = sorted(known)
    listed = f" (known: {', '.join(names)})" if names else ""
    return UserError(f"{where}: no {kind} is called {str(name)[:100]!r}{nearest(name, names)}{listed}")
