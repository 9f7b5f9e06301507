"""params.yaml as checked, frozen values; nothing else reads that file.

Every value has a type and a range, declared beside what reads it. What a section leaves out is an error, except where
its declaration says what is assumed instead. A stage reads only the keys that it declares to DVC.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, overload

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Tag, TypeAdapter, ValidationError

from pipeline.core.allowed import allowed, either, shown
from pipeline.core.errors import UserError, nearest
from pipeline.core.yaml_file import read_yaml

PARAMS = Path("params.yaml")
T = TypeVar("T")


class Settings(BaseModel):
    """A section of params.yaml: frozen, no unknown keys, no silent conversions (a quoted number is an error)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, and anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10**6)]
Steps = Annotated[int, Field(ge=1, le=10_000)]
"""Of an iteration, or samples that are averaged: more would be a slip, and take days or all of the memory."""
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
ImageSize = Annotated[int, Field(ge=16, le=1024, strict=True)]
Channels = Annotated[tuple[float, float, float], BeforeValidator(as_tuple)]
Percents = Annotated[tuple[Annotated[int, Field(ge=1, le=99)], ...], BeforeValidator(as_tuple)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("printable characters")
    return text


PathText = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_printable)]
"""The path of a file or folder, or a URL."""
Strings = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]


@cache
def _document(path: Path) -> dict[str, Any]:
    return read_yaml(path)


def at(key: str) -> str:
    """Return how a message names a key: with the file that was really read, which may be a profile.

    >>> at("models.*.cam_layer")  # of the model that `entry` names
    'params.yaml: models.*.cam_layer'
    """
    return f"{PARAMS}: {key}"


@contextmanager
def entry(section: str, name: str) -> Iterator[None]:
    """Name the entry of a section in errors from code that knows its settings but not its name.

    >>> with entry("models", "mine"):
    ...     raise UserError(at("models.*.cam_layer"), "found 'stem'", expected="a layer")
    Traceback (most recent call last):
    pipeline.core.errors.UserError: params.yaml: models.mine.cam_layer: found 'stem'; allowed: a layer
    """
    try:
        yield
    except UserError as error:
        unnamed, named = at(f"{section}.*"), at(f"{section}.{name}")
        if unnamed not in str(error):
            raise
        raise error.rewritten(lambda text: text.replace(unnamed, named)) from error


def explain_error(where: str, error: ValidationError, known: dict[str, Any] | None = None) -> UserError:
    """Turn pydantic's report into one line with the key, what was found and what is allowed."""
    first = _worst(error)
    key = _key(where, first)
    if first["type"] == "extra_forbidden":
        hint = nearest(first["loc"][-1], known or ())
        keys = ", ".join(sorted(known)) if known else "no further keys"
        return UserError(at(key), f"unknown key{hint} (allowed: {keys})")
    if first["type"] == "missing":
        return UserError(at(key), "missing", fix="it has no default")
    # One error for each type that the value might have had.
    same = [one for one in error.errors(include_url=False) if _key(where, one) == key]
    return UserError(at(key), f"found {shown(first['input'])}", expected=either(map(allowed, same)))


def _key(where: str, error: Any) -> str:
    """Return the key that one of pydantic's errors is about."""
    # Names in <> are the tags of unions, and no part of a key.
    inner = ("constrained", "function", "literal[", "tuple[", "[key]", "<")
    return ".".join([where, *(str(part) for part in error["loc"] if not str(part).startswith(inner))])


def _worst(error: ValidationError) -> Any:
    """Return an unknown key before anything else: where a key is misspelt, the right one is missing too."""
    errors = error.errors(include_url=False)
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


@overload
def check(where: str, kind: type[T], value: Any) -> T: ...


@overload
def check(where: str, kind: Any, value: Any) -> Any: ...


def check(where: str, kind: Any, value: Any) -> Any:
    """Check one value.

    Args:
        where: its key, for the message.
        kind: the type it must have: a `Settings` class or any annotation pydantic understands.
        value: what was found.

    Returns:
        The value as an instance of ``kind``.

    Raises:
        UserError: it does not fit; the message names the key, the value and what is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise explain_error(where, error, _fields_at(kind, error)) from None


def _fields_at(kind: Any, error: ValidationError) -> dict[str, Any] | None:
    """Return the fields of the (possibly nested) settings in which the error lies."""
    for part in _worst(error)["loc"][:-1]:
        fields = getattr(kind, "model_fields", {})
        if part in fields:
            kind = fields[part].rebuild_annotation()
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        kind = _tagged(kind, part) or kind
    return getattr(kind, "model_fields", None)


def _tagged(annotation: Any, tag: object) -> Any:
    """Return the type that carries a tag inside an annotation; None if none does."""
    arguments = get_args(annotation)
    if any(isinstance(one, Tag) and one.tag == tag for one in arguments):
        return arguments[0]
    return next((found for one in arguments if (found := _tagged(one, tag)) is not None), None)


def sections() -> list[str]:
    """Return the keys of the top level."""
    return list(_document(PARAMS))


def names(section: str) -> list[str]:
    """Return the keys of a section, in the order they are written."""
    return list(_lookup(section))


@overload
def read(key: str, kind: type[T]) -> T: ...


@overload
def read(key: str, kind: Any) -> Any: ...  # an annotation, such as `Seed`


def read(key: str, kind: Any) -> Any:
    """Return the value at a dotted key, checked.

    Args:
        key: for example ``saliency.lime``; the stage must have declared it (or a parent) to DVC.
        kind: the type to check against.

    Returns:
        An instance of ``kind``.

    Raises:
        UserError: the key is missing or its value does not fit.
    """
    return check(key, kind, _lookup(key))


def _lookup(key: str) -> Any:
    # Tests listen for this event and compare the keys with what dvc.yaml declares.
    sys.audit("cose.params", key)
    value: Any = _document(PARAMS)
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            near = nearest(part, value) if isinstance(value, dict) else ""
            raise UserError(at(key), f"there is no such key{near}")
        value = value[part]
    return value
