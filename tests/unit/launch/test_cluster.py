import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.errors import MissingError, RequestError
from launch import cluster
from launch.messages import logged_messages


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://head:8265", ""])
def test_address_is_refused_when_it_is_not_of_the_three_forms(address):
    with pytest.raises(RequestError), cluster.connect(address):
        pass


def test_refusal_advises_submit_when_address_is_ray_client():
    with pytest.raises(RequestError, match="adaptertune submit"), cluster.connect("ray://head:10001"):
        pass


OF_ANOTHER_TIME = {"start_ticks": 1}


@pytest.mark.parametrize(
    ("changed", "stays"),
    [
        ({}, True),
        (OF_ANOTHER_TIME, False),
        ({**OF_ANOTHER_TIME, "boot_id": "before the machine was started again"}, False),
        ({**OF_ANOTHER_TIME, "host": "another-host-with-the-same-folder"}, True),
        ({**OF_ANOTHER_TIME, "pid_namespace": "pid:[of another container]"}, True),
    ],
)
def test_leftovers_are_removed_when_their_process_is_known_to_be_gone(changed, stays, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_temporary_root", lambda: tmp_path)
    other = tmp_path / "adaptertune-other"
    other.mkdir()
    with cluster._own_folder() as own:
        owner = json.loads((own / "owner.json").read_text())
        (other / "owner.json").write_text(json.dumps({**owner, **changed}))
        cluster.remove_leftovers()
        assert other.exists() == stays and own.exists()
    assert not own.exists()


def test_folder_is_known_as_left_over_when_its_process_was_killed_while_it_removed_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_temporary_root", lambda: tmp_path)
    program = "import os, shutil, signal\nfrom benchmark import folders\nown = folders.claimed_folder()\n"
    program += "for name in 'abc': (own / name).mkdir()\n"
    program += "shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\nfolders.remove_claimed(own)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], env=environment, check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "owner.json").exists()
    cluster.remove_leftovers()
    assert list(tmp_path.iterdir()) == []


def test_folder_for_files_on_their_way_is_removed_when_its_process_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_temporary_root", lambda: tmp_path)
    program = "import time; from benchmark.folders import own_temporary_folder as own\n"
    program += "with own() as folder: print(folder, flush=True); time.sleep(60)"
    command, repository = [sys.executable, "-c", program], Path(__file__).parents[3]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=repository, env=environment, stdout=subprocess.PIPE, text=True) as process:
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir() and list(folder.iterdir()) == []
        cluster.remove_leftovers()
        assert folder.is_dir(), "its process lives"
        process.kill()
    cluster.remove_leftovers()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1"])
def test_address_is_refused_at_once_when_nothing_listens_there(address):
    with pytest.raises(MissingError, match="no Ray cluster at"), cluster.connect(address):
        pass


def test_missing_is_raised_when_rays_own_processes_do_not_start_in_time(monkeypatch):
    import ray

    def too_late(**settings):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", too_late)
    with pytest.raises(MissingError, match="may be overloaded"), cluster.connect("local"):
        pass


def test_rays_messages_are_logged_and_stdout_stays_the_commands(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from ray._private import worker

    before = worker.print_to_stdstream
    with logged_messages():
        worker.print_to_stdstream(
            {"lines": ["The node is dead"], "pid": "raylet", "is_err": False}, ignore_prefix=False
        )
    assert worker.print_to_stdstream is before
    assert (capsys.readouterr().out, caplog.messages) == ("", ["Ray: The node is dead"])
