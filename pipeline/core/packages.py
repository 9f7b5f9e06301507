"""Files that installed packages carry: weights and photographs that need no download."""

from __future__ import annotations

import importlib.metadata as metadata
from pathlib import Path, PurePosixPath

from pipeline.core.errors import UserError


def package_files(package: str, pattern: str, where: str) -> list[Path]:
    """Return the files of an installed package whose path in it matches a pattern, sorted.

    The package is not imported.

    Args:
        package: name of the distribution, as in the lock file.
        pattern: of paths below site-packages, such as ``foolbox/data/*.jpg``; a path as it is matches itself.
        where: what asks for them, for the message.

    Raises:
        UserError: the package is not installed, or carries no such file.
    """
    try:
        listed = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise UserError(f"{where}: the package {package} is not installed; `make setup` installs it, or `pip install "
                        f"{package}`") from None  # fmt: skip
    places = (Path(str(file.locate())) for file in listed if PurePosixPath(file.as_posix()).match(pattern))
    found = sorted(place for place in places if place.is_file())
    if not found:
        raise UserError(f"{where}: the package {package} {metadata.version(package)} has no file {pattern}; install "
                        "the version of requirements.lock")  # fmt: skip
    return found
