"""Image files as they lie on disk: read one by one where memory does not hold all, and asked for their size."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import overload

from PIL import ExifTags, Image

from pipeline.core.device import threads
from pipeline.core.errors import UserError
from pipeline.core.parallel import in_order
from pipeline.data.decode import FORMATS, open_image


def read_file(file: Path) -> bytes:
    """Return the bytes of a file that the publisher's copy has; that it cannot be read is a `UserError`."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # reading a pipe would never end
            raise UserError(file, f"found {('a folder' if file.is_dir() else 'no file')}", expected="a file")
        return file.read_bytes()
    except FileNotFoundError:
        raise UserError(file, "there is no such file", fix="is the copy incomplete?") from None
    except OSError as error:
        raise UserError(file, f"cannot be read ({error.strerror})") from None
    except ValueError as error:  # a path with a zero byte
        raise UserError(f"{str(file)!r}", f"cannot be read ({error})") from None


def read_header(file: Path) -> tuple[tuple[int, int], int]:
    """Read the beginning of an image file.

    Returns:
        Width and height in pixels as they are stored, and how the image must be turned to be upright: EXIF's
        orientation, 1 to 8, of which 1 is not at all.

    Raises:
        UserError: the file is missing or not an image.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            return image.size, orientation if orientation in range(1, 9) else 1
    except FileNotFoundError:
        raise UserError(file, "there is no such file", fix="is the copy incomplete?") from None
    except Exception as error:  # see `pipeline.data.decode.open_image`
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(file, f"not a readable image ({reason})", fix="replace or remove the file") from None


class ImageFiles(Sequence[bytes]):
    """The bytes of image files, each read when it is asked for and known to be a whole image."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Take the files, of any format Pillow reads; none is opened yet."""
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, position: int) -> bytes: ...
    @overload
    def __getitem__(self, position: slice) -> ImageFiles: ...
    def __getitem__(self, position: int | slice) -> bytes | ImageFiles:
        if isinstance(position, slice):
            return ImageFiles(self._files[position])
        return _read(self._files[position])

    def __iter__(self) -> Iterator[bytes]:
        """Read the files on all cores, a few ahead of what is taken."""
        with closing(in_order(_read, self._files, threads())) as read:
            yield from read


def _read(file: Path) -> bytes:
    encoded = read_file(file)
    open_image(encoded, str(file))
    return encoded
