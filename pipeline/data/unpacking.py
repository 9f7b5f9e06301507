"""Unpacking tar and zip archives that nobody vouches for: no member may be written outside of the folder it goes to."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from pipeline.core.errors import UserError

TARS = (".tar", ".tar.gz", ".tgz")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, KeyError, ValueError)
"""What unpacking raises for an archive that is cut short or garbled, links to nothing, has names that no file may have
or fills the disk."""


def is_packed(file: Path) -> bool:
    """Say whether a file is, by its ending, an archive that `unpack` takes."""
    return file.name.endswith((*TARS, ".zip"))


def reason(error: Exception) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def unpack(file: Path, target: Path, shown: str) -> None:
    """Unpack an archive.

    Args:
        file: the archive; see `is_packed`.
        target: the folder that its members go to.
        shown: what to call the archive in an error.

    Raises:
        UserError: it cannot be unpacked, or a member would lie or point outside of the folder.
    """
    try:
        if file.name.endswith(".zip"):
            with zipfile.ZipFile(file) as zipped:
                for name in zipped.namelist():
                    _refuse_outside(name, shown)
                zipped.extractall(target)
        else:
            with tarfile.open(file) as tarred:
                if hasattr(tarfile, "data_filter"):
                    tarred.extractall(target, filter=_admit(shown))
                else:  # Python before 3.11.4
                    tarred.extractall(target, [_plain(member, shown) for member in tarred])
    except DAMAGE as error:
        raise UserError(shown, f"cannot be unpacked ({reason(error)})") from None


def _refuse_outside(name: str, shown: str) -> None:
    paths = PurePosixPath(name), PureWindowsPath(name)
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in paths):
        raise UserError(shown, f"found the member {name!r}", expected="paths below the folder it is unpacked to")


def _admit(shown: str) -> Callable[[tarfile.TarInfo, str], tarfile.TarInfo]:
    def admit(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo:
        _refuse_outside(member.name, shown)
        try:
            return tarfile.data_filter(member, target)
        except tarfile.FilterError:
            raise UserError(
                shown,
                f"found the member {member.name!r}",
                expected="files, folders and links below the folder it is unpacked to",
            ) from None

    return admit


def _plain(member: tarfile.TarInfo, shown: str) -> tarfile.TarInfo:
    """Return a member without the owner and the permissions it brings; only files and folders are accepted."""
    _refuse_outside(member.name, shown)
    if not (member.isfile() or member.isdir()):
        raise UserError(
            shown, f"found the member {member.name!r}", expected="files and folders (links need Python 3.11.4 or newer)"
        )
    member.mode = 0o755 if member.isdir() else 0o644
    member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
    return member
