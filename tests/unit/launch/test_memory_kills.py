"""Guards that the kernel's count of processes ended for memory is found where the kernel keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.memory_kills import MemoryKills, count_memory_kills, memory_kills_since

VERSION_1 = "5:devices:/\n4:hugetlb,memory:/jobs/7\n0::/\n"
VERSION_2 = "0::/jobs/7\n"


@pytest.mark.parametrize(
    ("own_groups", "file", "content"),
    [
        (VERSION_1, "memory/jobs/7/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (VERSION_1, "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (VERSION_2, "jobs/7/memory.events", "low 0\noom 5\noom_kill 3\noom_group_kill 0\n"),
        (VERSION_2, "memory.events", "low 0\noom 5\noom_kill 3\noom_group_kill 0\n"),
    ],
    ids=["version 1", "version 1 in a container", "version 2", "version 2 in a container"],
)
def test_kills_are_counted_for_the_own_group_when_it_has_a_counter(
    own_groups: str, file: str, content: str, tmp_path: Path
) -> None:
    list_of_groups, counter = tmp_path / "list", tmp_path / "groups" / file
    list_of_groups.write_text(own_groups)
    counter.parent.mkdir(parents=True)
    counter.write_text(content)
    before = count_memory_kills(list_of_groups, tmp_path / "groups")
    assert before == MemoryKills(str(counter), 3)
    counter.write_text(content.replace("oom_kill 3", "oom_kill 5"))
    assert memory_kills_since(before) == 2


def test_kills_are_the_machines_when_no_group_counts_them(tmp_path: Path) -> None:
    assert count_memory_kills(tmp_path / "list", tmp_path / "groups").file in ("/proc/vmstat", None)


def test_none_were_killed_when_the_counter_is_gone(tmp_path: Path) -> None:
    assert memory_kills_since(MemoryKills(str(tmp_path / "gone"), 3)) == 0
    assert memory_kills_since(MemoryKills(None, 0)) == 0
