"""Any image classification set that Hugging Face `datasets` reads: `hf:NAME`, `hf:NAME@REVISION`, or a saved folder."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.datasets.contract import Dataset, DatasetInfo, Split, SplitChoice
from benchmark.datasets.reading.decoding import decode_image
from benchmark.datasets.reading.items import StoredItems, digest_of, read_bytes
from benchmark.datasets.reading.local import LocalDataset, LocalParts
from benchmark.datasets.reading.public import numbered
from benchmark.errors import MissingError, RequestError

if TYPE_CHECKING:
    import PIL.Image

_SPLIT_NAMES: dict[str, Split] = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class TableItems(StoredItems):
    """Images in a table of `datasets`; `storage` is an int64 array [N] of rows.

    Attributes:
        table: The published split, its image column undecoded.
        image_column: Name of that column.
        where: Name of the data set and split, for errors.
    """

    table: Any
    image_column: str
    where: str

    def decode(self, row: int) -> PIL.Image.Image:
        """Return one image.

        Raises:
            MissingError: The table names a file that is not there.
            RequestError: The image is not readable.
        """
        stored = int(self.storage[row])
        return decode_image(image_bytes(self.table[stored][self.image_column]), f"{self.where}, row {stored}")


class HuggingFace(LocalDataset):
    """A set of the Hugging Face hub, or one that `save_to_disk` wrote. Its images enter identities by content."""

    def configured(self, root: str | None, choice: SplitChoice, where: str) -> Dataset:
        """Return the data set of a name, which is its own when it is the hub's."""
        if root is not None and not Path(root).is_dir():
            info = dataclasses.replace(self._kind, name=f"hf:{root}", title=f"{root} of the Hugging Face hub")
            return HuggingFace(info, root, choice, where)
        return super().configured(root, choice, where)

    def read_parts(self) -> LocalParts:
        """Read and hash the images of the published splits.

        Raises:
            MissingError: `datasets` is not installed, or the set is not here and cannot be fetched.
            RequestError: A split or column is missing, or the splits' classes differ.
        """
        tables = {name: table for name, table in load_tables(str(self.place)).items() if name in _SPLIT_NAMES}
        for needed in ("train", "test"):
            if needed not in tables:
                rule = f"there is no split {needed!r}; `train` and `test` are needed, `validation` is used if there"
                raise RequestError(f"hf:{self.place}", sorted(tables), rule)
        image_column, label_column, class_names = _columns(f"hf:{self.place}", tables["train"])
        items: dict[Split, StoredItems] = {}
        contents: dict[str, str] = {}
        for name, table in tables.items():
            split = _SPLIT_NAMES[name]
            if _columns(f"hf:{self.place}", table)[2] != class_names:
                raise RequestError(f"hf:{self.place}", name, "its classes differ from those of train")
            undecoded = _undecoded(table, image_column)
            digests = [hashlib.sha256(image_bytes(cell)).hexdigest() for cell in undecoded[image_column]]
            identities = numbered(split, len(digests))
            contents.update(zip(identities.tolist(), digests, strict=True))
            labels = np.array(table[label_column], dtype=np.int64)
            _require_labels(f"hf:{self.place} {name}", labels, len(class_names))
            where, rows = f"hf:{self.place} {name}", np.arange(len(labels))
            items[split] = TableItems(identities, labels, "", rows, undecoded, image_column, where)
        content = digest_of(*(f"{digest} {name}" for name, digest in sorted(contents.items())))
        hashed = {split: dataclasses.replace(part, content_sha256=content) for split, part in items.items()}
        return LocalParts(class_names, hashed, contents)


def load_tables(place: str) -> dict[str, Any]:
    """Return the published splits as tables of `datasets`, by name.

    Raises:
        MissingError: `datasets` is not installed, or the set cannot be had.
        RequestError: A folder is not one of `save_to_disk`, or holds one table instead of splits.
    """
    try:
        import datasets
    except ImportError as error:
        message = "hf: needs the package `datasets`: pip install 'adaptertune-bench[hf]'"
        raise MissingError(message) from error
    if Path(place).is_dir():
        try:
            loaded = datasets.load_from_disk(place)
        except (OSError, ValueError) as error:
            hint = "Write it with `DatasetDict.save_to_disk`."
            raise RequestError(f"hf:{place}", None, f"not a folder that `datasets` saved: {error}", hint) from error
    else:
        loaded = _from_hub(datasets, place)
    if not isinstance(loaded, dict):
        raise RequestError(f"hf:{place}", "one table", "a set with the splits `train` and `test` is needed")
    return dict(loaded)


def _from_hub(datasets: Any, place: str) -> Any:
    name, _, revision = place.partition("@")
    try:
        return datasets.load_dataset(name, revision=revision or None)
    except Exception as error:  # the hub's client raises many kinds: connection, permission, parsing, its own
        hint = (
            "check the name and the network; offline, load it elsewhere, write it with `save_to_disk`, copy the folder "
            "here and name it as hf:DIR"
        )
        raise MissingError(f"hf:{place}: not to be had here: {type(error).__name__}: {error}; {hint}") from error


def image_bytes(cell: Any) -> bytes:
    """Return the encoded bytes of an undecoded image cell.

    Raises:
        MissingError: It names a file that is not there.
    """
    content = cell["bytes"]
    return content if content is not None else read_bytes(cell["path"])


def _undecoded(table: Any, image_column: str) -> Any:
    import datasets

    return table.cast_column(image_column, datasets.Image(decode=False))


def _columns(where: str, table: Any) -> tuple[str, str, tuple[str, ...]]:
    """Return the image column, the label column and the class names; there must be one of each kind."""
    import datasets

    images = [name for name, kind in table.features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = ["label"] if "label" in labels else labels
    if len(images) != 1 or len(labels) != 1:
        rule = "there must be one Image column and one ClassLabel column (or one of that kind named `label`)"
        raise RequestError(where, {name: str(kind) for name, kind in table.features.items()}, rule)
    return images[0], labels[0], tuple(table.features[labels[0]].names)


def _require_labels(where: str, labels: Any, num_classes: int) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        rule = f"labels must be 0 to {num_classes - 1}; {len(bad)} images have none, as unlabelled test sets do"
        raise RequestError(f"{where}, row {bad[0]}", int(labels[bad[0]]), rule)


DATASET = HuggingFace(
    DatasetInfo(
        name="hf",
        title="An image classification set of the Hugging Face hub, or a folder that `save_to_disk` wrote",
        class_names=(),
        licence="as the set's card states",
        source="named by you: hf:NAME, hf:NAME@REVISION or hf:DIR",
        flips_keep_labels=None,
        split_note="its own validation split, else 10 % of train by class, by the hash of each image's number",
    )
)
