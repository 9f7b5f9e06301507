"""Downloading a published file: whole, or not at all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write

TIMEOUT = 60.0
"""Seconds without any data after which a download fails."""


def download(url: str, file: Path, check: Callable[[Path], None], alternative: str) -> None:
    """Download a file that is not here.

    Args:
        url: where it is.
        file: where it goes, once it is complete and has passed the check.
        check: raises an error for a file that is not the right one.
        alternative: what the user can do where downloading is not possible.

    Raises:
        UserError: it cannot be downloaded, or is cut short; nothing is left behind.
    """
    try:
        with atomic_write(file) as draft:
            if url.startswith("file:"):
                with urlopen(url) as answer, draft.open("wb") as target:
                    shutil.copyfileobj(answer, target)
            else:
                _fetch(url, draft)
            check(draft)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            file, f"there is no such file, and it could not be downloaded ({reason})", fix=alternative
        ) from None


def _fetch(url: str, file: Path) -> None:
    from pooch import HTTPDownloader  # and requests with it, which only a download needs

    promised: list[int] = []

    def look(response: Any, **_: Any) -> None:
        if response.is_redirect:
            target = urljoin(response.url, response.headers["location"])
            if response.url.startswith("https:") and not target.startswith("https:"):
                raise OSError(f"it leads from https to {target}")
        elif "Content-Length" in response.headers:
            promised[:] = [int(response.headers["Content-Length"])]
        # Some servers call an archive's own compression an encoding, and requests would undo it.
        response.raw.headers.pop("Content-Encoding", None)

    fetch = HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 20,
        timeout=TIMEOUT,
        # Some servers turn clients away that do not say who they are.
        headers={"User-Agent": "cose", "Accept-Encoding": "identity"},
        hooks={"response": look},
    )
    fetch(url, str(file), None)
    found = file.stat().st_size
    if promised and found != promised[0]:
        raise OSError(f"{found} of {promised[0]} bytes came")
