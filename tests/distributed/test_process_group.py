"""Real processes, real gloo."""

import os
import subprocess
import sys

import pytest

from benchmark.training.process_group import interface_of, join, join_from_environment, leave, open_store

RANK = """
import os, sys
import torch, torch.distributed
from benchmark.training.process_group import join, leave, open_store
os.environ["LOCAL_SIZE"] = "2"
rank, port = int(sys.argv[1]), None
store = None
if rank == 0:
    store = open_store(2)
    port = store.port
    print(port, flush=True)
else:
    port = int(sys.argv[2])
membership = join(rank, 2, "127.0.0.1", port, store=store, adopt=False)
total = torch.tensor([float(rank + 1)])
torch.distributed.all_reduce(total)
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "DS_ACCELERATOR", "GLOO_SOCKET_IFNAME")
print(total.item(), membership.rank, *(os.environ.get(name) for name in names), flush=True)
leave()
"""


def start_rank(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", RANK, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def clean_environment(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "DS_ACCELERATOR", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    yield
    leave()


def test_two_processes_reduce_together_when_they_meet_at_a_store():
    with start_rank("0") as first:
        port = first.stdout.readline().strip()
        with start_rank("1", port) as second:
            answers = [process.communicate(timeout=60)[0].split() for process in (first, second)]
    assert answers == [["3.0", rank, rank, "0", "2", "None", "cpu", "lo"] for rank in ("0", "1")]


def test_single_process_is_a_group_of_one_when_there_is_no_launcher(clean_environment):
    import torch.distributed

    membership = join_from_environment(adopt=False)
    assert (membership.rank, membership.world_size) == (0, 1)
    assert torch.distributed.get_world_size() == 1
    leave()
    assert not torch.distributed.is_initialized()


def test_environment_is_as_before_when_the_group_was_left(clean_environment, monkeypatch):
    monkeypatch.setenv("LOCAL_SIZE", "4")
    before = dict(os.environ)
    join(0, 1, adopt=False)
    assert os.environ["RANK"] == "0"
    leave()
    assert dict(os.environ) == before


def test_launchers_environment_is_followed_when_it_is_there(clean_environment, monkeypatch):
    store = open_store(1)
    port = store.port
    del store
    values = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert join_from_environment(adopt=False).world_size == 1
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"


def test_several_ranks_are_refused_when_they_have_no_store(clean_environment):
    with pytest.raises(ValueError, match="store_host and store_port"):
        join(1, 2, adopt=False)


def test_interface_is_named_by_the_address_it_holds():
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.7") is None
