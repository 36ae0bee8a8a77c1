"""Tests that need a CUDA GPU, and the training core alone: no Ray, no MLflow (`make test-gpu`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmark.training.process_group import join, leave


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests, and skip them with the reason where there is no GPU."""
    for item in items:
        if "tests/gpu/" in item.nodeid:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="torch finds no CUDA GPU here"))


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    """A process group in which this process is alone, over NCCL."""
    if torch.cuda.is_available():
        join(0, 1, device="cuda")
    yield
    if torch.cuda.is_available():
        leave()
