"""The files beside a run: result, predictions, weights, confusion matrix."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import MissingError
from benchmark.folders import own_temporary_folder
from benchmark.result import TrialOutcome
from benchmark.tracking.schema import ADAPTER_FILE, CONFUSION_FILE, PREDICTIONS_FILE, RESULT_FILE, SPEC_FILE
from benchmark.tracking.store import local_artifacts, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FOLDERS_BELOW_ROOT = 3
"""`<study>/<run id>/artifacts` below the folder of all artifacts."""


def outcome_files(outcome: TrialOutcome) -> dict[str, bytes]:
    """Return the files of a trial that has ended, by name."""
    result = outcome.result
    files = {SPEC_FILE: pretty_json(result.spec), RESULT_FILE: pretty_json(result.model_dump())}
    if outcome.predictions is not None:
        files[PREDICTIONS_FILE] = predictions_as_parquet(outcome.predictions)
    if outcome.checkpoint is not None:
        files[ADAPTER_FILE] = outcome.checkpoint
    if result.confusion is not None:
        files[CONFUSION_FILE] = confusion_as_csv(result.confusion)
    return files


def pretty_json(value: Any) -> bytes:
    """Return JSON for reading; NaN and infinity, the losses of a diverged trial, are kept."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def predictions_as_parquet(npz: bytes) -> bytes:
    """Convert `TrialOutcome.predictions` to a table: identity, label, prediction, logits (list of float)."""
    import pyarrow
    import pyarrow.parquet

    with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
        identity, label, logits = arrays["identity"], arrays["label"], arrays["logits"].astype(np.float32)
    num_images, num_classes = logits.shape
    offsets = np.arange(0, (num_images + 1) * num_classes, num_classes, dtype=np.int32)
    columns = {
        "identity": pyarrow.array(identity.tolist(), pyarrow.string()),
        "label": pyarrow.array(label.astype(np.int64)),
        "prediction": pyarrow.array(logits.argmax(axis=1).astype(np.int64)),
        "logits": pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(logits.ravel())),
    }
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def predictions_from_parquet(parquet: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a predictions table: identity [N], label [N], prediction [N], logits [N, C]."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(parquet))
    logits = table["logits"].combine_chunks().flatten().to_numpy()
    return {
        "identity": np.array(table["identity"].to_pylist(), dtype=np.str_),
        "label": table["label"].to_numpy(),
        "prediction": table["prediction"].to_numpy(),
        "logits": logits.reshape(table.num_rows, logits.size // max(table.num_rows, 1)),
    }


def confusion_as_csv(confusion: list[list[int]]) -> bytes:
    """Return a confusion matrix as CSV; a row is a label, a column a prediction."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", *(f"predicted_{column}" for column in range(len(confusion)))])
    writer.writerows([row_label, *counts] for row_label, counts in enumerate(confusion))
    return text.getvalue().encode()


def upload(client: MlflowClient, run_id: str, files: dict[str, bytes]) -> None:
    """Store files beside a run; those already there are replaced."""
    with own_temporary_folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        client.log_artifacts(run_id, str(folder))


def download(client: MlflowClient, run_id: str, artifact_uri: str, name: str) -> bytes:
    """Return a file beside a run.

    An sqlite store's artifacts are read from the disk, also when the output folder has been moved or copied since: the
    database keeps absolute paths (`local_place`).

    Raises:
        MissingError: There is no such file.
    """
    if local_artifacts(client.tracking_uri) is not None:
        return read_local(client.tracking_uri, run_id, artifact_uri, name)
    with own_temporary_folder() as folder, store_errors(client.tracking_uri):
        return Path(client.download_artifacts(run_id, name, str(folder))).read_bytes()


def local_place(tracking_uri: str, artifact_uri: str) -> Path:
    """Return where a run's files lie on the disk, also when the output folder has been moved or copied since."""
    root = local_artifacts(tracking_uri)
    assert root is not None, "only an sqlite store keeps its files itself"
    return root.joinpath(*Path(artifact_uri).parts[-_FOLDERS_BELOW_ROOT:])


def read_local(tracking_uri: str, run_id: str, artifact_uri: str, name: str) -> bytes:
    """Return a file beside a run of an sqlite store.

    Raises:
        MissingError: There is no such file.
    """
    path = local_place(tracking_uri, artifact_uri) / name
    if not path.is_file():
        raise MissingError(f"{path}: this file of the run {run_id} is not there. Run the study again to write it.")
    return path.read_bytes()
