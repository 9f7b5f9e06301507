"""What dvc.yaml takes from params.yaml, checked before DVC reads it: what DVC cannot use is an "unexpected error"."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.allowed import shown
from pipeline.core.errors import UserError
from pipeline.core.names import checked, checked_cell
from pipeline.core.yaml_file import read_yaml

PARAMS = Path("params.yaml")
NEEDED: dict[str, tuple[str, ...]] = {"datasets": ("loader", "source"), "cells": ("dataset",), "saliency": ()}
"""The sections that stages are made from, and the keys that each of their entries needs there."""
ALONE = ("seed", "plan")
"""What stages depend on as it is."""
KINDS = {"datasets": "dataset", "saliency": "method"}


def check_sources() -> None:
    """Raise a `UserError` for the first dataset whose ``source`` is not there, which DVC calls "[Errno 2]"."""
    document = read_yaml(PARAMS)
    used = {cell["dataset"] for cell in document["cells"].values()}
    for name, entry in document["datasets"].items():
        if name in used and not Path(entry["source"]).exists():
            raise UserError(
                f"{PARAMS}: datasets.{name}.source",
                f"found {shown(entry['source'])}",
                fix="there is no such file or folder",
            )


def check_graph_values() -> None:
    """Raise a `UserError` for the first value of params.yaml that DVC could not make stages of."""
    document = read_yaml(PARAMS)
    for section in ALONE:
        if document.get(section) is None:
            raise UserError(f"{PARAMS}: {section}", "missing", fix="it has no default")
    for section, keys in NEEDED.items():
        entries = document.get(section)
        if not isinstance(entries, dict) or not entries:
            raise UserError(
                f"{PARAMS}: {section}", f"found {shown(entries)}", expected="a mapping with at least one entry"
            )
        for name, entry in entries.items():
            checked_cell(name) if section == "cells" else checked(name, KINDS[section])
            if not isinstance(entry, dict):
                raise UserError(f"{PARAMS}: {section}.{name}", f"found {shown(entry)}", expected="a mapping")
            for key in keys:
                value = entry.get(key)
                if not isinstance(value, str) or not value.isprintable() or "'" in value:
                    raise UserError(
                        f"{PARAMS}: {section}.{name}.{key}",
                        f"found {shown(value)}",
                        expected="printable text without quotes",
                    )
