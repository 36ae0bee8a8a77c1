"""`adaptertune status`, `report` and `ui`: what is done, what it means, and MLflow's pages."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmark.result import TrialStatus
from tuning.cli.output import (
    DEFAULT_OUTPUT,
    AsJson,
    OutputDirectory,
    Settings,
    StudyArgument,
    TrackingUri,
    as_percent,
    console,
    print_json,
    tracking_uri_or_default,
)
from tuning.study import load_study

STATUS_EXAMPLE = "Example: adaptertune status demo"
REPORT_EXAMPLE = "Example: adaptertune report demo --json"
UI_EXAMPLE = "Example: adaptertune ui --port 5000"


def status(
    context: typer.Context,
    study: StudyArgument,
    settings: Settings = None,
    output: OutputDirectory = DEFAULT_OUTPUT,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask the head of a cluster, where `submit` runs the study.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say what of a study is done, running, failed and why. Reads the suite's own ledger, not MLflow."""
    from tuning.growing_study import as_far_as_known
    from tuning.ledger import Ledger, LedgerEntry

    if address is not None:
        from tuning.cli.submitting import remote_status

        # The variable and the default name a folder of this machine, not of the head.
        is_given = getattr(context.get_parameter_source("output"), "name", "") == "COMMANDLINE"
        remote = str(output) if is_given else None
        return remote_status(study, settings or [], address, remote, "python", as_json)
    loaded = load_study(study, settings or [])
    entries: dict[str, LedgerEntry] = {}
    if output.exists():
        with contextlib.closing(Ledger(output)) as ledger:
            loaded = as_far_as_known(loaded, ledger)
            entries = ledger.entries(list(loaded.trial_specs))
    specs = loaded.trial_specs
    states = {trial_id: str(entries[trial_id].state) if trial_id in entries else "waiting" for trial_id in specs}
    counts = {state: list(states.values()).count(state) for state in sorted(set(states.values()))}
    if loaded.num_trials_to_come:
        counts["not chosen yet"] = loaded.num_trials_to_come
    if as_json:
        trials = [_trial_line(trial_id, states[trial_id], entries.get(trial_id)) for trial_id in specs]
        print_json({"study": loaded.spec.name, "num_trials": loaded.num_trials, "states": counts, "trials": trials})
        return 0
    console.print(f"{loaded.spec.name}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    table = Table("trial", "condition", "state", "epoch", "best validation", "reason", box=None)
    for trial_id, entry in entries.items():
        if entry.state is not TrialStatus.COMPLETED:
            epoch = "–" if entry.epoch is None else str(entry.epoch)
            best = as_percent(entry.best_validation_top1)
            label = f"{loaded.labels[specs[trial_id].condition_id]}, seed {specs[trial_id].seed}"
            table.add_row(trial_id, label, states[trial_id], epoch, best, entry.reason or "")
    if table.row_count:
        console.print(table)
    return 0


def report(
    study: StudyArgument,
    report_dir: Annotated[Path | None, typer.Option(help="Where the report goes.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a study with missing seeds.")] = False,
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Write a study's report from tracking alone: page, tables, figures, claims."""
    from tuning.run_study import RunSettings, write_report

    uri = tracking_uri_or_default(tracking_uri, output)
    settings = RunSettings(output, uri, report_directory=report_dir, strict=strict)
    written = write_report(_study_name(study), settings)
    if as_json:
        print_json(written.summary)
        return 0
    for claim in written.summary["claims"]:
        console.print(f"{claim['verdict']:>12}  {claim['text']}", markup=False)
    console.print(f"Report: {written.index}", soft_wrap=True)
    return 0


def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Serve MLflow's pages over the results, on this machine only, until Ctrl-C."""
    from benchmark.tracking import create_store, study_pages, ui_command, ui_environment

    uri = tracking_uri_or_default(tracking_uri, output)
    chosen = port or _free_port()
    command = ui_command(uri, chosen)
    create_store(uri)
    address = f"http://127.0.0.1:{chosen}"
    pages = study_pages(uri, address)
    if as_json:
        print_json({"address": address, "command": command, "studies": pages})
    else:
        console.print(f"MLflow's pages: {address} (Ctrl-C ends them). The trials of each study, best first:")
        for name, page in pages.items():
            console.print(f"  {name}: {page}", soft_wrap=True, markup=False)
    return subprocess.run(command, env={**os.environ, **ui_environment()}, check=False).returncode


def _study_name(study: str) -> str:
    """Return the study's name: a file's own, else the argument, since tracking may know studies whose file is gone."""
    if Path(study).is_file():
        return load_study(study).spec.name
    return study


def _trial_line(trial_id: str, state: str, entry: Any) -> dict[str, object]:
    return {
        "trial_id": trial_id,
        "state": state,
        "epoch": entry.epoch if entry else None,
        "best_validation_top1": entry.best_validation_top1 if entry else None,
        "reason": entry.reason if entry else None,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
