"""Pictures as bytes and as arrays: decoding, encoding, and resizing them for a model."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from pipeline.core.errors import UserError

Pixels = npt.NDArray[np.uint8]
"""RGB images, uint8 in [0, 255], channels last: (N, H, W, 3), or (H, W, 3) for one."""

Interpolation = Literal["bilinear", "bicubic"]
"""How a model wants its images resized."""
FILTERS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000")
"""Formats that are read. Pillow knows more, one of which (EPS) runs another program on the file."""
LONGEST = 1000
"""How many times as long as wide a picture may be; a model sees a square of it."""
RESIZED_PIXELS = 100_000_000
"""Most pixels that an image may have once it is resized: 400 MB in Pillow."""


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return an (H, W, 3) or (H, W) uint8 array as the bytes of a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def open_image(encoded: bytes, source: str) -> Image.Image:
    """Decode one image file wholly.

    Args:
        encoded: the bytes of a file in one of `FORMATS`.
        source: what to call the file in an error.

    Returns:
        The decoded image, upright (EXIF), in its own mode; 16-bit ones are scaled to 8 bits.

    Raises:
        UserError: the bytes are not an image, the file is cut short, or the image is a thin strip.
    """
    try:
        opened = Image.open(io.BytesIO(encoded), formats=FORMATS)
        short, long = sorted(opened.size)
        if long > LONGEST * short:  # before it is unpacked
            raise UserError(
                source,
                f"found an image of {opened.width} by {opened.height} pixels",
                expected=f"at most {LONGEST} times as long as wide, so crop or remove it",
            )
        opened.load()
        image: Image.Image = ImageOps.exif_transpose(opened)
    except Exception as error:  # Pillow's readers trip over damage in their own ways: struct.error, KeyError, ...
        if isinstance(error, UserError | MemoryError):
            raise
        reason = " ".join(re.sub(r"<_io.BytesIO.*>", "it", str(error)).split()) or type(error).__name__
        raise UserError(source, f"not a readable image ({reason})", fix="replace or remove the file") from None
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image


def fit(
    image: Image.Image, size: int, crop_fraction: float, resample: Image.Resampling, *, source: str = "image"
) -> Image.Image:
    """Resize the shorter side to ``size / crop_fraction`` and cut out the central square.

    Equals, bit for bit, torchvision's `Resize(round(size / crop_fraction))` and `CenterCrop(size)` on a Pillow image.

    Args:
        image: any Pillow image.
        size: side of the square, in pixels.
        crop_fraction: in (0, 1]; how much of the resized shorter side is kept (224 of 256 is 0.875).
        resample: Pillow's resampling filter; antialiased but for NEAREST, which is for masks.
        source: what to call the image in an error.

    Returns:
        A Pillow image of ``size`` by ``size``, the same mode.

    Raises:
        UserError: the image is so long that it would take gigabytes once resized.
    """
    short = round(size / crop_fraction)
    width, height = resized(image.size, short)
    if width * height > RESIZED_PIXELS:
        raise UserError(
            source,
            f"found an image of {image.width} by {image.height} pixels, {width} by {height} once its "
            f"shorter side is {short}",
            expected=f"at most {RESIZED_PIXELS:,} pixels then, so crop or remove it",
        )
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    left, top = (round((side - size) / 2) for side in (width, height))  # halves to even
    return image.crop((left, top, left + size, top + size))


def resized(sides: tuple[int, int], short: int) -> tuple[int, int]:
    """Return the sides (width, height) of an image once the shorter one is ``short``; the other is rounded down."""
    width, height = sides
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def decode_images(
    encoded: Iterable[bytes], size: int, crop_fraction: float, source: str, *, interpolation: Interpolation = "bilinear"
) -> Pixels:
    """Decode image files to one array at a model's input size.

    Args:
        encoded: the files' bytes.
        size: side of the square images, in pixels.
        crop_fraction: see `fit`.
        source: what to call the files in an error.
        interpolation: how they are resized, antialiased as torchvision resizes Pillow images.

    Returns:
        uint8 array (N, size, size, 3), RGB.

    Raises:
        UserError: a file is not a readable image, or one far too long.
    """
    resample = FILTERS[interpolation]
    fitted = [
        np.asarray(fit(open_image(one, source).convert("RGB"), size, crop_fraction, resample, source=source))
        for one in encoded
    ]
    return np.stack(fitted) if fitted else np.zeros((0, size, size, 3), np.uint8)
