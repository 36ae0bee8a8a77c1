"""How fast two ranks sum arrays between them: what a step's gradients wait for."""

from __future__ import annotations

import multiprocessing
import queue
import time
from typing import Any, Literal

from benchmark.training.process_group import LOOPBACK_ADDRESS, join, leave, open_store

SIZES_BYTES = (4 * 2**10, 2**20, 64 * 2**20)
"""From an adapter's gradients to those of a whole ViT-S."""

NUM_RANKS = 2
_NUM_REPETITIONS = 3
_TIMEOUT_SECONDS = 90.0

Device = Literal["cpu", "cuda"]


def measure(
    rank: int,
    store_host: str,
    store_port: int,
    *,
    store: Any = None,
    node_address: str = LOOPBACK_ADDRESS,
    local_rank: int = 0,
    device: Device = "cpu",
) -> list[float]:
    """Return one rank's seconds of an all-reduce of each of the sizes: the best of three, after one to warm up.

    Args:
        rank: 0 or 1.
        store_host: Where the two meet.
        store_port: The store's port.
        store: The store itself, on the rank that opened it.
        node_address: The address of this rank's node.
        local_rank: Index of its device.
        device: What the arrays lie on; chooses gloo or NCCL.
    """
    import torch

    join(
        rank,
        NUM_RANKS,
        store_host,
        store_port,
        store=store,
        node_address=node_address,
        local_rank=local_rank,
        device=device,
        collective_timeout_seconds=_TIMEOUT_SECONDS,
        adopt=False,
    )
    try:
        return [_best_seconds(torch.zeros(size // 4, device=device)) for size in SIZES_BYTES]
    finally:
        leave()


def measure_here(device: Device = "cpu") -> list[float]:
    """Return the seconds of an all-reduce of each of the sizes, between two processes of this machine.

    Raises:
        RuntimeError: One of them failed, or did not answer in time.
    """
    context = multiprocessing.get_context("spawn")
    store = open_store(NUM_RANKS)
    answers: Any = context.Queue()
    ranks = [
        context.Process(target=_answer, args=(rank, store.port, device, answers), daemon=True)
        for rank in range(NUM_RANKS)
    ]
    for process in ranks:
        process.start()
    try:
        received = [answers.get(timeout=_TIMEOUT_SECONDS) for _ in ranks]
    except queue.Empty as error:
        raise RuntimeError(f"no answer within {_TIMEOUT_SECONDS:g} s") from error
    finally:
        for process in ranks:
            process.join(timeout=5)
            process.kill()
    return slower(received)


def slower(received: list[list[float] | str]) -> list[float]:
    """Return the slower rank's seconds of each size.

    Raises:
        RuntimeError: A rank told of an error instead.
    """
    errors = [one for one in received if isinstance(one, str)]
    if errors:
        raise RuntimeError("; ".join(errors))
    times = [one for one in received if not isinstance(one, str)]
    return [max(both) for both in zip(*times, strict=True)]


def bandwidths(seconds: list[float]) -> dict[int, float]:
    """Return bytes per second by size; between two ranks each byte goes once each way."""
    return {size: size / taken for size, taken in zip(SIZES_BYTES, seconds, strict=True)}


def _answer(rank: int, port: int, device: Device, answers: Any) -> None:
    try:
        answers.put(measure(rank, LOOPBACK_ADDRESS, port, local_rank=rank, device=device))
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}")


def _best_seconds(values: Any) -> float:
    import torch
    import torch.distributed

    taken = []
    for _ in range(1 + _NUM_REPETITIONS):
        torch.distributed.barrier()
        started = time.perf_counter()
        torch.distributed.all_reduce(values)
        if values.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
