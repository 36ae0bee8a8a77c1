"""Tells a process that the kernel ended for memory from one that died otherwise.

A killed process cannot say why, and Ray cannot either: it sees a connection that broke. The kernel counts those that it
ends for memory, for each part of a machine that has a limit of its own (a cgroup), and for the whole machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_WHOLE_MACHINE = Path("/proc/vmstat")
_COUNTER = "oom_kill"


@dataclass(frozen=True)
class MemoryKills:
    """How many processes the kernel had ended for memory.

    Attributes:
        file: Where the kernel counts them, as narrowly as it tells; none where it does not.
        count: How many by then.
    """

    file: str | None
    count: int


def count_memory_kills(own_groups: Path = _OWN_GROUPS, groups: Path = _GROUPS) -> MemoryKills:
    """Return how many processes of this one's group the kernel has ended for memory; of the machine where it has none.

    Args:
        own_groups: The kernel's list of the groups of this process.
        groups: Where they are mounted.
    """
    for file in [*_files_of(own_groups, groups), _WHOLE_MACHINE]:
        count = _count_in(file)
        if count is not None:
            return MemoryKills(str(file), count)
    return MemoryKills(None, 0)


def memory_kills_since(before: MemoryKills) -> int:
    """Return how many processes more the kernel has ended for memory by now; called on the same machine."""
    count = None if before.file is None else _count_in(Path(before.file))
    return 0 if count is None else count - before.count


def _files_of(own_groups: Path, groups: Path) -> Iterator[Path]:
    """Yield where the counter may be: in a container a group's own files lie at the top."""
    lines = []
    with contextlib.suppress(OSError):
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):  # version 1
            yield from (groups / "memory" / one / "memory.oom_control" for one in (path.lstrip("/"), ""))
        elif not controllers:  # version 2
            yield from (groups / one / "memory.events" for one in (path.lstrip("/"), ""))


def _count_in(file: Path) -> int | None:
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, count = line.partition(" ")
            if name == _COUNTER:
                return int(count)
    return None
