import pytest
import ray
from ray import _raylet
from ray._private import services

from launch.patience import patient_start

NODE = ray.NodeID.from_random()


@pytest.fixture
def answers(monkeypatch):
    """What the cluster answers when it is asked whether the node is there; the last answer stands."""
    answers = [True]

    class Client:
        def __init__(self, address: str) -> None:
            assert address == "gcs"

        def check_alive(self, nodes, timeout):
            assert nodes == [NODE]
            return [answers.pop(0) if len(answers) > 1 else answers[0]]

    monkeypatch.setattr(_raylet, "GcsClient", Client)
    return answers


@pytest.fixture
def asked(monkeypatch, answers):
    """When Ray itself asked for the node: how many answers were left then."""
    asked = []

    def ask(gcs_address, node_id):
        asked.append(len(answers))
        if not answers[0]:
            raise RuntimeError("no such node")
        return {"alive": True}

    monkeypatch.setattr(services, "get_node", ask)
    return asked


def test_start_goes_on_when_the_node_registers_late(answers, asked):
    before = services.get_node
    answers[:] = [False, False, True]
    with patient_start():
        assert services.get_node("gcs", NODE.hex()) == {"alive": True}
    assert asked == [1]
    assert services.get_node is before


def test_start_is_given_up_when_the_node_never_registers(answers, asked):
    answers[:] = [False]
    with patient_start(0.1), pytest.raises(RuntimeError, match="no such node"):
        services.get_node("gcs", NODE.hex())


def test_something_else_is_done_once_while_the_node_starts(answers, asked):
    events = []
    with patient_start(meanwhile=lambda: events.append(len(asked))):
        services.get_node("gcs", NODE.hex())
        services.get_node("gcs", NODE.hex())
    assert events == [0]
    assert len(asked) == 2
