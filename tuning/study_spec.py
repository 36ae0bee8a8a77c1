"""A study as a user writes it: the keys of its YAML file and their rules. `study.py` expands it into trials."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from benchmark.launch_plan import ComputeOptions
from benchmark.request import BackboneRequest, DatasetRequest, ProtocolRequest
from benchmark.spec import Frozen, SoupRecipe
from launch.limits import DEFAULT_SILENCE_SECONDS, TrialLimits
from launch.resources import PlacementStrategy
from reports.claims import ClaimSpec
from tuning.matching import MatchSpec, read_match
from tuning.mirror_url import check_url
from tuning.packing import DEFAULT_TRIALS_PER_PACK
from tuning.search_space import SearchSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class WorkersSpec(Frozen):
    """How one method's trials are spread, where it differs from the study's."""

    workers_per_trial: int | None = Field(default=None, ge=1, description="data-parallel workers of a trial")
    accumulation_steps: int | None = Field(default=None, ge=1, description="micro-batches per optimiser step")
    priority: int | None = Field(default=None, description="trials of a higher one start first")


class ResourcesSpec(ComputeOptions):
    """What trials occupy. Changes the time, never a score."""

    workers_per_trial: int = Field(default=1, ge=1, description="data-parallel workers of a trial")
    accumulation_steps: int = Field(default=1, ge=1, description="micro-batches per optimiser step")
    cpus_per_worker: int = Field(default=1, ge=1, description="CPUs a worker reserves, and its number of threads")
    gpus_per_worker: Literal[0, 1] = Field(default=0, description="GPUs a worker reserves; 0 computes on the CPU")
    placement_strategy: PlacementStrategy = Field(default="PACK", description="how workers lie on the nodes")
    trials_per_pack: int = Field(
        default=DEFAULT_TRIALS_PER_PACK,
        ge=1,
        description="trials that may train in one pass over their frozen backbone; 1: each alone",
    )
    memory_bytes_per_worker: int | None = Field(
        default=None,
        ge=1,
        description="that a worker may take: micro-batches become as small as fits; the global batch stays",
    )
    min_workers_per_trial: int | None = Field(
        default=None,
        ge=1,
        description="workers with which a trial goes on where the cluster holds no more; none: with all or not at all",
    )
    wait_for_nodes_seconds: float = Field(
        default=60.0, ge=0, description="for a lost node's replacement, before trials go on with fewer workers"
    )
    max_concurrent_trials: int | None = Field(
        default=None, ge=1, description="trials at once, a pack counting as one; none: as many as the cluster holds"
    )
    priority: int = Field(default=0, description="of methods that by_method gives none; a higher one starts first")
    mirror_url: str | None = Field(
        default=None,
        description="folder such as s3://BUCKET/FOLDER, from which a driver elsewhere can go on",
    )
    max_trial_minutes: float | None = Field(
        default=None, gt=0, description="wall time after which a trial ends as TIMED_OUT; a higher limit lets it go on"
    )
    max_silence_seconds: float = Field(
        default=DEFAULT_SILENCE_SECONDS, gt=0, description="after which a worker's process that does not answer is lost"
    )
    by_method: dict[str, WorkersSpec] = Field(
        default_factory=dict, description="other workers, accumulation and priority for the methods named"
    )

    @field_validator("mirror_url")
    @classmethod
    def _mirror_is_a_place(cls, url: str | None) -> str | None:
        if url is not None:
            check_url(url)
        return url

    @model_validator(mode="after")
    def _fewer_are_no_more(self) -> ResourcesSpec:
        if (self.min_workers_per_trial or 1) > self.workers_per_trial:
            raise ValueError(
                f"min_workers_per_trial ({self.min_workers_per_trial}) must not exceed workers_per_trial "
                f"({self.workers_per_trial})"
            )
        return self

    def for_method(self, name: str) -> ResourcesSpec:
        """Return the resources of one method's trials."""
        own = self.by_method.get(name, WorkersSpec()).model_dump(exclude_none=True)
        return self.model_copy(update={**own, "by_method": {}})

    @property
    def limits(self) -> TrialLimits:
        """What ends a trial before it is done."""
        minutes = self.max_trial_minutes
        return TrialLimits(None if minutes is None else 60 * minutes, self.max_silence_seconds)


def distinct_seeds(seeds: list[int]) -> list[int]:
    """Return the seeds, each a valid one and there once.

    Raises:
        ValueError: One is not.
    """
    for seed in seeds:
        if not 0 <= seed < 2**31:
            raise ValueError(f"a seed is a whole number from 0 to {2**31 - 1}, found {seed}")
    if len(set(seeds)) != len(seeds):
        raise ValueError("a seed is given twice: that would count one trial as two")
    return seeds


class ConfirmSpec(Frozen):
    """How what a search selected is confirmed."""

    seed: list[int] = Field(min_length=1, description="the confirmation's own seeds")
    fit_on: Literal["train", "train_and_validation"] = Field(
        default="train",
        description="train_and_validation: nothing is left to choose an epoch by, so the last one's weights are tested",
    )

    @field_validator("seed", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("seed")
    @classmethod
    def _seeds_are_distinct(cls, seeds: list[int]) -> list[int]:
        return distinct_seeds(seeds)


class LockRecord(Frozen):
    """Which selection a confirmation came from."""

    study: str = Field(description="the search")
    run_id: str = Field(description="its parent run")
    locked_at: str = Field(description="ISO 8601, UTC")
    locked_by: str | None = Field(default=None, description="user name")
    sha256: str = Field(description="of the locked file's content")
    warnings: list[str] = Field(default_factory=list, description="what the selection's fairness lacks")


class StudySpec(Frozen):
    """A study: the grid of its trials, what they occupy, and what it claims beforehand."""

    name: str = Field(
        description="1 to 64 letters, digits, '.', '_' and '-', the first not a sign: files are named after it",
        json_schema_extra={"pattern": f"^{_NAME.pattern}$"},
    )
    question: str = Field(default="", description="what the study is to find out")
    kind: Literal["confirm", "search"] = Field(
        default="confirm",
        description="confirm: fixed conditions, many seeds, test read once; search: reads validation only",
    )
    backbone: list[BackboneRequest] = Field(min_length=1, description="one or several")
    dataset: list[DatasetRequest] = Field(min_length=1, description="one or several")
    method: list[str | dict[str, Any]] = Field(
        min_length=1, description="names, or mappings in which a list of values spans a grid"
    )
    match: MatchSpec | None = Field(
        default=None, description="one budget for every method: its size is solved, at most so many parameters"
    )
    seed: list[int] = Field(min_length=1, description="whole numbers from 0, each once")
    protocol: ProtocolRequest = ProtocolRequest()
    training: dict[str, Any] = Field(default_factory=dict, description="the training fields that differ from default")
    resources: ResourcesSpec = ResourcesSpec()
    soups: list[SoupRecipe] = Field(
        default_factory=list,
        description="weight soups of each condition's seeds, made when all have ended: uniform, greedy or both",
    )
    claims: list[ClaimSpec] = Field(
        default_factory=list, description="made before any trial runs; a search's are judged by its confirmation"
    )
    search: SearchSpec | None = Field(default=None, description="what a search tries; lists in `method` are choices")
    confirm: ConfirmSpec | None = Field(default=None, description="how `confirm` runs what a search has selected")
    locked: LockRecord | None = Field(
        default=None, description="the selection that a confirmation came from; written by `confirm`"
    )

    @field_validator("name")
    @classmethod
    def _name_is_fit_for_files(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"must be {cls.model_fields['name'].description}")
        return name

    @field_validator("backbone", "dataset", "method", "seed", "soups", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("match", mode="before")
    @classmethod
    def _budget_is_of_parameters(cls, value: Any) -> Any:
        return value if value is None else read_match(value, "match")

    @model_validator(mode="after")
    def _kind_has_its_parts(self) -> StudySpec:
        if (self.kind == "search") != (self.search is not None):
            raise ValueError("a study of kind search has the part `search`, and no other has it")
        if self.kind != "search" and self.confirm is not None:
            raise ValueError("only a study of kind search has the part `confirm`")
        if self.kind == "search" and self.soups:
            raise ValueError("a search opens no test split, and a soup does: ask for soups in a study of kind confirm")
        if len(set(self.soups)) != len(self.soups):
            raise ValueError("soups names a recipe twice")
        return self

    @field_validator("seed")
    @classmethod
    def _seeds_are_distinct(cls, seeds: list[int]) -> list[int]:
        return distinct_seeds(seeds)
