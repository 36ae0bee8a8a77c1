"""How the ranks' C library allocates memory: in huge pages, and without giving it back after every step.

A training step asks for the same megabytes again and again. By default each large piece is mapped, cleared page by page
and unmapped; here the heap keeps what was freed until the trial has ended. The settings are glibc's (https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html);
they are read when a process starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource

TUNABLES = "GLIBC_TUNABLES"

_ALLOCATION = {
    "hugetlb": 1,  # transparent huge pages where the system gives them on request (`madvise`)
    "mmap_max": 0,  # large pieces come from the heap, too
    "trim_threshold": 2**40,  # which keeps what was freed
    "top_pad": 64 * 2**20,
    "arena_max": 1,  # a rank trains in a thread, and another thread's heap ends at 64 MB
}


def allocation_environment() -> dict[str, str]:
    """Return the variable that ranks start with; as it is where the user has set it, even to nothing."""
    settings = ":".join(f"glibc.malloc.{name}={value}" for name, value in _ALLOCATION.items())
    return {TUNABLES: os.environ.get(TUNABLES, settings)}


def give_back() -> None:
    """Give the system what the heap keeps and nobody uses; on other C libraries than glibc nothing happens."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def has_limited_address_space() -> bool:
    """Return whether this process may take only so much address space (`ulimit -v`)."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
