"""Guards that ranks allocate as asked, and that a user's own setting stays."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from launch.allocation import TUNABLES, allocation_environment, has_limited_address_space

ALLOCATING = """
import threading, numpy
kept = []
def allocate():
    kept.append(numpy.ones(96 * 2**20, dtype=numpy.uint8))
thread = threading.Thread(target=allocate)
thread.start()
thread.join()
address = kept[0].ctypes.data
for line in open("/proc/self/maps"):
    first, last = (int(part, 16) for part in line.split()[0].split("-"))
    if first <= address < last:
        print("[heap]" in line)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_large_pieces_of_any_thread_come_from_the_one_heap_when_a_rank_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TUNABLES, raising=False)
    environment = {**os.environ, **allocation_environment()}
    finished = subprocess.run(
        [sys.executable, "-c", ALLOCATING], env=environment, check=True, capture_output=True, text=True
    )
    assert finished.stdout == "True\n"


@pytest.mark.parametrize("own", ["", "glibc.malloc.arena_max=2"])
def test_setting_of_the_users_stays_when_there_is_one(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.setenv(TUNABLES, own)
    assert allocation_environment() == {TUNABLES: own}


def test_limit_on_the_address_space_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, is_limited in ((2**40, True), (resource.RLIM_INFINITY, False)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, resource.RLIM_INFINITY))
        assert has_limited_address_space() is is_limited
