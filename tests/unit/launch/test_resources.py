import pytest

from benchmark.errors import MissingError
from launch.resources import Node, TrialResources, check_feasible

ONE_CPU_NODE = (Node("a", "127.0.0.1", 2, 0),)
TWO_GPU_NODES = (Node("a", "10.0.0.1", 8, 4), Node("b", "10.0.0.2", 8, 2))


@pytest.mark.parametrize(
    ("strategy", "gpus", "num_workers"),
    [("PACK", 1, 6), ("SPREAD", 1, 6), ("STRICT_PACK", 1, 4), ("STRICT_SPREAD", 1, 2), ("STRICT_SPREAD", 2, 2)],
)
def test_placement_is_accepted_when_it_just_fits(strategy, gpus, num_workers):
    check_feasible(TrialResources(1, gpus, strategy), num_workers, TWO_GPU_NODES)


@pytest.mark.parametrize(
    ("strategy", "gpus", "num_workers"),
    [("PACK", 1, 7), ("SPREAD", 3, 2), ("STRICT_PACK", 1, 5), ("STRICT_SPREAD", 1, 3), ("STRICT_SPREAD", 4, 2)],
)
def test_placement_is_refused_when_one_more_than_fits(strategy, gpus, num_workers):
    with pytest.raises(MissingError):
        check_feasible(TrialResources(1, gpus, strategy), num_workers, TWO_GPU_NODES)


def test_refusal_says_what_is_missing_when_gpus_are_asked_of_a_cpu_machine():
    with pytest.raises(MissingError) as refusal:
        check_feasible(TrialResources(0, 1, "STRICT_SPREAD"), 4, ONE_CPU_NODE)
    expected = (
        "4 bundles of 1 GPU under STRICT_SPREAD = 4 nodes with 1 GPU each; the cluster has 1 node, 2 CPUs, 0 GPUs"
    )
    assert expected in str(refusal.value)


def test_shares_of_a_device_do_not_add_up_when_they_lie_on_two():
    two_devices = (Node("a", "10.0.0.1", 8, 2),)
    check_feasible(TrialResources(1, 0.6), 2, two_devices)
    with pytest.raises(MissingError):
        check_feasible(TrialResources(1, 0.6), 3, two_devices)
