"""Labels for new images, shown to the model exactly as evaluation showed it the test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.datasets.reading.decoding import IMAGE_SUFFIXES, decode_image
from benchmark.errors import MissingError, RequestError
from benchmark.export import TrainedTrial
from benchmark.training.images import SplitImages
from benchmark.training.input.decoded_index import largest_shorter_side, stored_pixels
from benchmark.training.input.stored import StoredImages
from benchmark.training.model import AdaptedClassifier
from benchmark.training.pretrained import presentation_of

IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        path: The image's file.
        labels: Class names, the likeliest first.
        probabilities: Of these classes, fractions in [0, 1]: the softmax, which is not calibrated.
        error: Why the file could not be read; then there are no labels.
    """

    path: Path
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


def find_images(place: Path) -> list[Path]:
    """Return the image files at a place: the file itself, or all below the folder, sorted.

    Raises:
        MissingError: There are none.
    """
    paths = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise MissingError(f"{place}: there is no image; give a file, or a folder that holds some ({kinds})")
    return images


@torch.no_grad()
def predict(trained: TrainedTrial, paths: Sequence[Path], num_labels: int = 1) -> Iterator[Prediction]:
    """Yield a prediction for every file, in order; a file that is no image yields its error.

    Args:
        trained: The trained trial.
        paths: Image files.
        num_labels: How many of the likeliest classes to name.

    Raises:
        MissingError: The backbone's weights are not here.
    """
    model = trained.build()
    for start in range(0, len(paths), IMAGES_AT_ONCE):
        yield from _predict_some(trained, model, paths[start : start + IMAGES_AT_ONCE], num_labels)


def _predict_some(
    trained: TrainedTrial, model: AdaptedClassifier, paths: Sequence[Path], num_labels: int
) -> list[Prediction]:
    limit = largest_shorter_side(trained.spec.backbone.image_size_pixels)
    pixels, errors = {}, {}
    for path in paths:
        try:
            pixels[path] = stored_pixels(decode_image(path.read_bytes(), str(path)), limit)
        except (RequestError, OSError) as error:
            errors[path] = str(error)
    labelled = _labelled(trained, model, pixels, num_labels) if pixels else {}
    return [labelled[path] if path in labelled else Prediction(path, error=errors[path]) for path in paths]


def _labelled(
    trained: TrainedTrial, model: AdaptedClassifier, pixels: dict[Path, np.ndarray], num_labels: int
) -> dict[Path, Prediction]:
    sizes = np.array([image.shape[:2] for image in pixels.values()], dtype=np.int64)
    buffer = np.concatenate([image.reshape(-1) for image in pixels.values()])
    names = np.array([str(path) for path in pixels])
    stored = StoredImages.of_one_buffer(names, np.zeros(len(names), dtype=np.int64), sizes, buffer)
    images = SplitImages(stored, presentation_of(trained.spec))
    likeliest = model(images.batch(torch.arange(len(names)), "cpu")).softmax(dim=1).topk(num_labels)
    return {
        path: Prediction(path, tuple(trained.class_names[label] for label in labels), tuple(probabilities))
        for path, labels, probabilities in zip(
            pixels, likeliest.indices.tolist(), likeliest.values.tolist(), strict=True
        )
    }
