"""Bringing a published file here: whole, or not at all."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write

PATIENCE = 60.0
"""Seconds after which a download that brings nothing is given up."""


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
            request = urllib.request.Request(url, headers={"User-Agent": "cose"})  # some servers turn Python's away
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer, draft.open("wb") as target:
                shutil.copyfileobj(answer, target, 1 << 20)
                promised = answer.headers.get("Content-Length")
            found = draft.stat().st_size
            if promised is not None and found != int(promised):
                raise OSError(f"{found} of {promised} bytes came")
            check(draft)
    except (OSError, ValueError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            file, f"there is no such file, and it could not be downloaded ({reason})", fix=alternative
        ) from None
