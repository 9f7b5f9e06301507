"""The one kind of error that the user can fix, and how its message is put together."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Something in the user's input is wrong.

    Its text is one line, put together here and nowhere else: ``where: found; allowed: expected; fix``.

    Args:
        where: the file and row, key or environment variable that is wrong.
        found: what is wrong with it, as a clause: "found 3", "missing", "not a readable image (...)".
        expected: what is allowed instead.
        fix: what the user can do, where that does not follow from ``expected``.

    Each of them is kept as an attribute of the same name, as text (or None).

    >>> print(UserError("params.yaml: seed", "found 'x'", expected="a whole number of at least 0"))
    params.yaml: seed: found 'x'; allowed: a whole number of at least 0
    >>> print(UserError("maps.npy", "cut short", fix="`dvc repro` makes it again"))
    maps.npy: cut short; `dvc repro` makes it again
    """

    def __init__(self, where: object, found: object, *, expected: object = None, fix: object = None) -> None:
        self.where, self.found = str(where), str(found)
        self.expected = None if expected is None else str(expected)
        self.fix = None if fix is None else str(fix)
        super().__init__(where, found)

    def __str__(self) -> str:
        allowed = "" if self.expected is None else f"; allowed: {self.expected}"
        fix = "" if self.fix is None else f"; {self.fix}"
        return f"{self.where}: {self.found}{allowed}{fix}"

    def __reduce__(self) -> tuple[Callable[..., UserError], tuple[str, str, str | None, str | None]]:
        # An error crosses from a worker process to the one that reports it.
        return _remade, (self.where, self.found, self.expected, self.fix)

    def at(self, where: object) -> UserError:
        """Return the same error found elsewhere.

        >>> print(UserError("cam_layer", "found no such layer").at("models.mine.cam_layer"))
        models.mine.cam_layer: found no such layer
        """
        return _remade(str(where), self.found, self.expected, self.fix)

    def rewritten(self, change: Callable[[str], str]) -> UserError:
        """Return the same error with a change made to each part of its text.

        >>> print(UserError("/scratch/a.png", "cut short").rewritten(lambda text: text.replace("/scratch", "data")))
        data/a.png: cut short
        """
        expected, fix = (None if part is None else change(part) for part in (self.expected, self.fix))
        return _remade(change(self.where), change(self.found), expected, fix)


def _remade(where: str, found: str, expected: str | None, fix: str | None) -> UserError:
    return UserError(where, found, expected=expected, fix=fix)


def nearest(name: object, known: Iterable[str]) -> str:
    """Return ", did you mean X?" for the known name closest to ``name``, or "" when none is close.

    >>> nearest("gradcam", ["grad_cam", "lime"])
    ", did you mean 'grad_cam'?"
    """
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""


def unknown_name(where: object, kind: str, name: object, known: Iterable[str]) -> UserError:
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
    return UserError(where, f"no {kind} is called {str(name)[:100]!r}{nearest(name, names)}{listed}")
