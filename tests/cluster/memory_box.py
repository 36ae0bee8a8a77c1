"""A part of this machine that has little memory: what runs in it finds its limit where a container would."""

from __future__ import annotations

import contextlib
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = {Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes", Path("/sys/fs/cgroup"): "memory.max"}
"""Where the kernel's groups with memory limits are mounted, version 1 first, and the file of the limit."""
_EMPTY_SECONDS = 20.0


@dataclass(frozen=True)
class MemoryBox:
    """A group of processes with a limit of their own.

    Attributes:
        mount: Where groups are mounted.
        folder: The group.
    """

    mount: Path
    folder: Path

    @property
    def entrance(self) -> list[str]:
        """What to put before a command, so that it runs in the box and sees no other group than its own."""
        script = f'echo $$ > {self.folder}/cgroup.procs && mount --bind {self.folder} {self.mount} && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh"]

    @property
    def num_kills(self) -> int:
        """How many of its processes the kernel has ended for memory."""
        name = "memory.oom_control" if self.mount.name == "memory" else "memory.events"
        lines = [line.split() for line in (self.folder / name).read_text().splitlines()]
        return next(int(count) for key, count in lines if key == "oom_kill")


@contextlib.contextmanager
def memory_box(limit_bytes: int) -> Iterator[MemoryBox]:
    """Make a group with a limit; at the end it is empty and gone."""
    mount, limit = next((mount, limit) for mount, limit in _MOUNTS.items() if mount.exists())
    folder = mount / f"adaptertune-test-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        (folder / limit).write_text(str(limit_bytes))
        yield MemoryBox(mount, folder)
    finally:
        _remove(folder)


def why_no_box() -> str | None:
    """Return why this machine lets nobody make such a group; none where it does."""
    try:
        with memory_box(2**30) as box:
            subprocess.run([*box.entrance, "true"], check=True, capture_output=True, text=True)
    except (OSError, StopIteration) as error:
        return f"groups with a memory limit are not permitted here: {error}"
    except subprocess.CalledProcessError as error:
        return f"groups with a memory limit are not permitted here: {error.stderr.strip()}"
    return None


def _remove(folder: Path) -> None:
    """Remove a group, which can be done once its last process is gone."""
    ends = time.monotonic() + _EMPTY_SECONDS
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)
