"""A data set's facts as a row of a list; what no public source states is `unknown`, never left out."""

from __future__ import annotations

from typing import Any

from benchmark.datasets.contract import UNKNOWN, Dataset
from benchmark.datasets.reading.local import LocalDataset
from benchmark.datasets.reading.public import PublicDataset
from benchmark.datasets.storage.pins import pinned_checksums

OF_YOUR_DATA = "of your data"


def as_row(dataset: Dataset) -> dict[str, Any]:
    """Return a data set's facts for people and for JSON."""
    info = dataset.info
    is_kind = isinstance(dataset, LocalDataset) and dataset.place is None
    return {
        "name": info.name,
        "title": info.title,
        "num_classes": None if is_kind else info.num_classes,
        "num_images": {} if is_kind else dict(info.num_images),
        "split": info.split_note,
        "split_sha256": None if is_kind else dataset.split_sha256,
        "checksum": checksums(dataset),
        "licence": info.licence,
        "source": info.source,
        "counts_source": info.counts_source or (OF_YOUR_DATA if is_kind else "the package"),
    }


def checksums(dataset: Dataset) -> dict[str, str]:
    """Return each file's published checksum; `unknown` where nobody states one, with what was pinned here."""
    pins = pinned_checksums(dataset.root) if isinstance(dataset, PublicDataset) else {}
    return {
        file.name: file.checksum or (f"{UNKNOWN}, pinned here: {pins[file.name]}" if file.name in pins else UNKNOWN)
        for file in dataset.info.files
    }
