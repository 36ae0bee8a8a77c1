"""How a rank joins and leaves the process group of its trial.

The group is torch's; DeepSpeed adopts it (`engine.adopt_process_group`). Three ways in: a launcher that started the
ranks itself (`open_store`, `join`), the environment of `torchrun` or the `deepspeed` launcher, or a single process
(`join_from_environment`).
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch.distributed

LOOPBACK_ADDRESS = "127.0.0.1"
JOIN_TIMEOUT_SECONDS = 60.0
"""How long ranks wait for each other: they import the same packages at different speeds."""

COLLECTIVE_TIMEOUT_SECONDS = 300.0
"""How long a rank waits inside a collective. Longer than a cluster's health check, so that a dead node is known to be
dead before its peers give up."""


@dataclass(frozen=True)
class Membership:
    """The place of a process in its trial's group.

    Attributes:
        rank: In `range(world_size)`.
        world_size: Ranks of the trial.
        local_rank: Index of the rank's device among the visible ones.
    """

    rank: int
    world_size: int
    local_rank: int


def open_store(world_size: int, store_host: str = LOOPBACK_ADDRESS) -> torch.distributed.TCPStore:
    """Open rank 0's store on a free port, which `store.port` names: no port is agreed upon beforehand, so none races.

    Args:
        world_size: Ranks that will join, this one included.
        store_host: Address the other ranks reach this process under.
    """
    from torch.distributed import TCPStore

    timeout = timedelta(seconds=JOIN_TIMEOUT_SECONDS)
    return TCPStore(store_host, 0, world_size, is_master=True, timeout=timeout, wait_for_workers=False)


def join(
    rank: int,
    world_size: int,
    store_host: str | None = None,
    store_port: int | None = None,
    *,
    store: torch.distributed.TCPStore | None = None,
    node_address: str = LOOPBACK_ADDRESS,
    local_rank: int = 0,
    device: Literal["cpu", "cuda"] = "cpu",
    collective_timeout_seconds: float = COLLECTIVE_TIMEOUT_SECONDS,
    adopt: bool = True,
) -> Membership:
    """Join the trial's process group as one of its ranks.

    Args:
        rank: In `range(world_size)`.
        world_size: Ranks of the trial.
        store_host: Where rank 0's store listens; none for a group of one.
        store_port: The store's port; none for a group of one.
        store: The store itself, on the rank that opened it.
        node_address: The address of this rank's node, whose interface carries the collectives.
        local_rank: Index of this rank's device among the visible ones.
        device: What the ranks compute on; chooses gloo or NCCL.
        collective_timeout_seconds: How long a collective may wait for a peer.
        adopt: Whether DeepSpeed takes the group over; off in tests that need none.

    Raises:
        ValueError: Several ranks, but no store to meet at.
        RuntimeError: The other ranks did not come in time.
    """
    membership = Membership(rank, world_size, local_rank)
    _set_environment(membership, node_address, device)
    _initialise(
        membership, store or _store_to_join(world_size, store_host, store_port), device, collective_timeout_seconds
    )
    if adopt:
        _adopt()
    return membership


def join_from_environment(device: Literal["cpu", "cuda"] = "cpu", adopt: bool = True) -> Membership:
    """Join the group that `torchrun` or the `deepspeed` launcher describes, or a group of one where neither did."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return join(0, 1, device=device, adopt=adopt)
    import torch.distributed

    membership = Membership(
        int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0"))
    )
    _set_environment(membership, address_towards(os.environ.get("MASTER_ADDR", LOOPBACK_ADDRESS)), device)
    _select_device(membership, device)
    torch.distributed.init_process_group(
        _backend(device), init_method="env://", timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_SECONDS)
    )
    if adopt:
        _adopt()
    return membership


def leave() -> None:
    """Leave the process group, if there is one, and put the environment back; the process may join another."""
    import torch.distributed

    _restore_environment()

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from benchmark.training.engine import release_process_group

        release_process_group()
        torch.distributed.destroy_process_group()


def interface_of(address: str) -> str | None:
    """Return the network interface that holds an address of this machine, or none."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(candidate.address == address for candidate in addresses):
            return str(name)
    return None


def address_towards(host: str) -> str:
    """Return this machine's own address on the way to `host`. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])


_VARIABLES_SET = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE"]
_VARIABLES_SET += ["DS_ACCELERATOR", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"]
_environment_before: dict[str, str | None] = {}
"""What a joined process's variables held before. A rank left behind in them would be taken for a launcher's, by a
second trial of this process or by its children."""


def _restore_environment() -> None:
    for name, value in _environment_before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _environment_before.clear()


def _set_environment(membership: Membership, node_address: str, device: str) -> None:
    _restore_environment()
    _environment_before.update({name: os.environ.get(name) for name in _VARIABLES_SET})
    # `deepspeed.initialize` asserts LOCAL_RANK even on a group it adopts.
    os.environ["RANK"] = str(membership.rank)
    os.environ["LOCAL_RANK"] = str(membership.local_rank)
    os.environ["WORLD_SIZE"] = str(membership.world_size)
    # With LOCAL_SIZE set, DeepSpeed compiles its shared-memory collectives and leaves 69 MB files in /dev/shm.
    os.environ.pop("LOCAL_SIZE", None)
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    # gloo resolves the host name instead, which often is 127.0.0.1: then no rank of another machine gets through.
    interface = interface_of(node_address)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        if device == "cuda" and interface != "lo":
            os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)


def _store_to_join(world_size: int, host: str | None, port: int | None) -> torch.distributed.Store:
    from torch.distributed import HashStore, TCPStore

    if world_size == 1:
        return HashStore()
    if host is None or port is None:
        raise ValueError(f"{world_size} ranks need store_host and store_port to meet; found {host!r}, {port!r}")
    timeout = timedelta(seconds=JOIN_TIMEOUT_SECONDS)
    return TCPStore(host, port, world_size, is_master=False, timeout=timeout, wait_for_workers=False)


def _initialise(
    membership: Membership, store: torch.distributed.Store, device: str, collective_timeout_seconds: float
) -> None:
    import torch.distributed

    _select_device(membership, device)
    torch.distributed.init_process_group(
        _backend(device),
        store=torch.distributed.PrefixStore("trial", store),
        rank=membership.rank,
        world_size=membership.world_size,
        timeout=timedelta(seconds=collective_timeout_seconds),
    )


def _select_device(membership: Membership, device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.set_device(membership.local_rank)
        # torch computes fp32 convolutions in TF32 unless told otherwise, and matrix products in fp32.
        torch.backends.cudnn.allow_tf32 = False


def _backend(device: str) -> str:
    return "nccl" if device == "cuda" else "gloo"


def _adopt() -> None:
    # Imported here, since DeepSpeed takes seconds to import and only training needs it.
    from benchmark.training.engine import adopt_process_group

    adopt_process_group()
