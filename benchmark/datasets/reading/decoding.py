"""From an image file's bytes to RGB, upright, 8 bit, whatever the file holds."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from benchmark.errors import RequestError

if TYPE_CHECKING:
    import PIL.Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
_LEVELS_PER_8_BIT_LEVEL = 257
"""65535 / 255: 16-bit levels in one 8-bit level."""


def decode_image(content: bytes, where: str) -> PIL.Image.Image:
    """Decode one image.

    Args:
        content: The file's bytes.
        where: Name of the file, for the error.

    Returns:
        A fully read RGB image of 8 bit a channel, turned upright as its EXIF tag says. Transparency is dropped.

    Raises:
        RequestError: The bytes are no image, a truncated one, or of a pixel type without a defined range.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return as_rgb(ImageOps.exif_transpose(image), where)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        told = "no known format" if isinstance(error, UnidentifiedImageError) else error or type(error).__name__
        rule = f"the image is corrupt, truncated or of an unknown kind: {told}"
        raise RequestError(where, f"{len(content)} bytes", rule, "Replace or remove the file.") from error


def as_rgb(image: PIL.Image.Image, where: str) -> PIL.Image.Image:
    """Return an image of any mode as 8-bit RGB.

    Raises:
        RequestError: Its pixels have no defined range (32-bit integers beyond 16 bit, floats).
    """
    from PIL import Image

    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return _from_16_bit(image, where)
    if image.mode == "F":
        raise RequestError(where, "float pixels", "float images have no defined range", "Save it with 8 or 16 bit.")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    return rgb if isinstance(rgb, Image.Image) else image


def _from_16_bit(image: PIL.Image.Image, where: str) -> PIL.Image.Image:
    """Scale 0..65535 to 0..255: Pillow's own conversion clips everything above 255 to white."""
    import numpy as np
    from PIL import Image

    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        found = f"levels {levels.min()} to {levels.max()}"
        raise RequestError(where, found, "integer images must have 8 or 16 bit", "Save it with 8 or 16 bit.")
    grey = np.rint(levels / _LEVELS_PER_8_BIT_LEVEL).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
