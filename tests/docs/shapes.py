"""`draw-shapes FOLDER`: a folder of small images of two classes, for pages that speak of the reader's own."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

NUM_IMAGES = {"train": 40, "test": 20}


def draw(folder: Path) -> None:
    """Draw circles and squares of different sizes."""
    for split, number in NUM_IMAGES.items():
        for kind in ("circle", "square"):
            (folder / split / kind).mkdir(parents=True)
            for index in range(number):
                image = Image.new("RGB", (32, 32), (4 * index, 90, 90))
                shape = ImageDraw.Draw(image)
                paint = shape.ellipse if kind == "circle" else shape.rectangle
                paint((4 + index % 5, 6, 20 + index % 7, 24), "white")
                image.save(folder / split / kind / f"{index}.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
