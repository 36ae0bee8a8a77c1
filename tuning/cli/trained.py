"""`adaptertune export` and `adaptertune predict`: what comes after a study."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuning.cli.output import (
    DEFAULT_OUTPUT,
    AsJson,
    OutputDirectory,
    TrackingUri,
    console,
    errors,
    print_json,
    tracking_uri_or_default,
)

if TYPE_CHECKING:
    from benchmark.prediction import Prediction

EXPORT_EXAMPLE = "Example: adaptertune export demo --output exported"
PREDICT_EXAMPLE = "Example: adaptertune predict demo photos/ > labels.csv"

SOME_UNREADABLE = 1

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A study, for its best trial on validation; an MLflow run id; a trial id; or an exported folder.",
    ),
]


def export(
    run: Run,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the files go.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Also write the whole model with the adaptation in its weights.")
    ] = False,
    results: Annotated[
        Path,
        typer.Option("--results", metavar="DIR", envvar="ADAPTERTUNE_OUTPUT", help="Where the study's results are."),
    ] = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Write a trained adapter as safetensors, with its record and a model card."""
    from benchmark.export import write_export
    from tuning.trained_trials import find_trained

    trained = find_trained(run, results, tracking_uri_or_default(tracking_uri, results))
    files = write_export(trained, output, merge)
    if as_json:
        print_json({"trial_id": trained.result.trial_id, "files": [str(path) for path in files]})
    else:
        console.print(f"trial {trained.result.trial_id}: {', '.join(map(str, files))}", soft_wrap=True)
    return 0


def predict(
    run: Run,
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="An image, or a folder of images.", exists=True)],
    top: Annotated[int, typer.Option(min=1, help="How many of the likeliest classes to name.")] = 1,
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Label new images with a trained adapter: CSV on stdout, a row an image and class. Unreadable files are named."""
    from benchmark.prediction import find_images
    from benchmark.prediction import predict as predictions_of
    from tuning.trained_trials import find_trained

    paths = find_images(images)
    trained = find_trained(run, output, tracking_uri_or_default(tracking_uri, output))
    predictions = list(predictions_of(trained, paths, min(top, trained.num_classes)))
    if as_json:
        print_json({"trial_id": trained.result.trial_id, "predictions": [_as_document(one) for one in predictions]})
    else:
        _write_csv(predictions)
    unreadable = [one for one in predictions if one.error is not None]
    for one in unreadable:
        errors.print(one.error, markup=False, highlight=False, soft_wrap=True)
    return SOME_UNREADABLE if unreadable else 0


def _as_document(prediction: Prediction) -> dict[str, Any]:
    likeliest = zip(prediction.labels, prediction.probabilities, strict=True)
    return {
        "path": str(prediction.path),
        "error": prediction.error,
        "labels": [{"label": label, "probability": probability} for label, probability in likeliest],
    }


def _write_csv(predictions: Sequence[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "label", "probability"])
    for one in predictions:
        likeliest = zip(one.labels, one.probabilities, strict=True)
        writer.writerows([one.path, rank, label, f"{share:.4f}"] for rank, (label, share) in enumerate(likeliest, 1))
