from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.datasets.contract import find_dataset, open_dataset
from benchmark.datasets.reading.splitting import SPLITS
from benchmark.errors import MissingError, RequestError
from benchmark.request import resolve_trial
from tests.unit.benchmark.datasets.image_files import pixels, png_bytes

datasets = pytest.importorskip("datasets", reason="the extra `hf` is not installed")


def save(folder: Path, parts: dict[str, list[int]], names: tuple[str, ...] = ("cat", "dog"), **change: Any) -> Path:
    """Write a set as `save_to_disk` does; each part lists its images' seeds, the labels alternate."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    tables = {}
    for part, seeds in parts.items():
        images = [{"bytes": png_bytes(seed), "path": None} for seed in seeds]
        rows = {"image": images, "label": change.get(part, [row % 2 for row in range(len(seeds))])}
        tables[part] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(tables).save_to_disk(str(folder))
    return folder


def trial_of(dataset: object) -> Any:
    return resolve_trial({"backbone": "vit_nano", "dataset": dataset, "method": "head_only"})


def test_a_tenth_is_held_out_when_there_is_no_validation_split(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", {"train": list(range(20)), "test": [50, 51]})
    dataset = find_dataset(f"hf:{folder}")
    assert {split: len(dataset.items(split).labels) for split in SPLITS} == {"train": 18, "validation": 2, "test": 2}
    assert dataset.info.class_names == ("cat", "dog")
    np.testing.assert_array_equal(np.asarray(dataset.items("test").decode(1)), pixels(51))


def test_identity_is_by_content_when_the_folder_is_elsewhere(tmp_path: Path) -> None:
    parts = {"train": list(range(20)), "validation": [40, 41], "test": [50, 51]}
    first, second = (trial_of(f"hf:{save(tmp_path / name, parts)}") for name in ("a", "b"))
    other = trial_of(f"hf:{save(tmp_path / 'c', {**parts, 'test': [50, 52]})}")
    assert first.trial_id == second.trial_id != other.trial_id
    assert open_dataset(first.dataset).items("validation").labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("parts", "change", "rule"),
    [
        ({"train": [1, 2, 3, 4]}, {}, "there is no split 'test'"),
        ({"train": [1, 2, 3, 4], "test": [5, 6]}, {"test": [0, -1]}, "row 1: found -1; labels must be 0 to 1"),
    ],
)
def test_reason_is_named_when_a_set_is_not_usable(
    tmp_path: Path, parts: dict[str, list[int]], change: dict[str, Any], rule: str
) -> None:
    with pytest.raises(RequestError, match=rule):
        trial_of(f"hf:{save(tmp_path / 'saved', parts, **change)}")


def test_row_is_named_when_an_image_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "saved", {"train": list(range(20)), "test": [50, 51]})
    items = find_dataset(f"hf:{folder}").items("test")
    monkeypatch.setattr("benchmark.datasets.hf.image_bytes", lambda cell: cell["bytes"][:30])
    with pytest.raises(RequestError, match=r"saved test, row 1.*corrupt"):
        items.decode(1)


def test_advice_is_given_when_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(MissingError, match=r"hf:somebody/pets@abc: not to be had here.*save_to_disk"):
        trial_of("hf:somebody/pets@abc")


def test_folder_is_named_when_datasets_did_not_save_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a folder that `datasets` saved"):
        trial_of(f"hf:{tmp_path}")
