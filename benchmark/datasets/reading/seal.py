"""The seal on test splits: while it is closed, nothing in this process opens one.

A search reads validation alone. Its driver and, while they run its trials, its ranks hold the seal, so that a search
cannot look at test images even by mistake.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from benchmark.errors import SealedTestError

_lock = threading.Lock()
_num_holders = 0


@contextlib.contextmanager
def sealed_tests() -> Iterator[None]:
    """Keep test splits closed in this process until the body ends; bodies may be nested."""
    global _num_holders
    with _lock:
        _num_holders += 1
    try:
        yield
    finally:
        with _lock:
            _num_holders -= 1


def refuse_when_sealed(dataset_name: str, split: str) -> None:
    """Refuse to open a test split under the seal.

    Raises:
        SealedTestError: The split is the test split, and the seal is closed.
    """
    if split == "test" and _num_holders:
        raise SealedTestError(f"the test split of {dataset_name} is sealed: a search reads validation alone")
