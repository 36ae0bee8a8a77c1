"""`adaptertune submit`: a study as a Ray job, and `status` of a study on a cluster."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any

import typer

from benchmark.errors import MissingError
from launch.interrupts import INTERRUPTED
from launch.submission import (
    JobEnd,
    RemoteCommand,
    check_dashboard_address,
    check_remote_output,
    check_remote_tracking,
    connect_to_dashboard,
    follow,
    read_variables,
)
from launch.submission import submit as submit_job
from tuning.cli.output import AsJson, Settings, StudyArgument, console, errors, print_json
from tuning.cli.running import MaxGpuHours, MaxHours, NoPack, Strict
from tuning.study import load_study, read_study_spec

EXAMPLE = "Example: adaptertune submit demo --address http://127.0.0.1:8265"

DashboardAddress = Annotated[
    str, typer.Option(metavar="URL", help="The cluster's dashboard, such as http://HEAD:8265.")
]
RemoteOutput = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="The results' folder on the head node. Default: its $ADAPTERTUNE_OUTPUT or ~/adaptertune-output",
    ),
]
RemoteTrackingUri = Annotated[
    str | None,
    typer.Option(metavar="URI", help="The MLflow store, as the head reaches it. Default: sqlite in the output."),
]
Python = Annotated[str, typer.Option(metavar="COMMAND", help="The head's Python that has the suite's dependencies.")]


def submit(
    study: StudyArgument,
    address: DashboardAddress,
    settings: Settings = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show the log until the end.")] = True,
    max_hours: MaxHours = None,
    max_gpu_hours: MaxGpuHours = None,
    strict: Strict = False,
    no_pack: NoPack = False,
    output: RemoteOutput = None,
    tracking_uri: RemoteTrackingUri = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", metavar="NAME[=VALUE]", help="A variable of the job; the dashboard shows it. Repeatable."
        ),
    ] = None,
    python: Python = "python",
    as_json: AsJson = False,
) -> int:
    """Run a study on a Ray cluster from anywhere: send it to the head as a job, and follow its log."""
    url = check_dashboard_address(address)
    check_remote_output(output)
    check_remote_tracking(tracking_uri)
    variables = read_variables(env or [])
    name = _checked_here(study, settings or [])
    given = {"--max-hours": max_hours, "--max-gpu-hours": max_gpu_hours, "--tracking-uri": tracking_uri}
    options = ["--address", "auto", *_as_options(settings or [], given)]
    options += [flag for flag, is_wanted in _flags(strict, no_pack, as_json) if is_wanted]
    client = connect_to_dashboard(url)
    job_id = submit_job(client, RemoteCommand("run", study, options, output, python, variables))
    say = errors if as_json else console
    say.print(f"{name} is job {job_id} at {url}", highlight=False, soft_wrap=True)
    if not wait:
        return _tell_submitted(job_id, url, name, as_json)
    end, log = _followed(client, job_id, url)
    if end is None:
        return INTERRUPTED
    if as_json:
        print_json(
            {**_document(job_id, url, name, end.status), "exit_status": end.exit_status, "run": document_in(log)}
        )
    elif end.exit_status:
        errors.print(f"The job ended as {end.status}: {end.message}", highlight=False, markup=False, soft_wrap=True)
    return end.exit_status


def remote_status(study: str, settings: list[str], address: str, output: str | None, python: str, as_json: bool) -> int:
    """Ask a cluster's head what of a study is done there; prints what `status` prints on the head."""
    url = check_dashboard_address(address)
    check_remote_output(output)
    read_study_spec(study, settings)
    client = connect_to_dashboard(url)
    options = [*_as_options(settings, {}), "--json"]
    job_id = submit_job(client, RemoteCommand("status", study, options, output, python))
    end = follow(client, job_id, lambda text: None)
    document = document_in(client.get_job_logs(job_id))
    if document is None:
        raise MissingError(f"The head could not tell: {end.message}\n{client.get_job_logs(job_id)}")
    if as_json:
        print_json(document)
        return end.exit_status
    counts = ", ".join(f"{count} {state}" for state, count in document["states"].items())
    console.print(f"{document['study']}: {counts}", markup=False, soft_wrap=True)
    for trial in document["trials"]:
        if trial["reason"]:
            console.print(f"{trial['trial_id']} {trial['state']}: {trial['reason']}", markup=False, soft_wrap=True)
    return end.exit_status


def document_in(log: str) -> dict[str, Any] | None:
    """Return the last JSON document that stands in a log on lines of its own; none where there is none."""
    documents = re.findall(r"^\{$.*?^\}$", log, re.MULTILINE | re.DOTALL)
    try:
        return dict(json.loads(documents[-1])) if documents else None
    except ValueError:
        return None


def _checked_here(study: str, settings: list[str]) -> str:
    """Refuse a wrong study before anything is sent; what only this machine lacks, the cluster may have."""
    name = read_study_spec(study, settings).name
    try:
        load_study(study, settings)
    except MissingError as error:
        errors.print(f"Not checked here, the cluster will: {error}", highlight=False, markup=False, soft_wrap=True)
    return name


def _as_options(settings: list[str], given: dict[str, Any]) -> list[str]:
    pairs = [("--set", setting) for setting in settings]
    pairs += [(name, str(value)) for name, value in given.items() if value is not None]
    return [word for pair in pairs for word in pair]


def _flags(strict: bool, no_pack: bool, as_json: bool) -> tuple[tuple[str, bool], ...]:
    return (("--strict", strict), ("--no-pack", no_pack), ("--json", as_json))


def _document(job_id: str, url: str, study: str, status: str) -> dict[str, Any]:
    return {"job_id": job_id, "address": url, "study": study, "status": status}


def _tell_submitted(job_id: str, url: str, study: str, as_json: bool) -> int:
    if as_json:
        print_json(_document(job_id, url, study, "SUBMITTED"))
    else:
        console.print(_how_to_follow(job_id, url), soft_wrap=True)
    return 0


def _followed(client: Any, job_id: str, url: str) -> tuple[JobEnd | None, str]:
    """Show the log on stderr; return how the job ended, none where Ctrl-C left it to itself, and the log."""
    log: list[str] = []

    def show(text: str) -> None:
        log.append(text)
        sys.stderr.write(text)
        sys.stderr.flush()

    try:
        return follow(client, job_id, show), "".join(log)
    except KeyboardInterrupt:
        errors.print(f"\nThe job goes on. {_how_to_follow(job_id, url)}", highlight=False, soft_wrap=True)
        return None, ""


def _how_to_follow(job_id: str, url: str) -> str:
    return (
        f"Follow it: ray job logs --follow --address {url} {job_id} · stop it: ray job stop --address {url} {job_id} "
        "(submitting the study again goes on from there)"
    )
