import pytest
from ray._private import node, services

from launch.lean_start import lean_node

OPTIONS = {"start_api_server": {"include_dashboard": False, "raise_on_failure": False}}


@pytest.mark.parametrize("name", ["start_api_server", "start_monitor", "start_log_monitor"])
def test_what_nobody_asks_is_not_started_and_ray_is_as_before_afterwards(name, monkeypatch):
    started = []
    monkeypatch.setattr(services, name, lambda *given, **options: started.append(given))
    before = getattr(node.Node, name)
    bare = object.__new__(node.Node)
    with lean_node():
        getattr(bare, name)(**OPTIONS.get(name, {}))
    assert started == []
    assert getattr(node.Node, name) is before
