"""Entries that several processes make together: each part is written once, and a killed process takes none along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cache_folder import ROOT_VARIABLE, list_entries, open_entry_in_parts, prune

NUM_PARTS = 12

MAKER = f"""
import os, sys, time
from pathlib import Path
from benchmark.cache_folder import open_entry_in_parts

log, last_words = Path(sys.argv[1]), sys.argv[2]

def write(folder, part):
    with log.open("a") as file:
        file.write(f"{{part}} {{os.getpid()}}\\n")
    if last_words and part == 3:
        os._exit(9)
    time.sleep(0.03)
    (folder / "values.bin").touch()
    with (folder / "values.bin").open("r+b") as file:
        file.seek(part)
        file.write(bytes([part + 1]))

held = open_entry_in_parts("kind", "key", {{"name": "together"}}, {NUM_PARTS}, write)
print((held.folder / "values.bin").read_bytes().hex(), sorted(path.name for path in held.folder.iterdir()))
"""
WHOLE = bytes(range(1, NUM_PARTS + 1)).hex() + " ['entry.json', 'values.bin']\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(log: Path, last_words: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", MAKER, str(log), last_words], stdout=subprocess.PIPE, text=True)


def written(log: Path) -> list[tuple[int, int]]:
    return [(int(part), int(pid)) for part, pid in (line.split() for line in log.read_text().splitlines())]


def write_part(folder: Path, part: int) -> None:
    (folder / f"part-{part}.bin").write_bytes(bytes([part]))


def test_processes_that_want_an_entry_at_once_write_each_part_once_between_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    makers = [start(log), start(log)]
    assert [maker.communicate(timeout=60)[0] for maker in makers] == [WHOLE, WHOLE]
    assert sorted(part for part, _ in written(log)) == list(range(NUM_PARTS))
    assert {pid for _, pid in written(log)} == {maker.pid for maker in makers}


def test_what_a_killed_process_had_written_stays_and_the_rest_is_written_by_the_next(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert start(log, "dies").wait(timeout=60) == 9
    assert not list_entries()
    assert start(log).communicate(timeout=60)[0] == WHOLE
    assert sorted(part for part, _ in written(log)) == [0, 1, 2, 3, 3, *range(4, NUM_PARTS)]


def test_an_entry_of_which_a_part_cannot_be_made_is_absent_and_leaves_nothing(cache: Path) -> None:
    def fail_at_the_second(folder: Path, part: int) -> None:
        if part == 1:
            raise ValueError("this part cannot be made")
        write_part(folder, part)

    with pytest.raises(ValueError, match="cannot be made"):
        open_entry_in_parts("kind", "key", {}, 3, fail_at_the_second)
    assert not list_entries()
    assert [path.name for path in (cache / "kind").iterdir()] == ["key.lock"]
    held = open_entry_in_parts("kind", "key", {}, 3, write_part)
    assert [(held.folder / f"part-{part}.bin").read_bytes() for part in range(3)] == [b"\0", b"\1", b"\2"]


def test_a_part_is_called_done_only_once_its_bytes_are_on_the_disk(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called_done: list[list[bool]] = []

    def look(folder: Path) -> None:
        called_done.append([bool((folder / "parts" / name).read_bytes()) for name in ("0", "1", "end")])

    monkeypatch.setattr("benchmark.cache_folder._sync", look)
    open_entry_in_parts("kind", "key", {}, 2, write_part)
    assert called_done == [[False, False, False], [True, False, False], [True, True, False]]


def test_an_entry_in_the_making_is_not_pruned_and_a_whole_one_in_use_is_not_made_again() -> None:
    def prune_and_write(folder: Path, part: int) -> None:
        prune(0)
        write_part(folder, part)

    held = open_entry_in_parts("kind", "key", {}, 2, prune_and_write)
    assert prune(0).in_use[0].key == "key"
    again = open_entry_in_parts("kind", "key", {}, 2, lambda folder, part: pytest.fail("it is there"))
    assert again.folder == held.folder
    held.lock.close()
    again.lock.close()
    assert prune(0).removed[0].key == "key"
