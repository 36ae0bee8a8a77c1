"""Guards the decode cache: exact or by the stated rule, made once by several processes, whole or absent, capped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
from benchmark.cache_folder import cap_bytes, list_entries, open_entry, prune
from benchmark.datasets.contract import find_dataset
from benchmark.errors import MissingError, RequestError
from benchmark.training.input import decoded_index
from benchmark.training.input.decoded_index import PooledItems, index_key, largest_shorter_side, open_split, open_stored
from tests.unit.benchmark.training.input.synthetic_items import SyntheticItems, smooth_image

ROOT = Path(benchmark.__file__).parents[1]
PROGRAM = Path(__file__).with_name("build_index.py")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep a cache of the test's own, used for splits of any size."""
    monkeypatch.setenv("ADAPTERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded_index, "LARGEST_IN_MEMORY_BYTES", 0)
    return tmp_path / "cache"


def test_pixels_are_exact_when_images_are_small_and_of_several_sizes() -> None:
    sizes = [(8, 8), (5, 9), (256, 300)]
    stored = open_stored(SyntheticItems(sizes), "small", 256)
    for row, size in enumerate(sizes):
        assert np.array_equal(stored.image(row), np.asarray(smooth_image(row, *size)))


def test_pixels_are_mapped_rather_than_read_when_they_come_from_the_cache() -> None:
    assert isinstance(open_stored(SyntheticItems([(8, 8)]), "one", 256).buffer, np.memmap)


def test_shorter_side_is_limited_and_the_aspect_kept_when_images_are_large() -> None:
    stored = open_stored(SyntheticItems([(40, 80), (90, 30)]), "large", 20)
    assert [stored.image(row).shape for row in range(2)] == [(20, 40, 3), (60, 20, 3)]


def test_limit_is_one_for_all_inputs_up_to_224_pixels_and_in_proportion_above() -> None:
    assert [largest_shorter_side(size) for size in (32, 224, 384)] == [256, 256, 439]  # 384 · 256 / 224 = 438.9


def test_nothing_is_decoded_again_but_the_first_image_when_the_index_is_there() -> None:
    open_stored(SyntheticItems([(8, 8)] * 20), "again", 256)
    second = SyntheticItems([(8, 8)] * 20)
    open_stored(second, "again", 256)
    assert second.decoded_rows == [0]


def test_few_images_stay_out_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert open_stored(SyntheticItems([(8, 8)] * 20), "few", 256).buffer.size == 20 * 8 * 8 * 3


def test_key_differs_when_data_order_or_rule_do() -> None:
    items = SyntheticItems([(8, 8)] * 3)
    other_data = SyntheticItems([(8, 8)] * 3, content_sha256="1" * 64)
    fewer = SyntheticItems([(8, 8)] * 2)
    assert len({index_key(items, 256), index_key(other_data, 256), index_key(fewer, 256), index_key(items, 257)}) == 4


def test_progress_ends_at_the_number_of_images_when_told() -> None:
    told: list[tuple[int, int]] = []
    open_stored(SyntheticItems([(8, 8)] * 5), "told", 256, lambda done, total: told.append((done, total)))
    assert told == [(done, 5) for done in range(1, 6)]


def test_pool_is_the_same_when_the_split_between_its_parts_differs() -> None:
    digits = find_dataset("digits")
    train, validation = digits.items("train"), digits.items("validation")
    assert index_key(PooledItems([train, validation]), 256) == index_key(PooledItems([validation, train]), 256)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_split_has_its_own_images_in_the_manifests_order_when_opened(split: str) -> None:
    digits = find_dataset("digits")
    expected = digits.load(split)  # type: ignore[arg-type]
    stored = open_split(digits, split, 18)  # type: ignore[arg-type]
    assert stored.identities.tolist() == expected.identities.tolist()
    assert stored.labels.tolist() == expected.labels.tolist()
    assert np.array_equal(np.stack([stored.image(row) for row in range(len(stored))]), expected.pixels)


def test_test_images_stay_closed_when_the_others_are_opened() -> None:
    open_split(find_dataset("digits"), "train", 18)
    open_split(find_dataset("digits"), "validation", 18)
    assert [entry.description["name"] for entry in list_entries()] == ["digits/train"]


def test_one_process_decodes_and_the_other_waits_when_both_want_an_index(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in ("first", "second")]
    programs = [_start(target, 100) for target in targets]
    assert [program.wait(timeout=60) for program in programs] == [0, 0]
    (first, first_sum), (second, second_sum) = (target.read_text().split() for target in targets)
    assert sorted([int(first), int(second)]) == [1, 101]  # each looks at the first image for its size
    assert first_sum == second_sum


def test_unfinished_index_is_not_taken_for_whole_when_its_builder_was_killed(tmp_path: Path, cache: Path) -> None:
    killed = _start(tmp_path / "killed", 5000)
    _wait_for(tmp_path / "killed.started")
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=10)
    assert list_entries() == []
    assert len(list(cache.glob("decoded/*.unfinished*"))) == 1
    prune(0)
    assert list(cache.glob("decoded/*.unfinished*")) == []


def test_index_is_built_again_when_an_earlier_builder_was_killed(tmp_path: Path, cache: Path) -> None:
    items = SyntheticItems([(8, 8)] * 30)
    unfinished = cache / "decoded" / f"{index_key(items, 256)}.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "pixels.bin").write_bytes(b"half" * 10000)
    stored = open_stored(items, "rebuilt", 256)
    assert (stored.image(29) == np.asarray(items.decode(29))).all()
    assert list(cache.glob("decoded/*.unfinished*")) == []


def test_entry_is_absent_when_writing_it_failed(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise ValueError("broken image")

    with pytest.raises(ValueError, match="broken image"):
        open_entry("decoded", "key", {}, fail)
    assert list_entries() == []
    assert list(cache.glob("decoded/*.unfinished*")) == []


def test_entry_used_longest_ago_goes_first_when_pruned(cache: Path) -> None:
    for age, key in enumerate(["new", "old"]):
        held = open_entry("decoded", key, {"name": key}, lambda folder: (folder / "x").write_bytes(bytes(100)) and None)
        os.utime(held.folder / "entry.json", (1e9 - age, 1e9 - age))
        held.lock.close()
    pruned = prune(150)
    assert [entry.key for entry in pruned.removed] == ["old"]
    assert [entry.key for entry in list_entries()] == ["new"]


def test_index_in_use_is_spared_when_pruned_and_goes_when_it_is_not() -> None:
    stored = open_stored(SyntheticItems([(8, 8)] * 3), "used", 256)
    assert len(prune(0).in_use) == 1
    assert stored.image(2).shape == (8, 8, 3)
    del stored
    assert len(prune(0).removed) == 1


def test_index_is_in_use_as_long_as_a_part_of_it_is() -> None:
    part = open_stored(SyntheticItems([(8, 8)] * 3), "part", 256).take(torch.tensor([1]))
    assert len(prune(0).in_use) == 1
    assert len(part) == 1


def test_cap_is_refused_when_it_is_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERTUNE_CACHE_GB", "much")
    with pytest.raises(RequestError, match=r"ADAPTERTUNE_CACHE_GB.*'much'"):
        cap_bytes()


def test_error_says_what_to_do_when_the_disk_is_full() -> None:
    def fill(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(MissingError, match=r"cache prune.*ADAPTERTUNE_CACHE"):
        open_entry("decoded", "key", {}, fill)


def _start(target: Path, num_images: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(PROGRAM), str(ROOT), str(target), str(num_images)])


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()
