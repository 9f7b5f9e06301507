"""The grid: which cells there are, which methods explain each, and which do not, with the reason."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.core import params
from pipeline.core.names import checked, checked_cell
from pipeline.core.params import Settings

Reason = Annotated[str, Field(min_length=1, max_length=200)]


class CellSettings(Settings):
    """A cell of the grid.

    Attributes:
        dataset: name of one of ``datasets``.
        model: name of one of ``models``.
        without: methods that do not explain it, each with the reason.
    """

    dataset: str
    model: str
    without: dict[str, Reason] = Field(default_factory=dict)


def cells() -> dict[str, CellSettings]:
    """Return the cells of params.yaml by their names, which are safe in paths and commands."""
    # All at once: their names may have dots, which in a key stand between sections.
    found: dict[str, CellSettings] = params.read("cells", dict[str, CellSettings])
    return {checked_cell(name): cell for name, cell in found.items()}


def methods() -> list[str]:
    """Return the names of the methods in params.yaml, which are safe in paths and commands."""
    return [checked(name, "method") for name in params.names("saliency")]
