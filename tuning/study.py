"""A study as a user writes it, and its expansion into trials. Loads neither weights nor data, nor torch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from benchmark.documents import load_yaml, parse_yaml, require_mapping, validated
from benchmark.errors import RequestError, nearest
from benchmark.launch_plan import LaunchPlan, plan_launch
from benchmark.methods.contract import find_method
from benchmark.request import BackboneRequest, DatasetRequest, ProtocolRequest, resolve_backbone, resolve_trial
from benchmark.spec import Scalar, TrialSpec
from benchmark.tracking import PlannedTrial
from launch.resources import TrialResources
from reports.claims import check_claims
from reports.conditions import condition_labels
from tuning.matching import match_cell
from tuning.scheduled_trial import ScheduledTrial
from tuning.search_settings import Cell, Ended, Scores, cells, mean_score, nothing_ended, num_settings
from tuning.soups import announced
from tuning.study_spec import ResourcesSpec, StudySpec


@dataclass(frozen=True)
class Unit:
    """What a search tunes: one entry of `method` on one backbone and data set."""

    where: str
    method: str
    backbone: str
    dataset: str


@dataclass(frozen=True)
class Setting:
    """One setting that a search tries.

    Attributes:
        unit: What is tuned: a path such as `method[0]`, with the backbone and the data set.
        values: The searched fields, by `PART.FIELD`.
        request: What a confirmation of it asks for: backbone, data set, method, protocol, training.
        condition: Its trial of seed 0.
    """

    unit: Unit
    values: Mapping[str, Scalar]
    request: Mapping[str, Any]
    condition: TrialSpec


@dataclass(frozen=True)
class Study:
    """A checked study with all of its trials, each once.

    Attributes:
        spec: As it is written.
        trials: In the order in which they are scheduled.
        settings: What a search tries; none for other kinds.
        num_trials_to_come: Trials of a sequential search, and soups, that are not known before others have ended.
    """

    spec: StudySpec
    trials: tuple[ScheduledTrial, ...]
    settings: tuple[Setting, ...] = ()
    num_trials_to_come: int = 0

    @property
    def num_trials(self) -> int:
        """All trials, those to come included."""
        return len(self.trials) + self.num_trials_to_come

    @property
    def stops_early(self) -> bool:
        """Whether a search gives up trials before their last epoch."""
        return self.spec.search is not None and self.spec.search.early_stopping is not None

    @functools.cached_property
    def trial_specs(self) -> dict[str, TrialSpec]:
        """What each trial is, by its id."""
        return {trial.spec.trial_id: trial.spec for trial in self.trials}

    @functools.cached_property
    def num_gpus(self) -> dict[str, int]:
        """How many GPUs each trial holds, over all of its workers, by its id."""
        return {trial.spec.trial_id: trial.num_gpus for trial in self.trials}

    @functools.cached_property
    def labels(self) -> dict[str, str]:
        """Each condition in a few words, by its id: what tells it apart from the study's other conditions."""
        specs = {trial.spec.condition_id: trial.spec for trial in self.trials}
        return condition_labels({condition_id: spec.model_dump() for condition_id, spec in specs.items()})

    @property
    def planned(self) -> list[PlannedTrial]:
        """The trials as reports and tracking know them."""
        return [_planned(trial.spec) for trial in self.trials]

    @property
    def planned_conditions(self) -> list[PlannedTrial]:
        """One planned trial of each condition."""
        return [_planned(spec) for spec in {trial.spec.condition_id: trial.spec for trial in self.trials}.values()]


def _planned(spec: TrialSpec) -> PlannedTrial:
    return PlannedTrial(spec.trial_id, spec.condition_id, spec.model_dump())


def shipped_studies() -> dict[str, Path]:
    """Return the files of the studies that come with the package, by name."""
    directory = Path(str(files(__package__) / "studies"))
    return {path.stem: path for path in sorted(directory.glob("*.yaml"))}


def load_study(
    name_or_path: str, settings: Sequence[str] = (), changes: Mapping[str, Any] = MappingProxyType({})
) -> Study:
    """Read, check and expand a study; the arguments and errors are `read_study_spec`'s and `expand`'s."""
    return expand(read_study_spec(name_or_path, settings, changes))


def study_of(values: Mapping[str, Any]) -> Study:
    """Check and expand a study that is given as the keys of its YAML file; the errors are `load_study`'s."""
    return expand(validated(StudySpec, require_mapping(values, "study"), ""))


def read_study_spec(
    name_or_path: str, settings: Sequence[str] = (), changes: Mapping[str, Any] = MappingProxyType({})
) -> StudySpec:
    """Read a study as it is written. Whether its methods, data and weights exist, `expand` finds out.

    Args:
        name_or_path: A shipped study's name or a YAML file's path.
        settings: Replacements such as `training.epochs=3`; the value is YAML.
        changes: The same as values, by path: `{"training.epochs": 3}`.

    Raises:
        RequestError: A key or a type is refused; all that was found is in it.
    """
    values = require_mapping(load_yaml(_study_path(name_or_path)), name_or_path)
    for path, value in [*map(_path_and_value, settings), *changes.items()]:
        _replace(values, path, value)
    return validated(StudySpec, values, "")


def study_file(name_or_path: str) -> Path:
    """Return a shipped study's file, or the file itself.

    Raises:
        RequestError: There is neither.
    """
    return _study_path(name_or_path)


def first_request(spec: StudySpec) -> dict[str, Any]:
    """Return what the study's first trial asks for, as a trial's YAML file says it; its seed is the caller's."""
    request = next(_settings(spec, nothing_ended)).request
    dumped = {
        key: value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value
        for key, value in request.items()
    }
    return {**dumped, "reads_test": spec.kind != "search"}


def expand(spec: StudySpec, scores: Scores = nothing_ended) -> Study:
    """Return a study with its trials: backbones x data sets x methods' grids x seeds.

    A trial that two grids share is one trial.

    Args:
        spec: As it is written.
        scores: How trials have ended. Only a sequential search asks, and has the more trials the more have ended.

    Raises:
        RequestError: A cell or a claim is refused.
    """
    for name in spec.resources.by_method:
        find_method(name, f"resources.by_method.{name}")
    settings = list(_settings(spec, scores))
    trials = scheduled([setting.condition for setting in settings], spec.seed, spec.resources)
    if spec.kind == "search":
        _check_early_stopping(spec, settings)
        return Study(spec, trials, tuple(settings), _num_to_come(spec, len(settings)))
    return announced(checked(Study(spec, trials)))


def _check_early_stopping(spec: StudySpec, settings: Iterable[Setting]) -> None:
    stopping = spec.search.early_stopping if spec.search else None
    shortest = min(setting.condition.training.epochs for setting in settings)
    if stopping is not None and stopping.grace_epochs >= shortest:
        rule = f"a trial of {shortest} epochs could not be given up before its end"
        hint = f"Allowed: 1 to {shortest - 1}." if shortest > 1 else "Leave early_stopping out."
        raise RequestError("search.early_stopping.grace_epochs", stopping.grace_epochs, rule, hint)


def scheduled(
    conditions: Iterable[TrialSpec], seeds: Sequence[int], resources: ResourcesSpec
) -> tuple[ScheduledTrial, ...]:
    """Return the trials of conditions under every seed, each once, with what they occupy."""
    trials: dict[str, ScheduledTrial] = {}
    for condition in conditions:
        own = resources.for_method(condition.method.name)
        plan = _launch_plan(condition, own)
        occupied = TrialResources(own.cpus_per_worker, own.gpus_per_worker, own.placement_strategy)
        for seed in seeds:
            trial = condition.model_copy(update={"seed": seed})
            fewest, priority = own.min_workers_per_trial, own.priority
            trials.setdefault(trial.trial_id, ScheduledTrial(trial, plan, occupied, fewest, priority))
    return tuple(trials.values())


def checked(study: Study) -> Study:
    """Return a study whose claims select planned conditions.

    Raises:
        RequestError: One does not.
    """
    problems = check_claims(study.spec.claims, study.planned_conditions)
    if problems:
        raise RequestError.of(problems)
    return study


def _settings(spec: StudySpec, scores: Scores) -> Iterator[Setting]:
    """Yield each cell of the grid, or each setting of the search, with its trial of seed 0."""
    for backbone, dataset in itertools.product(spec.backbone, spec.dataset):
        for index, entry in enumerate(spec.method):
            where = f"method[{index}]"
            as_setting = functools.partial(_setting, spec, backbone, dataset, where)
            score = functools.partial(_score, spec.seed, scores, as_setting)
            for cell in _cells(spec, entry, where, score):
                yield as_setting(cell)


def _setting(spec: StudySpec, backbone: BackboneRequest, dataset: DatasetRequest, where: str, cell: Cell) -> Setting:
    _, info = resolve_backbone(backbone, spec.protocol.name)
    common = {"backbone": backbone, "dataset": dataset, **_replaced(spec, cell.shared)}
    figures = functools.partial(_figures, spec.resources, common, where)
    matched = match_cell(cell.method, spec.match, info, where, figures)
    request = {**common, "method": matched.method}
    trial = resolve_trial({**request, "reads_test": spec.kind != "search"}, where_method=where)
    named = trial.method.model_copy(update={"match": matched.record})
    unit = Unit(where, trial.method.name, trial.backbone.name, trial.dataset.name)
    return Setting(unit, cell.values, request, trial.model_copy(update={"method": named}))


def _score(seeds: Sequence[int], scores: Scores, as_setting: Callable[[Cell], Setting], cell: Cell) -> Ended | None:
    condition = as_setting(cell).condition
    return mean_score([condition.model_copy(update={"seed": seed}).trial_id for seed in seeds], scores)


def _cells(
    spec: StudySpec, entry: str | dict[str, Any], where: str, score: Callable[[Cell], Ended | None]
) -> Iterator[Cell]:
    if spec.search is not None:
        for one in _searched_entries(entry):
            yield from cells(spec.search, one, where, score)
        return
    for method in _grid(entry, where):
        yield Cell(method, {}, {})


def _searched_entries(entry: str | dict[str, Any]) -> list[str | dict[str, Any]]:
    """Return an entry once for each of the names it lists: every method is searched by itself."""
    names = entry["name"] if isinstance(entry, Mapping) and isinstance(entry.get("name"), list) else None
    return [entry] if names is None or isinstance(entry, str) else [{**entry, "name": name} for name in names]


def _num_to_come(spec: StudySpec, num_known: int) -> int:
    """Return how many trials a sequential search will have beside those that are known."""
    if spec.search is None or spec.search.by != "tpe":
        return 0
    wanted = sum(
        num_settings(spec.search, one, f"method[{index}]")
        for index, entry in enumerate(spec.method)
        for one in _searched_entries(entry)
    )
    return (wanted * len(spec.backbone) * len(spec.dataset) - num_known) * len(spec.seed)


def _replaced(spec: StudySpec, shared: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the study's protocol and training with the searched values in them."""
    values: dict[str, dict[str, Any]] = {"protocol": {}, "training": {}}
    for name, value in shared.items():
        part, _, field = name.partition(".")
        values[part][field] = value
    protocol = {**spec.protocol.model_dump(exclude_none=True), **values["protocol"]}
    return {
        "protocol": validated(ProtocolRequest, protocol, "protocol"),
        "training": {**spec.training, **values["training"]},
    }


def _figures(
    resources: ResourcesSpec, common: Mapping[str, Any], where: str, method: Mapping[str, Any]
) -> dict[str, int]:
    """Return the figures of a trial that are counted on its model, which needs torch."""
    from benchmark.training.estimate import estimate

    trial = resolve_trial({**common, "method": dict(method)}, where_method=where)
    counted = estimate(trial, _launch_plan(trial, resources.for_method(trial.method.name)))
    return {"training_flops": counted.training_flops_per_image, "memory_bytes": counted.memory_bytes}


def _grid(method: str | Mapping[str, Any], where: str) -> Iterator[str | dict[str, Any]]:
    """Yield the cells of a method's grid: every combination of the values given as lists."""
    if isinstance(method, str):
        yield method
        return
    axes = {key: value if isinstance(value, list) else [value] for key, value in method.items()}
    for key, values in axes.items():
        if not values:
            raise RequestError(f"{where}.{key}", [], "an empty list gives an empty grid; name at least one value")
    for combination in itertools.product(*axes.values()):
        yield dict(zip(axes, combination, strict=True))


def _launch_plan(condition: TrialSpec, resources: ResourcesSpec) -> LaunchPlan:
    plan = plan_launch(
        condition.training.global_batch_images,
        num_workers=resources.workers_per_trial,
        accumulation_steps=resources.accumulation_steps,
        device="cuda" if resources.gpus_per_worker else "cpu",
        threads_per_worker=resources.cpus_per_worker,
        compute=resources.compute_options(),
    )
    budget = resources.memory_bytes_per_worker
    return plan if budget is None else _fitted(condition, plan, budget)


def _fitted(condition: TrialSpec, plan: LaunchPlan, budget: int) -> LaunchPlan:
    """Return a plan that fits into a worker's memory; counted on the model without values, which needs torch.

    Raises:
        RequestError: None does.
    """
    from benchmark.training.fitting import fitted

    (fit,) = fitted(condition, plan, [budget])
    if not fit.fits:
        rule = (
            f"{condition.method.name} on {condition.backbone.name} needs {fit.memory.total} bytes a worker, even at "
            f"{fit.plan.micro_batch_images} image at once"
        )
        hint = "Take workers with more memory, or another method, backbone or precision."
        raise RequestError("resources.memory_bytes_per_worker", budget, rule, hint)
    return fit.plan


def _study_path(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    shipped = shipped_studies()
    if name_or_path not in shipped:
        rule = "there is neither a shipped study of this name nor such a file"
        raise RequestError("study", name_or_path, rule, nearest(name_or_path, shipped))
    return shipped[name_or_path]


def _path_and_value(setting: str) -> tuple[str, Any]:
    """Return the parts of `path.to.key=value`."""
    path, separator, text = setting.partition("=")
    if not separator or not path:
        raise RequestError("--set", setting, "must have the form key=value, such as training.epochs=3")
    return path, parse_yaml(text, "--set")


def _replace(values: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at `path.to.key` of nested mappings."""
    *parents, last = path.split(".")
    target = values
    for depth, parent in enumerate(parents):
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            found = ".".join(parents[: depth + 1])
            raise RequestError("--set", f"{path}={value}", f"{found} is not a mapping", "Give the whole value instead.")
    target[last] = value
