from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmark.datasets.reading.decoding import decode_image
from benchmark.errors import RequestError
from tests.unit.benchmark.datasets.image_files import pixels, png_bytes


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    image = decode_image(content, "a file")
    assert image.mode == "RGB"
    return np.asarray(image)


def test_grey_levels_are_repeated_when_the_image_is_grey() -> None:
    grey = pixels(1)[..., 0]
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(grey), "PNG")), np.repeat(grey[..., None], 3, -1))


def test_levels_are_scaled_when_the_image_has_16_bit() -> None:
    # Level 257 k of 16 bit is level k of 8 bit exactly (65535 / 255 = 257).
    levels = (np.arange(48, dtype=np.uint16) * 5 * 257).reshape(6, 8)
    grey = np.arange(48).reshape(6, 8) * 5
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(levels), "PNG"))[..., 1], grey)


def test_colours_are_those_of_the_palette_when_the_image_has_one() -> None:
    image = Image.fromarray(pixels(2)).quantize(16)
    np.testing.assert_array_equal(decoded(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


def test_transparency_is_dropped_when_the_palette_has_some() -> None:
    image = Image.fromarray(pixels(3)).quantize(16)
    content = encoded(image, "PNG", transparency=bytes(range(16)))
    np.testing.assert_array_equal(decoded(content), np.asarray(image.convert("RGB")))


def test_inks_become_colours_when_the_image_is_cmyk() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    # No cyan, full magenta and yellow is red; JPEG moves a flat colour by a level or two.
    np.testing.assert_allclose(decoded(encoded(image, "JPEG", quality=100)).mean((0, 1)), [255, 0, 0], atol=3)


def test_image_is_upright_when_exif_says_it_is_rotated() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF 2.3, tag Orientation: 6 = the stored rows are the columns from right to left
    stored = pixels(4)
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(stored), "PNG", exif=exif)), np.rot90(stored, -1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_file_is_named_when_the_image_is_truncated(kind: str) -> None:
    content = encoded(Image.fromarray(pixels(5, 64, 64)), kind)
    with pytest.raises(RequestError, match=r"photos/a\.png.*corrupt, truncated"):
        decode_image(content[: len(content) // 2], "photos/a.png")


@pytest.mark.parametrize("content", [b"", b"no image at all", png_bytes(6)[:30]])
def test_file_is_named_when_the_bytes_are_no_image(content: bytes) -> None:
    with pytest.raises(RequestError, match="photos/a"):
        decode_image(content, "photos/a.png")


def test_floats_are_refused_when_a_tiff_holds_them() -> None:
    content = encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(RequestError, match="8 or 16 bit"):
        decode_image(content, "a.tif")
