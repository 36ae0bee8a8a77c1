"""The tables of record: missing seeds, costs, the ledger of test reads, and a CSV row for every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmark.result import Cost
from reports.analysis import Analysis
from reports.conditions import (
    NOT_RUN,
    Condition,
    results_by_trial,
    seeds_in_scope,
    soups_in_scope,
    trials_in_scope,
)
from reports.fields import method_of, options_of, soup_of
from reports.formatting import ABSENT, count, duration, energy, flops, memory
from reports.naming import LABEL_SEPARATOR
from reports.result_tables import PLACE, place_cells
from reports.tables import Cell, Column, Raw, Table, csv_text

if TYPE_CHECKING:
    from benchmark.tracking import PlannedTrial, StudyRecord, TrackedTrial

NAMED_OPTIONS = ("rank", "placement", "init", "site")


def missing_table(analysis: Analysis) -> Table:
    """Return every planned seed that gives no score, with why."""
    columns = (
        *PLACE,
        Column("condition", "Condition"),
        Column("seed", "Seed", True),
        Column("status", "Status"),
        Column("reason", "Why"),
    )
    places = {condition.id: place_cells(condition) for condition in analysis.conditions}
    rows = tuple(
        (
            *places[seed.condition_id],
            Cell(seed.label),
            Cell(str(seed.seed), seed.seed),
            Cell(seed.status, run_ids=(seed.run_id,) if seed.run_id else ()),
            Cell(seed.reason),
        )
        for seed in analysis.missing
    )
    return Table("missing", "Missing seeds", "Planned seeds that no statistic on this page contains.", columns, rows)


COST_COLUMNS = (
    *PLACE,
    Column("condition", "Condition"),
    Column("num_trainable_parameters", "Trained", True),
    Column("num_adapter_parameters", "In adapters", True),
    Column("trained_fraction", "Of all, %", True),
    Column("train_seconds", "Training", True),
    Column("evaluation_seconds", "Evaluation", True),
    Column("wall_seconds", "Wall", True),
    Column("train_images_per_second", "Images/s", True),
    Column("forward_flops_per_image", "Forward FLOPs", True),
    Column("training_flops_per_image", "Training FLOPs", True),
    Column("energy_joules", "Energy", True),
    Column("peak_memory_bytes", "Peak memory", True),
    Column("checkpoint_bytes", "Checkpoint", True),
)


def costs_table(analysis: Analysis) -> Table:
    """Return what each condition cost: means over its completed seeds."""
    caption = (
        "Means over completed seeds; peak memory is the largest of a rank, over seeds. FLOPs are one image's, a "
        "multiply-add counted as two; energy is the whole device's while the trial ran, where it reports it."
    )
    return Table(
        "costs", "Costs", caption, COST_COLUMNS, tuple(_cost_row(condition) for condition in analysis.conditions)
    )


def _cost_row(condition: Condition) -> tuple[Cell, ...]:
    costs = [seed.result.cost for seed in condition.completed if seed.result.cost is not None]
    head = (*place_cells(condition), Cell(condition.label))
    if not costs:
        return (*head, *(Cell(ABSENT, reason="no seed has completed") for _ in range(len(COST_COLUMNS) - len(head))))
    runs = condition.run_ids
    first = costs[0]
    fraction = first.num_trainable_parameters / first.num_total_parameters if first.num_total_parameters else None
    seconds = [_mean(costs, name) for name in ("train_seconds", "evaluation_seconds", "wall_seconds")]
    speed, joules = _mean(costs, "train_images_per_second"), _mean(costs, "energy_joules")
    peak = max((cost.peak_memory_bytes for cost in costs if cost.peak_memory_bytes is not None), default=None)
    return (
        *head,
        Cell(count(first.num_trainable_parameters), first.num_trainable_parameters, runs),
        Cell(count(first.num_adapter_parameters), first.num_adapter_parameters, runs),
        Cell(ABSENT if fraction is None else f"{100 * fraction:.3g}", fraction, runs),
        *(Cell(duration(value), value, runs) for value in seconds),
        Cell(ABSENT if speed is None else f"{speed:.0f}", speed, runs),
        *(Cell(flops(value), value, runs) for value in (first.forward_flops_per_image, first.training_flops_per_image)),
        Cell(energy(joules), joules, runs),
        Cell(memory(peak), peak, runs),
        Cell(memory(first.checkpoint_bytes), first.checkpoint_bytes, runs),
    )


def _mean(costs: Sequence[Cost], name: str) -> float | None:
    values = [value for cost in costs if (value := getattr(cost, name)) is not None]
    return fmean(values) if values else None


def test_reads_table(analysis: Analysis) -> Table:
    """Return the ledger: every reading of the test split, in order of time."""
    columns = (
        Column("read_at", "Read at (UTC)"),
        Column("user", "By"),
        Column("selection", "After the selection"),
        Column("condition", "Condition"),
        Column("seed", "Seed", True),
        Column("selected_epoch", "Epoch tested", True),
        Column("trial_id", "Trial"),
        Column("times_read", "Reads of this trial", True),
    )
    reads = sorted(analysis.study.test_reads, key=lambda read: str(read.get("read_at") or ""))
    times: dict[str, int] = {}
    for read in reads:
        times[str(read.get("trial_id"))] = times.get(str(read.get("trial_id")), 0) + 1
    labels = _label_by_trial(analysis)
    locked = analysis.study.spec.get("locked") or {}
    selection = f"{locked['study']}, {locked['locked_at']}" if locked else "none: fixed conditions"
    rows = tuple(_read_row(read, labels, times, selection) for read in reads)
    caption = "Each trial opens the test split once, after its epoch is chosen on validation."
    return Table("test_reads", "Test reads", caption, columns, rows)


def _read_row(
    read: Mapping[str, Any], labels: Mapping[str, str], times: Mapping[str, int], selection: str
) -> tuple[Cell, ...]:
    trial_id, run_id = str(read.get("trial_id")), read.get("run_id")
    runs = (str(run_id),) if run_id else ()
    seed, epoch = read.get("seed"), read.get("selected_epoch")
    return (
        Cell(str(read.get("read_at") or ABSENT)),
        Cell(str(read.get("user") or ABSENT), reason=None if read.get("user") else "not recorded"),
        Cell(selection),
        Cell(labels.get(trial_id, "not in the plan")),
        Cell(ABSENT if seed is None else str(seed), seed),
        Cell(ABSENT if epoch is None else str(epoch), epoch, runs),
        Cell(trial_id, run_ids=runs),
        Cell(str(times[trial_id]), times[trial_id]),
    )


def _label_by_trial(analysis: Analysis) -> dict[str, str]:
    labels = {condition.condition_id: condition.label for condition in analysis.conditions}
    told = {trial.trial_id: labels[trial.condition_id] for trial in seeds_in_scope(analysis.study)}
    for soup in soups_in_scope(analysis.study):
        recipe, members = (soup_of(soup.spec) or {}).get("recipe"), (soup_of(soup.spec) or {}).get("members") or []
        trained = next((told[member] for member in members if member in told), "a condition not in the plan")
        told[soup.trial_id] = f"{trained}{LABEL_SEPARATOR}{recipe} soup"
    return told


def unplanned_runs(study: StudyRecord) -> list[str]:
    """Return the runs of trials that the study's plan does not hold; no statistic contains them."""
    planned = {trial.trial_id for trial in trials_in_scope(study)}
    return [trial.run_id for trial in study.trials if trial.result.trial_id not in planned]


def trials_csv(study: StudyRecord) -> str:
    """Return `trials.csv`: a row for every trial of the study, whatever its status."""
    rows = trial_rows(study)
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["trial_id"]
    columns = [name for name in columns if name != "run_id"] + ["run_id"]
    return csv_text([columns, *([row.get(name) for name in columns] for row in rows)])


def trial_rows(study: StudyRecord) -> list[dict[str, Raw]]:
    """Return the fields of every trial of the study, by column."""
    results = results_by_trial(study.trials)
    return [_trial_fields(planned, results.get(planned.trial_id)) for planned in trials_in_scope(study)]


def _trial_fields(planned: PlannedTrial, tracked: TrackedTrial | None) -> dict[str, Raw]:
    spec, options = planned.spec, options_of(planned.spec)
    others = {f"option_{name}": value for name, value in options.items() if name not in NAMED_OPTIONS}
    return {
        "trial_id": planned.trial_id,
        "condition_id": planned.condition_id,
        "backbone": spec.get("backbone", {}).get("name"),
        "backbone_weights": spec.get("backbone", {}).get("weights"),
        "dataset": spec.get("dataset", {}).get("name"),
        "method": method_of(spec),
        **{name: options.get(name) for name in NAMED_OPTIONS},
        **others,
        **({"soup": (soup_of(spec) or {})["recipe"]} if soup_of(spec) else {}),
        "seed": spec.get("seed"),
        "protocol": spec.get("protocol", {}).get("name"),
        **spec.get("training", {}),
        **_outcome_fields(tracked),
    }


def _outcome_fields(tracked: TrackedTrial | None) -> dict[str, Raw]:
    """Return status, scores and costs of a trial; what was not reached is blank."""
    if tracked is None:
        return {"status": NOT_RUN, "reason": "not run yet"}
    result = tracked.result
    test, validation = result.test, result.validation
    costs: dict[str, Raw] = result.cost.model_dump() if result.cost else {}
    return {
        "status": result.status.value,
        "reason": " ".join(result.reason.split()) if result.reason else None,
        "selected_epoch": result.selected_epoch,
        "test_top1": test.top1 if test else None,
        "test_mean_per_class": test.mean_per_class if test else None,
        "test_loss": test.loss if test else None,
        "validation_top1": validation.top1 if validation else None,
        "validation_loss": validation.loss if validation else None,
        **costs,
        "test_read_at": result.test_read_at,
        "run_id": tracked.run_id,
    }
