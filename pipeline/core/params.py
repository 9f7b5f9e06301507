"""params.yaml as checked, frozen values; nothing else reads that file.

Every value has a type and a range, declared beside what reads it. What a section leaves out is an error, except where
its declaration says what is assumed instead. A stage reads only the keys that it declares to DVC.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Tag, TypeAdapter, ValidationError

from pipeline.core.errors import UserError, nearest

PARAMS = Path("params.yaml")


class Settings(BaseModel):
    """A section of params.yaml: frozen, no unknown keys, no silent conversions (a quoted number is an error)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, and anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
ImageSize = Annotated[int, Field(ge=16, le=1024, strict=True)]
Channels = Annotated[tuple[float, float, float], BeforeValidator(as_tuple)]
Percents = Annotated[tuple[Annotated[int, Field(ge=1, le=99)], ...], BeforeValidator(as_tuple)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Strings = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]


class _Yaml12(yaml.SafeLoader):
    """Reads numbers and truth values as YAML 1.2 and DVC do: 1e-4 is a number, and `no` is a word."""


_Yaml12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"),
    list("-+.0123456789"),
)
_Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


@cache
def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Yaml12)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; run from the root of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: found {type(document).__name__}; a mapping of sections is allowed")
    return document


def explain_error(where: str, error: ValidationError, known: dict[str, Any] | None = None) -> UserError:
    """Turn pydantic's report into one line with the key, what was found and what is allowed."""
    first = _worst(error)
    # Names in <> are the tags of unions, and no part of a key.
    inner = ("constrained", "function", "literal[", "tuple[", "[key]", "<")
    key = ".".join([where, *(str(part) for part in first["loc"] if not str(part).startswith(inner))])
    if first["type"] == "extra_forbidden":
        hint = nearest(first["loc"][-1], known or ())
        allowed = ", ".join(sorted(known)) if known else "no further keys"
        return UserError(f"{PARAMS}: {key}: unknown key{hint} (allowed: {allowed})")
    if first["type"] == "missing":
        return UserError(f"{PARAMS}: {key}: missing; it has no default")
    found = first["input"]
    message = first["msg"].removeprefix("Value error, ").replace("tuple", "list")
    message = re.sub(r"dictionary( or instance of \w+)?", "mapping", message)
    if first["type"] == "string_type" and isinstance(found, int | float):
        message += ", in quotes"
    return UserError(f"{PARAMS}: {key}: found {found!r}; allowed: {message[:1].lower()}{message[1:]}")


def _worst(error: ValidationError) -> Any:
    """Return an unknown key before anything else: where a key is misspelt, the right one is missing too."""
    errors = error.errors(include_url=False)
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


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
    """Return the type that carries a tag inside an annotation; None where none does."""
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
            raise UserError(f"{PARAMS}: {key}: there is no such key{near}")
        value = value[part]
    return value
