from ray._private import node, services

from launch.lean_start import without_dashboard_server


def test_no_dashboard_server_is_started_and_ray_is_as_before_afterwards(monkeypatch):
    started = []
    monkeypatch.setattr(services, "start_api_server", lambda *given, **options: started.append(given))
    before = node.Node.start_api_server
    bare = object.__new__(node.Node)
    with without_dashboard_server():
        bare.start_api_server(include_dashboard=False, raise_on_failure=False)
    assert started == []
    assert node.Node.start_api_server is before
