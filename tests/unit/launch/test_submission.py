"""What is sent to a cluster and what is refused before; the sending itself is in tests/cluster/test_submit.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import MissingError, RequestError
from launch import submission
from launch.submission import RemoteCommand
from tuning.cli.app import run
from tuning.cli.submitting import document_in


@pytest.mark.parametrize("address", ["ray://head:10001", "head:8265", "http://user:secret@head:8265", "http://"])
def test_address_is_refused_when_it_is_no_dashboards(address: str) -> None:
    with pytest.raises(RequestError, match=r"--address.*dashboard"):
        submission.check_dashboard_address(address)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "file:mlruns"])
def test_tracking_store_is_refused_when_relative(uri: str) -> None:
    with pytest.raises(RequestError, match=r"--tracking-uri.*absolute"):
        submission.check_remote_tracking(uri)


@pytest.mark.parametrize("uri", ["sqlite:////shared/mlflow.db", "/shared/mlruns", "http://mlflow:5000", None])
def test_tracking_store_is_taken_when_the_head_can_find_it(uri: str | None) -> None:
    submission.check_remote_tracking(uri)


def test_password_is_kept_out_of_the_error_when_the_dashboard_would_show_it() -> None:
    with pytest.raises(RequestError, match="would show the password") as caught:
        submission.check_remote_tracking("https://ada:hunter2@mlflow.example")
    assert "hunter2" not in str(caught.value)


def test_words_reach_the_head_as_they_are_when_they_hold_shell_signs(tmp_path: Path) -> None:
    options = ["--set", "method=[head_only, {name: lora, rank: [1, 2]}]", "--set", "question=Who's $HOME?"]
    show = tmp_path / "show.py"
    show.write_text("import sys; sys.stdout.write('\\n'.join(sys.argv[1:]))")
    command = RemoteCommand("run", "demo", options, python=f"{sys.executable}")
    line = command.entrypoint().replace("-m tuning", str(show), 1)
    environment = {"HOME": "/home/with space"}
    shown = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["run", "demo", *options, "--output", "/home/with space/adaptertune-output"]


def test_only_the_packages_and_the_study_are_staged_when_the_folder_holds_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, staged = tmp_path / "here", tmp_path / "staged"
    here.mkdir()
    staged.mkdir()
    for name in ("mine.yaml", ".env", "secret.key", "data.tar"):
        (here / name).write_text("name: mine")
    monkeypatch.chdir(here)
    command = RemoteCommand("run", "mine.yaml")
    submission.stage(command, staged)
    assert sorted(path.name for path in staged.iterdir()) == ["benchmark", "launch", "reports", "study.yaml", "tuning"]
    assert " run study.yaml " in command.entrypoint()
    total_bytes = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())
    assert total_bytes < 20e6  # Ray refuses a working folder of more than some hundred megabytes


def test_variables_are_read_when_named_or_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/shared/hf")
    assert submission.read_variables(["HF_HOME", "A=b=c"]) == {"HF_HOME": "/shared/hf", "A": "b=c"}
    monkeypatch.delenv("HF_HOME")
    with pytest.raises(RequestError, match="is not set here"):
        submission.read_variables(["HF_HOME"])


class BrokenThenWhole:
    """A cluster whose first connection for the log breaks in the middle of it."""

    def __init__(self) -> None:
        self.num_connections = 0

    async def tail_job_logs(self, job_id: str) -> Any:
        self.num_connections += 1
        yield "one\ntwo\n"
        if self.num_connections == 1:
            raise RuntimeError("closed")
        yield "three\n"

    def get_job_info(self, job_id: str) -> Any:
        from ray.job_submission import JobStatus

        return SimpleNamespace(status=JobStatus.FAILED, driver_exit_code=3, message="it failed")

    def get_job_logs(self, job_id: str) -> str:
        return "one\ntwo\nthree\nfour\n"


def test_every_line_is_shown_once_when_the_connection_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_SECONDS_BETWEEN_QUESTIONS", 0.0)
    shown: list[str] = []
    end = submission.follow(BrokenThenWhole(), "job", shown.append)
    assert "".join(shown) == "one\ntwo\nthree\nfour\n"
    assert end == submission.JobEnd("FAILED", 3, "it failed")


def test_nothing_answers_is_said_when_there_is_no_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:2")
    with pytest.raises(MissingError, match=r"takes jobs at http://127\.0\.0\.1:1: "):
        submission.connect_to_dashboard("http://127.0.0.1:1")


def test_document_is_found_when_it_stands_among_other_lines() -> None:
    assert document_in('Running {"a": 1}\n{\n  "b": {\n    "c": 2\n  }\n}\nend\n') == {"b": {"c": 2}}
    assert document_in("no document\n") is None


def test_wrong_study_is_refused_when_submitted_before_the_cluster_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["submit", "demoo", "--address", "http://127.0.0.1:1", "--json"])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert "Did you mean 'demo'?" in captured.err


def test_every_option_of_run_is_submits_too_when_it_means_something_on_a_head() -> None:
    import typer

    from tuning.cli.app import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name: {word for one in commands[name].params for word in one.opts if word.startswith("--")}
        for name in ("run", "submit")
    }
    # The report lies in the output folder there; the rest must not be forgotten when `run` learns something.
    assert options["run"] - options["submit"] == {"--report-dir"}
