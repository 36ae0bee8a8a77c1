"""The command line as people and programs meet it: help, exit statuses, JSON on stdout, messages on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuning.cli.app import run
from tuning.study import load_study

COMMANDS = [
    "plan",
    "run",
    "submit",
    "launch-files",
    "status",
    "report",
    "lock",
    "confirm",
    "train",
    "list",
    "pretrain",
    "ui",
    "doctor",
]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr of a command, with the lines of messages joined."""
    status = run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, " ".join(captured.err.split())


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder that is not there yet, below the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAPTERTUNE_OUTPUT", raising=False)
    return tmp_path / "output"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = answer(capsys, command, "--help")
    assert status == 0
    assert f"adaptertune {command} " in " ".join(text.split("Example:")[1].split()) + " "


def test_every_command_is_tested_when_the_help_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    from tuning.cli.app import app

    assert set(typer.main.get_command(app).commands) >= set(COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["plan", "run", "status"])
def test_nearest_study_is_named_when_the_name_is_unknown(
    command: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command, "demoo", "--json", *(["--output", str(output)] if command != "plan" else [])]
    status, text, messages = answer(capsys, *arguments)
    assert (status, text) == (2, "")
    assert "study: found 'demoo'" in messages and "Did you mean 'demo'?" in messages
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("run", "demo", "--output", "FILE/results"), "--output"),
        (("run", "demo", "--output", "results", "--report-dir", "FILE/report"), "--report-dir"),
        (("pretrain", "vit_nano", "--output", "FILE/weights.safetensors"), "--output"),
        (("pretrain", "vit_nano", "--output", "."), "--output"),
        (("train", "TRIAL", "--output", "FILE/results"), "output folder"),
    ],
)
def test_output_is_refused_before_any_work_when_it_cannot_be_written(
    arguments: tuple[str, ...],
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    Path("TRIAL").write_text("{backbone: vit_nano, dataset: digits, method: head_only}")
    status, text, messages = answer(capsys, *arguments)
    assert (status, text) == (2, "")
    assert f"{option}: found " in messages
    assert sorted(path.name for path in tmp_path.iterdir()) in (["FILE", "TRIAL"], ["FILE", "TRIAL", "results"])


def test_submit_is_named_when_the_address_is_ray_clients(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, messages = answer(
        capsys, "run", "demo", "--address", "ray://head:10001", "--output", str(output), "--json"
    )
    assert (status, text) == (2, "")
    assert "--address: found 'ray://head:10001'" in messages
    assert "adaptertune submit" in messages


def test_report_is_refused_when_tracking_knows_no_such_study(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, messages = answer(capsys, "report", "never-run", "--output", str(output), "--json")
    assert (status, text) == (2, "")
    assert "never-run" in messages


def test_setting_is_refused_when_malformed(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, messages = answer(capsys, "plan", "demo", "--set", "epochs", "--json")
    assert (status, text) == (2, "")
    assert "--set: found 'epochs'; must have the form key=value" in messages


def test_option_is_refused_when_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, messages = answer(capsys, "run", "demo", "--outptu", "x")
    assert (status, text) == (2, "")
    assert "--outptu" in messages


def test_every_trial_is_planned_and_nothing_runs_when_asked_for_the_plan(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, _ = answer(capsys, "plan", "demo", "--json")
    document = json.loads(text)
    planned = [trial_id for row in document["conditions"] for trial_id in row["trial_ids"]]
    assert status == 0
    assert sorted(planned) == sorted(trial.spec.trial_id for trial in load_study("demo").trials)
    assert document["num_trials"] == len(planned) and document["worker_hours"] > 0
    assert list(output.parent.iterdir()) == []


def test_memory_hours_and_cost_are_planned_when_a_device_is_named(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("--set", "method=[head_only, full_finetune]", "--set", "claims=[]", "--device", "l4", "--price", "2")
    status, text, _ = answer(capsys, "plan", "demo", *chosen, "--json")
    document = json.loads(text)
    (l4,) = [device for device in document["devices"] if device["name"] == "l4"]
    planned = [row["devices"]["l4"] for row in document["conditions"]]
    assert status == 0
    assert (l4["price_source"], l4["usd"]) == ("--price", pytest.approx(2 * l4["gpu_hours"]))
    assert l4["gpu_hours"] == pytest.approx(3 * sum(one["gpu_hours_per_trial"] for one in planned))
    assert all(one["memory_bytes"] == sum(one["memory"].values()) and one["fits"] for one in planned)
    # 67 of H100's fp32 TFLOPS to 30.3 of L4's, by their datasheets.
    h100 = document["conditions"][0]["devices"]["h100"]
    assert planned[0]["gpu_hours_per_trial"] / h100["gpu_hours_per_trial"] == pytest.approx(67 / 30.3)


def test_devices_are_named_when_one_is_unknown(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, messages = answer(capsys, "plan", "demo", "--device", "h10", "--json")
    assert (status, text) == (2, "")
    assert "--device: found 'h10'" in messages and "h100" in messages


def test_all_trials_wait_when_there_is_no_output_yet(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = answer(capsys, "status", "demo", "--output", str(output), "--json")
    document = json.loads(text)
    assert status == 0
    assert document["states"] == {"waiting": document["num_trials"]}
    assert {trial["state"] for trial in document["trials"]} == {"waiting"}
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("methods", {"name", "options", "source", "revision"}),
        ("backbones", {"name", "licence", "source", "num_parameters"}),
        ("datasets", {"name", "licence", "source", "split_sha256", "num_images"}),
        ("studies", {"name", "num_trials", "question", "needs"}),
    ],
)
def test_list_gives_sources_and_licences_when_asked_for_json(
    kind: str, fields: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, text, messages = answer(capsys, "list", kind, "--json")
    rows: list[dict[str, Any]] = json.loads(text)[kind]
    assert (status, messages) == (0, "")
    assert rows and all(fields <= set(row) for row in rows)
    # A user's own images have neither counts nor a split before their folder is named.
    stated = [row for row in rows if row["name"] not in ("image_folder", "hf")]
    assert all(row[field] not in (None, "") for row in stated for field in fields - {"question", "num_trials", "needs"})
    assert all(row[field] for row in rows for field in fields & {"name", "licence", "source"})


def test_study_is_listed_with_what_it_needs_when_its_images_are_not_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, text, _ = answer(capsys, "list", "studies", "--json")
    rows = {row["name"]: row for row in json.loads(text)["studies"]}
    assert (rows["demo"]["num_trials"], rows["demo"]["needs"]) == (60, "")
    assert rows["real-check"]["num_trials"] is None
    assert "cifar100_100_20.tar: there is no such folder or tar" in rows["real-check"]["needs"]


def test_list_is_refused_when_the_kind_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, messages = answer(capsys, "list", "method")
    assert (status, text) == (2, "")
    assert "methods" in messages


def test_doctor_reports_every_check_when_asked_for_json(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = answer(capsys, "doctor", "--output", str(output), "--json")
    document = json.loads(text)
    found = {check["name"]: check["ok"] for check in document["checks"]}
    assert {"Python", "torch", "deepspeed", "ray", "mlflow", "process group", "tracking"} <= set(found)
    assert document["ok"] == all(found.values())
    assert status == (0 if document["ok"] else 3)
    assert all(check["advice"] for check in document["checks"] if not check["ok"])


def test_images_and_weights_are_missed_when_a_study_is_named(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmark.presence import missing_files

    monkeypatch.setenv("ADAPTERTUNE_DATA", str(output))
    missing = missing_files([trial.spec for trial in load_study("large").trials])
    assert missing[0] == "images of cifar100: adaptertune data prepare cifar100"
    assert missing_files([trial.spec for trial in load_study("demo").trials]) == []
    (output / "cifar100").mkdir(parents=True)
    (output / "cifar100" / "cifar-100-python.tar.gz").touch()
    assert not [one for one in missing_files([load_study("large").trials[0].spec]) if one.startswith("images")]


def test_no_question_is_asked_when_stdin_is_closed(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    command = 'exec "$0" -m tuning run demoo --json <&-'
    finished = subprocess.run(
        ["bash", "-c", command, sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "Did you mean 'demo'?" in finished.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [["list", "backbones"], ["list", "datasets"], ["list", "methods"], ["plan", "demo"]]
)
def test_no_name_is_cut_when_the_terminal_is_80_columns_wide(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, text, _ = answer(capsys, *command)
    assert status == 0
    assert "…" not in text


@pytest.mark.parametrize(
    ("kind", "name"),
    [("backbones", "vit_huge_patch14_224.mae"), ("datasets", "svhn"), ("datasets", "vtab_kitti_distance")],
)
def test_non_commercial_terms_show_when_listed(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = answer(capsys, "list", kind)
    (row,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    assert row.split()[-1] == "NC"


def test_version_is_told_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert answer(capsys, "--version")[:2] == (0, f"adaptertune-bench {version('adaptertune-bench')}\n")


def test_shell_completes_commands_and_options_when_the_script_asks(tmp_path: Path) -> None:
    program = tmp_path / "adaptertune"
    program.write_text(f"#!{sys.executable}\nfrom tuning.cli import main\n\nmain()\n")
    program.chmod(0o755)

    def completed(words: str) -> list[str]:
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        settings = {"_ADAPTERTUNE_COMPLETE": "complete_bash", "PYTHONPATH": str(Path(__file__).parents[2])}
        environment = {**os.environ, **asked, **settings}
        done = subprocess.run([str(program)], env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.split()

    assert completed("adaptertune sta") == ["status"]
    assert completed("adaptertune run --max") == ["--max-hours", "--max-gpu-hours"]
