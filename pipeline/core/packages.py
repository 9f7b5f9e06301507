"""Files that installed packages carry, such as photographs and weights, found without importing any of them.

The one module that may import `importlib.metadata`: it reads what an installer wrote down, and loads no code.
"""

from __future__ import annotations

import importlib.metadata as metadata
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.core.errors import UserError


def installed_files(package: str, pattern: str) -> list[Path]:
    """Return the files of an installed package whose paths match a pattern.

    Args:
        package: its name, as an installer takes it.
        pattern: of paths as the package lists them, such as ``foolbox/data/*.jpg``.

    Returns:
        Where they lie, in the order of their paths; at least one.

    Raises:
        UserError: the package is not installed, or lacks such a file; the message says what to install.
    """
    try:
        version, listed = metadata.version(package), metadata.files(package)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"package {package}",
            "not installed",
            expected=f"the one in requirements.lock (`make setup` installs it, and so does `pip install {package}`)",
        ) from None
    found = sorted(
        (one for one in listed or () if fnmatchcase(one.as_posix(), pattern)), key=lambda one: one.as_posix()
    )
    files = [Path(one.locate()) for one in found]
    absent = next((str(file) for file in files if not file.is_file()), pattern if not files else None)
    if absent is not None:
        raise UserError(
            f"package {package} {version}",
            f"found no file {absent}",
            expected=f"the version in requirements.lock, installed whole (`pip install --force-reinstall {package}`)",
        )
    return files


def is_installed(package: str) -> bool:
    """Say whether a package is installed."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
