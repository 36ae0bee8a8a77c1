"""Entries that several processes make together: each part is written once, and a killed process takes none along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cache_folder import ROOT_VARIABLE, Parts, list_entries, open_entry_in_parts, prune

NUM_PARTS = 12

MAKER = f"""
import os, sys, time
from pathlib import Path
from benchmark.cache_folder import Parts, open_entry_in_parts

log, last_words = Path(sys.argv[1]), sys.argv[2]

def prepare(folder):
    (folder / "values.bin").write_bytes(bytes({NUM_PARTS}))

def write(folder, part):
    with log.open("a") as file:
        file.write(f"{{part}} {{os.getpid()}}\\n")
    if last_words and part == 3:
        os._exit(9)
    time.sleep(0.03)
    with (folder / "values.bin").open("r+b") as file:
        file.seek(part)
        file.write(bytes([part + 1]))

held = open_entry_in_parts("kind", "key", {{"name": "together"}}, Parts({NUM_PARTS}, prepare, write))
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


def in_parts(*parts: bytes, fails_at: int | None = None, num_written: list[int] | None = None) -> Parts:
    def write(folder: Path, part: int) -> None:
        if part == fails_at:
            raise ValueError("this part cannot be made")
        if num_written is not None:
            num_written.append(part)
        (folder / f"part-{part}.bin").write_bytes(parts[part])

    return Parts(len(parts), lambda folder: None, write)


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


def test_a_part_that_cannot_be_made_is_not_called_done() -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        open_entry_in_parts("kind", "key", {}, in_parts(b"a", b"b", b"c", fails_at=1))
    assert not list_entries()
    num_written: list[int] = []
    held = open_entry_in_parts("kind", "key", {}, in_parts(b"a", b"b", b"c", num_written=num_written))
    assert num_written == [1, 2]
    assert [(held.folder / f"part-{part}.bin").read_bytes() for part in range(3)] == [b"a", b"b", b"c"]


def test_parts_from_before_the_system_was_started_again_are_not_trusted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        open_entry_in_parts("kind", "key", {}, in_parts(b"a", b"b", fails_at=1))
    monkeypatch.setattr("benchmark.cache_folder._boot_id", lambda: "another")
    num_written: list[int] = []
    open_entry_in_parts("kind", "key", {}, in_parts(b"a", b"b", num_written=num_written)).lock.close()
    assert num_written == [0, 1]
    prune(2**30)
    assert [path.name for path in (cache / "kind").iterdir() if path.is_dir()] == ["key"]


def test_an_entry_in_the_making_is_not_pruned_and_a_whole_one_in_use_is_not_made_again() -> None:
    inner = in_parts(b"a", b"b")

    def write(folder: Path, part: int) -> None:
        prune(0)
        inner.write(folder, part)

    held = open_entry_in_parts("kind", "key", {}, Parts(2, inner.prepare, write))
    assert prune(0).in_use[0].key == "key"
    again = open_entry_in_parts("kind", "key", {}, in_parts(b"x", b"y"))
    assert (again.folder / "part-0.bin").read_bytes() == b"a"
    held.lock.close()
    again.lock.close()
    assert prune(0).removed[0].key == "key"
