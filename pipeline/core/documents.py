"""JSON files that a stage leaves for the next ones, checked when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.core.allowed import allowed, shown
from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED, read_json
from pipeline.core.params import Settings

Document = TypeVar("Document", bound=Settings)


def read_document(file: Path, kind: type[Document]) -> Document:
    """Return what a JSON file holds.

    Args:
        file: the file.
        kind: the type of its content.

    Raises:
        UserError: the file is missing, is not valid JSON, or does not fit; the message names the key and the value.
    """
    return as_document(read_json(file), kind, file)


def as_document(content: Any, kind: type[Document], file: Path) -> Document:
    """Return a part of what a JSON file holds; see `read_document`."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"{file}: {key}" if key else str(file)
        if first["type"] == "missing":
            raise UserError(where, "missing", fix=DAMAGED) from None
        raise UserError(where, f"found {shown(first['input'])}", expected=allowed(first), fix=DAMAGED) from None
