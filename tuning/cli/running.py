"""`adaptertune run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.result import TrialStatus
from launch.cluster import check_address
from launch.interrupts import INTERRUPTED
from tuning.cli.output import (
    DEFAULT_OUTPUT,
    AsJson,
    OutputDirectory,
    Settings,
    StudyArgument,
    TrackingUri,
    console,
    errors,
    print_json,
    tracking_uri_or_default,
)
from tuning.fairness import budget_warnings
from tuning.run_study import RunSettings, StudyOutcome, run_study
from tuning.study import Study, load_study

EXAMPLE = "Example: adaptertune run demo --set seed=[0,1,2,3,4]"

SOME_FAILED, MISSING = 1, 3


Address = Annotated[
    str, typer.Option(metavar="local|auto|HOST:PORT", help="The Ray cluster; local starts one on this machine.")
]
MaxHours = Annotated[
    float | None, typer.Option(min=0, help="Stop after so many hours; the same command goes on from there.")
]
MaxGpuHours = Annotated[
    float | None, typer.Option(min=0, help="Stop once this run's trials have held GPUs for so many hours, added up.")
]
ReportDirectory = Annotated[Path | None, typer.Option(help="Where the report goes.")]
NoPack = Annotated[
    bool, typer.Option("--no-pack", help="Train each trial alone, not several in one pass over the frozen backbone.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse to report a study with missing seeds.")]


def run(
    study: StudyArgument,
    settings: Settings = None,
    address: Address = "local",
    max_hours: MaxHours = None,
    max_gpu_hours: MaxGpuHours = None,
    report_dir: ReportDirectory = None,
    no_pack: NoPack = False,
    strict: Strict = False,
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Run what is not done yet of a study, show its progress, and write its report."""
    return run_and_tell(
        load_study(study, settings or []),
        address=address,
        max_hours=max_hours,
        max_gpu_hours=max_gpu_hours,
        report_dir=report_dir,
        pack=not no_pack,
        strict=strict,
        output=output,
        tracking_uri=tracking_uri,
        as_json=as_json,
    )


def run_and_tell(
    study: Study,
    *,
    address: str,
    max_hours: float | None,
    max_gpu_hours: float | None,
    report_dir: Path | None,
    pack: bool,
    strict: bool,
    output: Path,
    tracking_uri: str | None,
    as_json: bool,
) -> int:
    """Run a study with live progress, say how it ended, and return the exit status; the options are `run`'s."""
    from tuning.cli.progress import LiveProgress

    run_settings = RunSettings(
        output_directory=output,
        tracking_uri=tracking_uri_or_default(tracking_uri, output),
        cluster_address=address,
        max_hours=max_hours,
        max_gpu_hours=max_gpu_hours,
        report_directory=report_dir,
        strict=strict,
        pack=pack,
    )
    check_address(address)
    for warning in budget_warnings(study):
        errors.print(f"[bold yellow]warning[/]: {warning}", highlight=False, soft_wrap=True)
    if pack and study.stops_early and study.spec.resources.trials_per_pack > 1:
        errors.print("Early stopping decides trial by trial, so none trains in one pass with others.", style="dim")
    with LiveProgress(study.spec.name, output) as progress:
        outcome = run_study(study, run_settings, progress)
    if as_json:
        print_json(_as_document(outcome))
    else:
        _tell(outcome)
    return _exit_status(outcome)


def _as_document(outcome: StudyOutcome) -> dict[str, object]:
    return {
        "study": outcome.study.spec.name,
        "num_trials": outcome.study.num_trials,
        "num_run": outcome.num_run,
        "interrupted": outcome.interrupted,
        "stopped_by": outcome.stopped_by,
        "statuses": outcome.statuses,
        "reasons": outcome.reasons,
        "not_tracked": list(outcome.undelivered),
        "report": str(outcome.report.index) if outcome.report else None,
        "summary": outcome.report.summary if outcome.report else None,
    }


def _tell(outcome: StudyOutcome) -> None:
    for trial_id, status in outcome.statuses.items():
        if status is not TrialStatus.COMPLETED:
            console.print(f"{trial_id} {status}: {outcome.reasons.get(trial_id, '')}", markup=False)
    study = outcome.study
    num_open = study.num_trials - len(outcome.statuses)
    if num_open:
        spent = f" ({outcome.stopped_by} is spent)" if outcome.stopped_by else ""
        left = f"{num_open} of {study.num_trials} trials are still open{spent}"
        console.print(f"{left}; the same command goes on from here.", soft_wrap=True)
    if not outcome.num_run and not num_open and not outcome.interrupted:
        console.print("Nothing was left to do.")
    if outcome.undelivered:
        console.print(f"{len(outcome.undelivered)} results are kept but not tracked yet; run the same command again.")
    if outcome.report is None:
        return
    for claim in outcome.report.summary["claims"]:
        console.print(f"{claim['verdict']:>12}  {claim['text']}", markup=False)
    if study.spec.kind == "search":
        file = f"{study.spec.name}.locked.yaml"
        console.print(f"Next: adaptertune lock {study.spec.name} --out {file}", soft_wrap=True)
    minutes = (outcome.report.summary["wall_seconds"] or 0.0) / 60
    console.print(f"{len(outcome.statuses)} trials, {minutes:.1f} min. Report: {outcome.report.index}", soft_wrap=True)
    console.print("Curves and runs: adaptertune ui", style="dim")


def _exit_status(outcome: StudyOutcome) -> int:
    if outcome.interrupted or outcome.stopped_by:
        return INTERRUPTED
    if outcome.undelivered:
        return MISSING
    all_completed = len(outcome.statuses) == outcome.study.num_trials and all(
        status in (TrialStatus.COMPLETED, TrialStatus.PRUNED) for status in outcome.statuses.values()
    )
    return 0 if all_completed else SOME_FAILED
