"""The ranks of one slot: started in the trial's placement group, advanced in step, and rebuilt after a death."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.errors import TrialError
from benchmark.result import TrialStatus
from benchmark.training.failure import status_of
from benchmark.training.process_group import LOOPBACK_ADDRESS
from launch.cluster import living_nodes
from launch.limits import HEARTBEAT, NO_LIMITS, Pulse, TrialLimits
from launch.memory_kills import MemoryKills, memory_kills_since
from launch.ranks import Rank, RankFailure, RankIdentity, RankReport, RankStep, TrialProgram
from launch.resources import TrialResources
from launch.staging import Sources, check_sources

START_TIMEOUT_SECONDS = 180.0
NODE_SETTLE_TIMEOUT_SECONDS = 120.0
"""How long a node may neither answer nor be declared dead. Longer than Ray's default health check."""

KILL_TIMEOUT_SECONDS = 20.0
"""How long a node may take to kill a process of its own, or to say whom its kernel has killed."""

GRACE_SECONDS = 2.0
"""How long the other ranks may still speak after one has failed: a dead peer shows as a broken connection first."""


class GroupFailedError(TrialError):
    """The trial cannot go on in this group.

    Attributes:
        failure: The status and the reason.
        is_lost: Whether a process, a node or the way between them was lost, so that a fresh group may succeed.
    """

    def __init__(self, failure: RankFailure) -> None:
        """Raise for the failure that came first in rank of causes."""
        super().__init__(failure.reason)
        self.failure = failure
        self.is_lost = failure.status in (TrialStatus.NODE_LOST, TrialStatus.TIMED_OUT)


class PastLimitError(GroupFailedError):
    """The time that the trial may take is over: no fault of the group's, and no reason to try again."""

    def __init__(self) -> None:
        """Raise for the trial that runs."""
        hint = "a higher resources.max_trial_minutes lets it go on from its last epoch"
        super().__init__(RankFailure(TrialStatus.TIMED_OUT, f"the trial is past its time limit: {hint}"))
        self.is_lost = False


@dataclass(frozen=True)
class GroupShape:
    """What makes two worker groups interchangeable.

    Attributes:
        num_workers: Ranks.
        resources: What each occupies.
        device: What they compute on.
        threads: CPU threads of each rank's torch operations.
    """

    num_workers: int
    resources: TrialResources
    device: Literal["cpu", "cuda"]
    threads: int


@dataclass(frozen=True)
class GroupStep:
    """One step of all ranks, as rank 0 reports it; the bytes stay where they are, behind references.

    Attributes:
        reports: One, or several trials'.
        is_last: Whether all trials have ended.
        checkpoints: Reference to what to resume from (`Checkpoints`), or to the adapter's weights at the end.
        predictions: Reference to the predictions' bytes at the end.
    """

    reports: tuple[RankReport, ...]
    is_last: bool
    checkpoints: Any
    predictions: Any


class WorkerGroup:
    """The rank actors of one slot."""

    def __init__(
        self,
        shape: GroupShape,
        program: TrialProgram,
        sources: Sources,
        placement_group: Any,
        limits: TrialLimits = NO_LIMITS,
    ) -> None:
        """Describe a group; `start` brings it up.

        Args:
            shape: How many ranks, and what each occupies.
            program: What they run.
            sources: The driver's, which every rank's must equal.
            placement_group: Ray's, with one bundle a rank.
            limits: How long a rank may be silent.
        """
        self._shape = shape
        self._program = program
        self._sources = sources
        self._placement_group = placement_group
        self._limits = limits
        self._ranks: list[Any] = []
        self._identities: list[RankIdentity] = []
        self._under_way: list[Any] = []
        self._kills_before: dict[str, MemoryKills] = {}

    @property
    def shape(self) -> GroupShape:
        """What makes this group interchangeable with another."""
        return self._shape

    @property
    def is_running(self) -> bool:
        """Whether the ranks stand."""
        return bool(self._ranks)

    def start(self) -> None:
        """Start the ranks and let them join.

        Raises:
            SourceMismatchError: A rank imports other sources than the driver.
            GroupFailedError: A rank died, or did not come in time.
        """
        self._kills_before = {}
        self._ranks = [self._create(rank) for rank in range(self._shape.num_workers)]
        descriptions = [rank.describe.remote() for rank in self._ranks]
        warm_ups = [rank.warm_up.remote() for rank in self._ranks]
        self._identities = self._gather(descriptions)
        self._kills_before = {identity.node_id: identity.memory_kills for identity in self._identities}
        for identity in self._identities:
            check_sources(self._sources, identity.sources)
        joins = self._join()
        self._gather(warm_ups + joins)

    def begin(self, plan_json: str, spec_jsons: Sequence[str], checkpoints: Sequence[Any]) -> None:
        """Hand all ranks a trial, or several to train in one pass.

        Args:
            plan_json: Their launch plan.
            spec_jsons: The trials' specs.
            checkpoints: References to the bytes that each resumes from; their value may be none.

        Raises:
            GroupFailedError: A rank died or refused.
        """
        self._under_way = []
        self._gather([rank.begin.remote(plan_json, list(spec_jsons), *checkpoints) for rank in self._ranks])
        self._send_on()

    def advance(self, seconds_left: float | None = None) -> GroupStep:
        """Wait for the ranks' next report. Before the last they go on at once: who reads a report keeps none waiting.

        Args:
            seconds_left: How long the trial may still take; none for as long as it takes.

        Raises:
            PastLimitError: That time is over; the group is gone.
            GroupFailedError: A rank failed or died. Where the others may hang in a collective, the group is gone.
        """
        returned, self._under_way = self._under_way, []
        steps = self._watched([references[0] for references in returned], seconds_left)
        _, checkpoints, predictions = returned[0]
        if not steps[0].is_last:
            self._send_on()
        return GroupStep(steps[0].reports, steps[0].is_last, checkpoints, predictions)

    def kill(self) -> None:
        """End the ranks at once, wherever they are."""
        import ray

        for rank in self._ranks:
            ray.kill(rank, no_restart=True)
        self._ranks = []
        self._under_way = []

    def await_settled_nodes(self) -> None:
        """Wait until each node of the last ranks answers or is declared dead.

        A placement group asked for while a node is frozen but not yet dead wedges the whole cluster's placement
        (https://github.com/ray-project/ray/issues/20477).
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        own = ray.get_runtime_context().get_node_id()
        deadline = time.monotonic() + NODE_SETTLE_TIMEOUT_SECONDS
        answer = ray.remote(num_cpus=0, max_retries=0)(_answer)
        for node_id in sorted({identity.node_id for identity in self._identities} - {own}):
            strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
            pending = [answer.options(scheduling_strategy=strategy).remote()]
            while time.monotonic() < deadline and node_id in {node.node_id for node in living_nodes()}:
                if ray.wait(pending, timeout=0.5)[0]:
                    break

    def _send_on(self) -> None:
        self._under_way = [rank.advance.options(num_returns=3).remote() for rank in self._ranks]

    def _create(self, rank: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        resources = self._shape.resources
        return (
            # Its concurrency groups are the one thing that `options` would silently ignore.
            ray.remote(concurrency_groups={HEARTBEAT: 1})(Rank)  # type: ignore[call-overload]
            .options(
                num_cpus=resources.cpus_per_worker,
                num_gpus=resources.gpus_per_worker,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._placement_group, placement_group_bundle_index=rank
                ),
            )
            .remote(rank, self._shape.num_workers, self._program, self._shape.threads)
        )

    def _join(self) -> list[Any]:
        """Send every rank to the store of rank 0, and return the references of their answers."""
        nodes = {identity.node_id for identity in self._identities}
        addresses = [LOOPBACK_ADDRESS if len(nodes) == 1 else one.node_address for one in self._identities]
        host, port = None, None
        if len(self._ranks) > 1:
            host = addresses[0]
            port = self._gather([self._ranks[0].open_store.remote(host)])[0]
        pairs = zip(self._ranks, addresses, strict=True)
        return [rank.join.remote(host, port, address, self._shape.device) for rank, address in pairs]

    def _watched(self, references: list[Any], seconds_left: float | None) -> list[Any]:
        """Return all ranks' answers, however long they take: until the trial's time is over, or a rank is silent."""
        pulse = Pulse(self._ranks, self._limits)
        ends = math.inf if seconds_left is None else time.monotonic() + seconds_left

        def end_in_time() -> None:
            if time.monotonic() >= ends:
                self.kill()
                raise PastLimitError

        def look_around() -> None:
            end_in_time()
            silent = [self._identities[index] for index in pulse.silent_ranks()]
            if silent:
                for identity in silent:
                    _end_process(identity)
                where = ", ".join(f"process {one.pid} on {one.node_address}" for one in silent)
                reason = f"no sign of life for {self._limits.max_silence_seconds:g} s from {where}"
                self._fail([RankFailure(TrialStatus.NODE_LOST, reason)], may_go_on=False)

        # Epochs may come faster than it is looked around.
        end_in_time()
        return self._gather(references, self._limits.seconds_between_questions, look_around)

    def _gather(
        self,
        references: list[Any],
        patience_seconds: float = START_TIMEOUT_SECONDS,
        when_nothing_comes: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Return all ranks' answers; as soon as one fails, end the group where it cannot go on, and raise.

        Args:
            references: One a rank.
            patience_seconds: How long nothing may come.
            when_nothing_comes: Called after so long, again and again; none: the group has failed.
        """
        import ray

        answers: dict[Any, Any] = {}
        pending = list(references)
        while pending and not any(map(_failure_in, answers.values())):
            done, pending = ray.wait(pending, num_returns=1, timeout=patience_seconds)
            answers |= {reference: _answer_of(reference) for reference in done}
            if not done and when_nothing_comes is None:
                silence = f"no answer from {len(pending)} ranks within {patience_seconds:g} s"
                self._fail([RankFailure(TrialStatus.TIMED_OUT, silence)], may_go_on=False)
            if not done and when_nothing_comes is not None:
                when_nothing_comes()
        if pending:
            late, pending = ray.wait(pending, num_returns=len(pending), timeout=GRACE_SECONDS)
            answers |= {reference: _answer_of(reference) for reference in late}
        failures = [failure for answer in answers.values() if (failure := _failure_in(answer))]
        if failures:
            failures = _explained(failures, self._kills_before)
            self._fail(failures, may_go_on=not pending and self._may_go_on(answers))
        return [answers[reference] for reference in references]

    def _may_go_on(self, answers: dict[Any, Any]) -> bool:
        """Whether the processes are whole after a failure, and no one was left alone in a collective."""
        if not all(isinstance(answer, RankStep) for answer in answers.values()):
            return False
        statuses = {failure.status if (failure := _failure_in(answer)) else None for answer in answers.values()}
        return statuses == {TrialStatus.DIVERGED} or self._shape.num_workers == 1

    def _fail(self, failures: list[RankFailure], may_go_on: bool) -> None:
        if not may_go_on:
            self.kill()
        raise GroupFailedError(_first_cause(failures))


# When several ranks fail, one is the cause and the others its victims: a dead peer shows as a broken or silent
# connection, so what can only be a cause comes first.
_CAUSES_FIRST = (
    TrialStatus.OUT_OF_MEMORY,
    TrialStatus.DIVERGED,
    TrialStatus.NODE_LOST,
    TrialStatus.FAILED,
    TrialStatus.TIMED_OUT,
)


def _first_cause(failures: Sequence[RankFailure]) -> RankFailure:
    return min(failures, key=lambda failure: _CAUSES_FIRST.index(failure.status))


def _explained(failures: list[RankFailure], kills_before: Mapping[str, MemoryKills]) -> list[RankFailure]:
    """Return failures that tell a lost process from one that the kernel ended for memory, which Ray cannot."""
    cause = _first_cause(failures)
    if cause.status is not TrialStatus.NODE_LOST or not _num_memory_kills(kills_before):
        return failures
    found = "the kernel has ended a process for memory there meanwhile"
    return [RankFailure(TrialStatus.OUT_OF_MEMORY, f"{cause.reason} ({found})"), *failures]


def _num_memory_kills(before: Mapping[str, MemoryKills]) -> int:
    """Return how many processes the kernel has ended for memory on living nodes since then, by the nodes' ids."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    living = {node.node_id for node in living_nodes()}
    ask = ray.remote(num_cpus=0, max_retries=0)(memory_kills_since)
    questions = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(kills)
        for node_id, kills in before.items()
        if node_id in living
    ]
    if not questions:
        return 0
    answered, _ = ray.wait(questions, num_returns=len(questions), timeout=KILL_TIMEOUT_SECONDS)
    return sum(answer for answer in map(_answer_of, answered) if isinstance(answer, int))


def _end_process(identity: RankIdentity) -> None:
    """Kill a rank's process by its id: Ray asks a process to end itself, which a stopped one never does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(identity.node_id, soft=False)
    killing = ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=strategy).remote(identity.pid)
    # Where the whole node is frozen nobody answers.
    ray.wait([killing], timeout=KILL_TIMEOUT_SECONDS)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _answer() -> None:
    """Do nothing, on a node of which it is asked whether it still answers."""


def _answer_of(reference: Any) -> Any:
    """Return a remote call's value, or the failure that it ended in."""
    import ray

    try:
        return ray.get(reference)
    except Exception as error:
        return RankFailure(*status_of(error))


def _failure_in(answer: Any) -> RankFailure | None:
    if isinstance(answer, RankStep):
        return answer.failure
    return answer if isinstance(answer, RankFailure) else None
