"""One rank of a trial: the process that joins the group, holds the trial's generator and advances it."""

from __future__ import annotations

import gc
import importlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from benchmark.garbage import lasting_imports
from benchmark.result import EpochRecord, TrialResult, TrialStatus
from launch.allocation import give_back, has_limited_address_space
from launch.memory_kills import MemoryKills, count_memory_kills
from launch.staging import Sources, imported_sources

if TYPE_CHECKING:
    from benchmark.training.process_group import Membership

TRIAL_STEPS = "benchmark.training.trial:trial_steps"
"""Import path of the generator that runs one trial on one rank."""
PACK_STEPS = "benchmark.training.trial:pack_steps"
"""Import path of the generator that runs several trials in one pass."""
DEEPSPEED = "benchmark.training.quiet_deepspeed"
"""The module that imports DeepSpeed as a rank does."""


GATHERING_SECONDS = 1.0
"""How long an epoch's report may wait for those of the trials that trained beside it, the next of which is expected to
take as long as its own evaluation did."""


@dataclass(frozen=True)
class TrialProgram:
    """What a rank runs.

    Attributes:
        steps: Import path `module:function` of the generator of one trial.
        pack_steps: The same of several trials.
        adopt: Whether DeepSpeed takes the process group over.
    """

    steps: str = TRIAL_STEPS
    pack_steps: str = PACK_STEPS
    adopt: bool = True

    @property
    def modules(self) -> tuple[str, ...]:
        """What a rank imports for it, in this order."""
        return ("torch", self.steps.partition(":")[0], *((DEEPSPEED,) if self.adopt else ()))


@dataclass(frozen=True)
class RankIdentity:
    """Where a rank lives and what it imports, and whom the kernel had ended for memory there before."""

    node_id: str
    node_address: str
    pid: int
    sources: Sources
    memory_kills: MemoryKills


@dataclass(frozen=True)
class RankFailure:
    """What ended the trial on a rank; a plain record, so that nobody needs torch to read it."""

    status: TrialStatus
    reason: str


@dataclass(frozen=True)
class RankReport:
    """What one trial brought: exactly one of the last three is there.

    Attributes:
        trial_id: Whose it is.
        record: An epoch's measurements.
        result: The finished trial's record.
        given_up: Why this trial of a pack, and no other, cannot go on.
    """

    trial_id: str
    record: EpochRecord | None = None
    result: TrialResult | None = None
    given_up: RankFailure | None = None


@dataclass(frozen=True)
class RankStep:
    """What one advance of a rank brought.

    Attributes:
        reports: One, or several trials'.
        failure: Why nothing here can go on; then there are no reports.
        is_last: Whether all trials have ended.
    """

    reports: tuple[RankReport, ...] = ()
    failure: RankFailure | None = None
    is_last: bool = False


Checkpoints = bytes | dict[str, bytes | None] | None
"""What one report brings to resume from, bytes that travel as they are; of several reports, by their trials' ids."""


class Rank:
    """The actor of one rank. It stays warm: one trial after the other runs in the same process and group."""

    def __init__(self, rank: int, world_size: int, program: TrialProgram, threads: int) -> None:
        """Prepare the process; nothing heavy is imported yet.

        Args:
            rank: In `range(world_size)`.
            world_size: Ranks of a trial.
            program: What to run.
            threads: CPU threads of torch's operations.
        """
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._rank = rank
        self._world_size = world_size
        self._program = program
        self._threads = threads
        self._store: Any = None
        self._steps: Iterator[Any] | None = None
        self._trial_ids: list[str] = []
        self._num_open = 0
        self._failure: RankFailure | None = None

    def describe(self) -> RankIdentity:
        """Return where this rank lives and the digest of the sources that it imports."""
        import ray

        context = ray.get_runtime_context()
        address = ray.util.get_node_ip_address()
        return RankIdentity(context.get_node_id(), address, os.getpid(), imported_sources(), count_memory_kills())

    def is_there(self) -> bool:
        """Answer, in a thread of its own, while a trial runs in another."""
        return True

    def warm_up(self) -> None:
        """Import what the trial needs, while the driver's side still prepares other things."""
        with lasting_imports():
            import torch

            torch.set_num_threads(self._threads)
            self._load(self._program.steps)

    def open_store(self, store_host: str) -> int:
        """Open the store that the ranks meet at, on rank 0, and return its port."""
        from benchmark.training.process_group import open_store

        self._store = open_store(self._world_size, store_host)
        return int(self._store.port)

    def join(
        self, store_host: str | None, store_port: int | None, node_address: str, device: Literal["cpu", "cuda"]
    ) -> Membership:
        """Join the process group. Ray shows a rank only its own device, so the device's index is always 0."""
        from benchmark.training.process_group import join

        with lasting_imports():  # of DeepSpeed
            return join(
                self._rank,
                self._world_size,
                store_host,
                store_port,
                store=self._store,
                node_address=node_address,
                device=device,
                adopt=self._program.adopt,
            )

    def begin(self, plan_json: str, spec_jsons: Sequence[str], *checkpoints: bytes | None) -> None:
        """Take up a trial, or several in one pass, each from its checkpoint or none; what was before is let go."""
        from benchmark.launch_plan import LaunchPlan
        from benchmark.spec import TrialSpec

        self._let_go()
        self._failure = None
        specs = [TrialSpec.model_validate_json(spec_json) for spec_json in spec_jsons]
        plan = LaunchPlan.model_validate_json(plan_json)
        self._trial_ids, self._num_open = [spec.trial_id for spec in specs], len(specs)
        if len(specs) == 1:
            self._steps = self._load(self._program.steps)(specs[0], plan, checkpoints[0])
        else:
            self._steps = self._load(self._program.pack_steps)(specs, plan, checkpoints)

    def advance(self) -> tuple[RankStep, Checkpoints, bytes | None]:
        """Run up to the next report, and through those that follow it at once.

        A failure behind reports is told by the next advance, so that they arrive.

        Returns:
            The step; its checkpoints, or the adapter's weights at the end; the predictions at the end.
        """
        reports, checkpoints, predictions = self._gathered()
        failure = None if reports else self._failure
        step = RankStep(tuple(reports), failure, is_last=failure is not None or self._num_open == 0)
        if step.is_last:
            self._let_go()
        elif has_limited_address_space():
            give_back()  # Ray copies a checkpoint with new threads, and ends the process where they find no room
        return step, checkpoints, predictions

    def _gathered(self) -> tuple[list[RankReport], Checkpoints, bytes | None]:
        from benchmark.training.failure import status_of

        reports: list[RankReport] = []
        checkpoints: dict[str, bytes | None] = {}
        checkpoint, predictions = None, None
        may_go_on, ends, evaluation_seconds = self._failure is None, math.inf, math.inf
        while may_go_on:
            try:
                report, checkpoint, predictions, is_followed = self._next()
            except Exception as error:
                self._failure = RankFailure(*status_of(error))
                break
            reports.append(report)
            checkpoints[report.trial_id] = checkpoint
            ends = min(ends, time.monotonic() + GATHERING_SECONDS)
            evaluation_seconds = report.record.evaluation_seconds if report.record else evaluation_seconds
            # Ranks side by side must stop at the same report, and each has a clock of its own.
            may_go_on = is_followed and self._world_size == 1 and time.monotonic() + evaluation_seconds < ends
        return reports, checkpoint if len(reports) == 1 else checkpoints, predictions

    def _next(self) -> tuple[RankReport, bytes | None, bytes | None, bool]:
        """Return a report, its checkpoint, its predictions, and whether another follows at once."""
        from benchmark.result import TrialOutcome
        from benchmark.training.failure import status_of
        from benchmark.training.trial import MemberReport

        if self._steps is None:
            raise RuntimeError("the rank has no trial")
        report = next(self._steps, None)
        if report is None:
            raise RuntimeError("the trial ended without an outcome")
        trial_id, is_followed = self._trial_ids[0], False
        if isinstance(report, MemberReport):
            is_followed = report.is_followed
            trial_id, report = report.trial_id, report.report
        if not isinstance(report, TrialOutcome | Exception):
            return RankReport(trial_id, record=report.record), report.checkpoint, None, is_followed
        self._num_open -= 1
        if isinstance(report, TrialOutcome):
            return RankReport(trial_id, result=report.result), report.checkpoint, report.predictions, is_followed
        return RankReport(trial_id, given_up=RankFailure(*status_of(report))), None, None, is_followed

    def _let_go(self) -> None:
        if self._steps is not None:
            close = getattr(self._steps, "close", None)
            self._steps = None
            if close is not None:
                close()
            gc.collect()
            # What is left are the packages' own objects: looking through them again takes 0.2 s after every trial.
            gc.freeze()
            self._give_memory_back()

    @staticmethod
    def _give_memory_back() -> None:
        # After a trial that ran out of memory the next one shall find all of it.
        import torch

        give_back()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    @staticmethod
    def _load(path: str) -> Callable[..., Iterator[Any]]:
        module_name, _, function_name = path.partition(":")
        function: Callable[..., Iterator[Any]] = getattr(importlib.import_module(module_name), function_name)
        return function
