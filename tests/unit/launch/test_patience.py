import pytest
from ray._private import services

from launch.patience import patient_start


def test_start_goes_on_when_the_node_registers_late(monkeypatch):
    answers = [RuntimeError("no such node"), RuntimeError("no such node"), {"alive": True}]

    def late(gcs_address, node_id):
        answer = answers.pop(0)
        if isinstance(answer, RuntimeError):
            raise answer
        return (gcs_address, node_id, answer)

    monkeypatch.setattr(services, "get_node", late)
    with patient_start():
        assert services.get_node("gcs", "node") == ("gcs", "node", {"alive": True})
    assert services.get_node is late


def test_start_is_given_up_when_the_node_never_registers(monkeypatch):
    def never(gcs_address, node_id):
        raise RuntimeError("no such node")

    monkeypatch.setattr(services, "get_node", never)
    with patient_start(0.1), pytest.raises(RuntimeError, match="no such node"):
        services.get_node("gcs", "node")


def test_something_else_is_done_once_while_the_node_starts(monkeypatch):
    events = []
    monkeypatch.setattr(services, "get_node", lambda gcs_address, node_id: events.append("asked"))
    with patient_start(meanwhile=lambda: events.append("done meanwhile")):
        services.get_node("gcs", "node")
        services.get_node("gcs", "node")
    assert events == ["done meanwhile", "asked", "asked"]
