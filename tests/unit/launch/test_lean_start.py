import pytest
from ray._private import node, services, utils

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


def test_dashboards_agent_is_the_small_one_and_ray_is_as_before_afterwards():
    before = utils.get_dashboard_dependency_error
    with lean_node():
        assert utils.get_dashboard_dependency_error() is not None, "as where Ray was installed without a dashboard"
    assert utils.get_dashboard_dependency_error is before
