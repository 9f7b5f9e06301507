"""Pictures as bytes and as arrays: decoding, encoding, and bringing them to a model's size."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError

Pixels = npt.NDArray[np.uint8]
"""RGB images, uint8 in [0, 255], channels last: (N, H, W, 3), or (H, W, 3) for one."""


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return an (H, W, 3) or (H, W) uint8 array as the bytes of a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def open_image(encoded: bytes, source: str) -> Image.Image:
    """Decode one image file wholly.

    Args:
        encoded: the bytes of a file in any format Pillow reads.
        source: what to call the file in an error.

    Returns:
        The decoded image, upright (EXIF), in its own mode; 16-bit ones are scaled to 8 bits.

    Raises:
        UserError: the bytes are no image, or the file is cut short.
    """
    try:
        opened = Image.open(io.BytesIO(encoded))
        opened.load()
        image: Image.Image = ImageOps.exif_transpose(opened)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(re.sub(r"<_io.BytesIO.*>", "it", str(error)).split())
        raise UserError(f"{source}: not a readable image ({reason}); replace or remove the file") from None
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image


def fit(image: Image.Image, size: int, crop_fraction: float, resample: Image.Resampling) -> Image.Image:
    """Resize the shorter side to ``size / crop_fraction`` and cut out the central square.

    Args:
        image: any Pillow image.
        size: side of the square, in pixels.
        crop_fraction: in (0, 1]; how much of the resized shorter side is kept (224 of 256 is 0.875).
        resample: Pillow's resampling filter.

    Returns:
        A Pillow image of ``size`` by ``size``, the same mode.
    """
    short = max(size, round(size / crop_fraction))
    scale = short / min(image.size)
    width, height = (max(short, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode_images(encoded: Iterable[bytes], size: int, crop_fraction: float, source: str) -> Pixels:
    """Decode image files to one array at a model's input size.

    Args:
        encoded: the files' bytes.
        size: side of the square images, in pixels.
        crop_fraction: see `fit`.
        source: what to call the files in an error.

    Returns:
        uint8 array (N, size, size, 3), RGB, resized bilinearly (antialiased, as torchvision resizes Pillow images).

    Raises:
        UserError: a file is no readable image.
    """
    fitted = [
        np.asarray(fit(open_image(one, source).convert("RGB"), size, crop_fraction, Image.Resampling.BILINEAR))
        for one in encoded
    ]
    return np.stack(fitted) if fitted else np.zeros((0, size, size, 3), np.uint8)
