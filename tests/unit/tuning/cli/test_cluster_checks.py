"""What the doctor says of nodes; asking real ones is in tests/cluster/test_doctor.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from launch.examination import NodeState
from launch.exchange import SIZES_BYTES, bandwidths, measure_here, slower
from tuning.cli.cluster_checks import files_check, judge

HEALTHY = NodeState(
    address="10.0.0.1",
    versions={"Python": "3.11.7", "torch": "2.15.0"},
    open_files=65536,
    shared_memory_bytes=10**10,
    disk_bytes=10**11,
    cache_bytes=10**11,
    gpus=(),
    clock_ahead_seconds=0.01,
    death_seconds=9.0,
)


def second(**changes: Any) -> NodeState:
    return dataclasses.replace(HEALTHY, address="10.0.0.2", **changes)


def test_nothing_is_to_mend_when_all_nodes_are_alike() -> None:
    assert [check.name for check in judge([HEALTHY, second()]) if not check.ok] == []


@pytest.mark.parametrize(
    ("other", "name", "said"),
    [
        (
            second(versions={"Python": "3.11.7", "torch": "2.11.0"}),
            "versions on all nodes",
            "10.0.0.2 has torch 2.11.0",
        ),
        (second(versions={"Python": "3.11.7"}), "versions on all nodes", "10.0.0.2 has torch None"),
        (second(clock_ahead_seconds=-3.0), "clocks", "3.000 s at most (10.0.0.2)"),
        (second(open_files=256), "open files on all nodes", "256 at least (10.0.0.2)"),
        (second(shared_memory_bytes=64 * 2**20), "shared memory on all nodes", "64 MiB at least (10.0.0.2)"),
        (second(disk_bytes=10**9), "disk on all nodes", "1.0 GB at least (10.0.0.2)"),
        (second(cache_bytes=10**9), "disk for caches on all nodes", "1.0 GB at least (10.0.0.2)"),
        (second(gpu_fault="Unknown Error"), "GPUs on all nodes", "10.0.0.2: Unknown Error"),
    ],
)
def test_node_is_named_when_it_differs(other: NodeState, name: str, said: str) -> None:
    (check,) = [check for check in judge([HEALTHY, other]) if not check.ok]
    assert check.name == name
    assert said in check.found and check.advice


def test_nodes_that_lack_images_are_named_with_what_to_do() -> None:
    lacking = second(missing_files=("images of svhn: adaptertune data prepare svhn",))
    assert files_check([HEALTHY, second()], "demo").ok
    check = files_check([HEALTHY, lacking], "demo")
    assert (check.ok, check.found) == (False, "missing on 10.0.0.2")
    assert check.advice == "on 10.0.0.2: images of svhn: adaptertune data prepare svhn"


def test_health_check_is_named_when_it_is_rays_default() -> None:
    (check,) = [check for check in judge([dataclasses.replace(HEALTHY, death_seconds=65.0)]) if not check.ok]
    assert (check.name, "RAY_health_check_period_ms" in check.advice) == ("health check", True)


def test_bandwidth_is_the_slower_ranks() -> None:
    # By hand: 4 KiB in 2 ms are 2,048,000 bytes a second.
    times = slower([[0.001, 0.002, 0.5], [0.002, 0.001, 0.25]])
    assert times == [0.002, 0.002, 0.5]
    assert bandwidths(times)[SIZES_BYTES[0]] == pytest.approx(2_048_000)


def test_error_is_told_when_a_rank_failed() -> None:
    with pytest.raises(RuntimeError, match="no route"):
        slower([[0.1, 0.1, 0.1], "OSError: no route"])


@pytest.mark.slow
def test_two_processes_exchange_arrays_when_measured_here() -> None:
    assert all(0 < seconds < 60 for seconds in measure_here())
