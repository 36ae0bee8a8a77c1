"""`adaptertune lock` and `confirm`: a search's selection, and the many seeds that test it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmark.errors import RequestError
from benchmark.folders import require_writable_file
from tuning.cli.output import (
    DEFAULT_OUTPUT,
    AsJson,
    OutputDirectory,
    Settings,
    StudyArgument,
    TrackingUri,
    as_percent,
    console,
    errors,
    print_json,
    tracking_uri_or_default,
)
from tuning.cli.running import Address, MaxGpuHours, MaxHours, NoPack, ReportDirectory, Strict, run_and_tell
from tuning.search_settings import ended_as
from tuning.study import expand, load_study, read_study_spec

LOCK_EXAMPLE = "Example: adaptertune lock tuned-digits --out locked.yaml"
CONFIRM_EXAMPLE = "Example: adaptertune confirm tuned-digits --locked locked.yaml"


def lock(
    study: StudyArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the selection is written (YAML).")],
    settings: Settings = None,
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Choose each method's best setting of a search on validation, and write it to a file."""
    from benchmark.tracking import read_study
    from tuning.fairness import budget_warnings, selection_warnings
    from tuning.selection import lock as locked_selection
    from tuning.selection import select, write_lock

    loaded = load_study(study, settings or [])
    require_writable_file(out, "--out")
    record = read_study(tracking_uri_or_default(tracking_uri, output), loaded.spec.name)
    results = {trial.result.trial_id: trial.result for trial in record.trials}
    loaded = expand(loaded.spec, lambda trial_id: ended_as(results.get(trial_id)))
    chosen = select(loaded, record)
    warnings = budget_warnings(loaded) + selection_warnings(loaded, [setting for setting, _ in chosen.values()])
    locked = locked_selection(loaded, record, [selected for _, selected in chosen.values()], warnings)
    write_lock(locked, out)
    for warning in warnings:
        errors.print(f"[bold yellow]warning[/]: {warning}", highlight=False, soft_wrap=True)
    if as_json:
        print_json({"file": str(out), "sha256": locked.sha256, **locked.model_dump(mode="json")})
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("method", "on", "selected", "validation", "tried"):
        table.add_column(heading, overflow="fold")
    for unit, (setting, selected) in chosen.items():
        values = [f"{name.partition('.')[2]}={value}" for name, value in setting.values.items()]
        score = as_percent(selected.validation_top1_mean)
        place = f"{unit.backbone}, {unit.dataset}"
        table.add_row(unit.method, place, "\n".join(values) or "one setting", score, str(selected.num_settings))
    console.print(table)
    console.print(f"Locked: {out}. Next: adaptertune confirm {study} --locked {out}", soft_wrap=True)
    return 0


def confirm(
    study: StudyArgument,
    locked: Annotated[Path, typer.Option("--locked", metavar="FILE", help="What `lock` wrote.")],
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
    """Run a search's locked selection over its confirmation's seeds, as the study STUDY-confirm, and report it."""
    from tuning.confirming import confirmation
    from tuning.selection import read_lock

    spec = read_study_spec(study, settings or [])
    if spec.kind != "search":
        rule = "only a search has a selection to confirm"
        raise RequestError("study", spec.name, rule, f"Its conditions are fixed: adaptertune run {study}")
    confirming = confirmation(spec, read_lock(locked, spec))
    where: dict[str, Any] = {"address": address, "output": output, "tracking_uri": tracking_uri}
    how: dict[str, Any] = {"report_dir": report_dir, "pack": not no_pack, "strict": strict}
    how |= {"max_hours": max_hours, "max_gpu_hours": max_gpu_hours}
    return run_and_tell(confirming, as_json=as_json, **where, **how)
