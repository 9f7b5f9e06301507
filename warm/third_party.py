"""What to preload: everything that the project's code imports and that is not the project's."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("pipeline", "stages")


def imported(root: Path) -> list[tuple[str, str]]:
    """Return all imports of others' modules anywhere in the code, as module and name, in the order of the files.

    The code is read and not run. The name is empty for ``import module``. A file that cannot be read is passed over:
    its stage will say so.
    """
    own = {path.stem for path in root.iterdir()}
    found: dict[tuple[str, str], None] = {}
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*.py")):
            try:
                tree = ast.parse(file.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            found |= dict.fromkeys(one for one in _of(tree) if one[0].split(".")[0] not in own)
    return list(found)


def _of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def load(module: str, name: str) -> None:
    """Import as a statement of the code would; what fails is left to the stage that needs it."""
    try:
        found = importlib.import_module(module)
        if name and not hasattr(found, name):  # asking alone loads what a package loads late
            importlib.import_module(f"{module}.{name}")
    except (Exception, SystemExit):
        return
