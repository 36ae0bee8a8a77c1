"""Gets a public data set ready and checks one: downloads, checksums, archives, counts, decoding."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.datasets.contract import Dataset, SourceFile
from benchmark.datasets.reading.local import LocalDataset
from benchmark.datasets.reading.public import PublicDataset
from benchmark.datasets.reading.splitting import SPLITS
from benchmark.datasets.storage.archives import is_archive, unpack
from benchmark.datasets.storage.checksums import checksum_of, require_checksum
from benchmark.datasets.storage.download import Progress, download
from benchmark.datasets.storage.pins import pin_checksum, pinned_checksums
from benchmark.errors import AdapterTuneError, MissingError

UNPACKED_MARK = ".unpacked"
SHOWN_BAD_IMAGES = 100


@dataclass
class Verification:
    """What a check of a data set found.

    Attributes:
        name: The data set.
        num_images: Images of each split.
        num_decoded: Images that were decoded.
        bad_images: The errors of images that could not be, the first hundred.
        num_bad_images: All of them.
        shared_images: Pairs (image trained or selected on, test image) with the same pixels.
    """

    name: str
    num_images: dict[str, int] = field(default_factory=dict)
    num_decoded: int = 0
    bad_images: list[str] = field(default_factory=list)
    num_bad_images: int = 0
    shared_images: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether every image could be decoded."""
        return not self.num_bad_images

    def as_row(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**asdict(self), "is_sound": self.is_sound}


def prepare(dataset: Dataset, progress: Progress | None = None) -> dict[str, Any]:
    """Download, compare and unpack a data set's files, then count its images.

    What is there already is kept: whole files are compared, partial ones resumed, archives unpacked once.

    Returns:
        `name`, `root`, `num_images` by split, and `checksums` by file.

    Raises:
        MissingError: A file cannot be fetched here; it says which file to put where.
        RequestError: A file's checksum differs, an archive is unsafe, or the counts are not the published ones.
    """
    checksums: dict[str, str] = {}
    if isinstance(dataset, PublicDataset):
        for file in dataset.info.files:
            checksums[file.name] = _fetched(dataset, file, progress)
        for file in dataset.info.files:
            _unpacked(dataset.root / file.name)
    counts = {split: len(dataset.items(split).labels) for split in SPLITS}
    return {"name": dataset.info.name, "root": place_of(dataset), "num_images": counts, "checksums": checksums}


def place_of(dataset: Dataset) -> str | None:
    """Return where a data set's files lie; none for those in the package."""
    if isinstance(dataset, PublicDataset):
        return str(dataset.root)
    return dataset.place if isinstance(dataset, LocalDataset) else None


def _fetched(dataset: PublicDataset, file: SourceFile, progress: Progress | None) -> str:
    """Return the checksum of a file that is here and compared, downloading it where it is not."""
    path = dataset.root / file.name
    pinned = pinned_checksums(dataset.root).get(file.name)
    expected, stated_by = (file.checksum, file.checksum_source) if file.checksum else (pinned, "the first download")
    if path.is_file():
        found = checksum_of(path, expected.partition(":")[0] if expected else "sha256")
        if expected is not None:
            require_checksum(path, expected, stated_by)
    else:
        if file.url is None:
            raise MissingError(f"{dataset.info.name}: {file.name} is fetched by hand: {dataset.how_to_get()}")
        try:
            found = download(file.url, path, expected, progress)
        except MissingError as error:
            raise MissingError(f"{error}. {dataset.info.name}: {dataset.how_to_get()}") from error
    if file.checksum is None and pinned is None:
        pin_checksum(dataset.root, file.name, found)
    return found


def _unpacked(archive: Path) -> None:
    """Unpack an archive beside itself, once for each checksum-compared file."""
    mark = archive.with_name(f"{archive.name}{UNPACKED_MARK}")
    stat = archive.stat()
    state = f"{stat.st_size} {stat.st_mtime_ns}"
    if not is_archive(archive.name) or (mark.is_file() and mark.read_text(encoding="utf-8") == state):
        return
    unpack(archive, archive.parent)
    mark.write_text(state, encoding="utf-8")


def verify(dataset: Dataset, on_image: Callable[[int, int], None] | None = None) -> Verification:
    """Count and decode every image, and look for images that are in the test split and outside of it.

    Args:
        dataset: Any data set.
        on_image: Told after each image how many are done, of how many.

    Raises:
        MissingError: The data are not here.
        RequestError: The counts are not the published ones, or the layout is wrong.
    """
    result = Verification(dataset.info.name)
    compare_files(dataset)
    parts = {split: dataset.items(split) for split in SPLITS}
    result.num_images = {split: len(items.labels) for split, items in parts.items()}
    total, done = sum(result.num_images.values()), 0
    seen: defaultdict[str, list[str]] = defaultdict(list)
    for split, items in parts.items():
        for row, identity in enumerate(items.identities):
            digest = _decoded(items, row, result)
            if split != "test":
                seen[digest].append(str(identity))
            elif digest:
                result.shared_images += [(other, str(identity)) for other in seen.get(digest, ())]
            done += 1
            if on_image is not None:
                on_image(done, total)
    return result


def compare_files(dataset: Dataset) -> None:
    """Compare those published files that lie here with their checksums, published or pinned.

    Raises:
        RequestError: One differs.
    """
    if not isinstance(dataset, PublicDataset):
        return
    pins = pinned_checksums(dataset.root)
    for file in dataset.info.files:
        expected = file.checksum or pins.get(file.name)
        if expected is not None and (dataset.root / file.name).is_file():
            require_checksum(dataset.root / file.name, expected, file.checksum_source or "the first download")


def _decoded(items: Any, row: int, result: Verification) -> str:
    """Return the hash of an image's size and pixels; empty for a bad one, which is noted."""
    try:
        image = items.decode(row)
    except AdapterTuneError as error:
        result.num_bad_images += 1
        if len(result.bad_images) < SHOWN_BAD_IMAGES:
            result.bad_images.append(str(error))
        return ""
    result.num_decoded += 1
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def has_files(dataset: Dataset) -> bool:
    """Say whether a data set's files are where they belong, without reading them."""
    place = place_of(dataset)
    if place is None:
        return bool(dataset.info.num_images)
    folder = Path(place)
    unfinished = (".part", ".corrupt", ".json")
    is_full = folder.is_dir() and any(not path.name.endswith(unfinished) for path in folder.iterdir())
    return is_full or folder.is_file()
