"""Registries that are folders: one file per entry, found by its name.

A dict of all methods in one file would be part of the code of every explain stage, so adding a method would rerun all
the others. Here the folder is the registry: ``METHODS["lime"]`` is `pipeline/saliency/methods/lime.py`, and a stage
that explains with it depends on that one file. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.core import params
from pipeline.core.errors import UserError, unknown_name

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """The entries of one folder, imported when they are asked for."""

    def __init__(self, package: str, attribute: str, kind: str) -> None:
        """Describe a folder.

        Args:
            package: the package whose modules are the entries.
            attribute: what each module calls its entry.
            kind: what an entry is called in messages.
        """
        self._package, self._attribute, self._kind = package, attribute, kind
        folder = Path(__file__).parent.parent.joinpath(*package.split(".")[1:])
        self._names = tuple(sorted(file.stem for file in folder.glob("[a-z]*.py")))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._names:
            raise KeyError(name)
        module = importlib.import_module(f"{self._package}.{name}")
        if not hasattr(module, self._attribute):
            raise UserError(
                f"{'/'.join(self._package.split('.'))}/{name}.py",
                f"found no {self._attribute}",
                expected=f"one that says what the {self._kind} is (CONTRIBUTING.md)",
            )
        entry: Entry = getattr(module, self._attribute)
        return entry

    def find(self, name: str, key: str) -> Entry:
        """Return the entry called ``name``; an unknown name is a `UserError` that points at ``key``."""
        if name not in self._names:
            raise unknown_name(params.at(key), self._kind, name, self._names)
        return self[name]
