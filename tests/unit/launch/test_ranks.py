"""Guards which reports of trials side by side a rank hands over together, and that none is lost behind a failure."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from benchmark.errors import DivergedError
from benchmark.launch_plan import plan_launch
from benchmark.result import TrialOutcome, TrialResult, TrialStatus
from benchmark.training.trial import EpochReport, MemberReport
from launch import ranks
from launch.ranks import Rank, RankStep, TrialProgram
from tests.integration.tracking_samples import epoch_record
from tests.trials import make_spec

SPECS = [make_spec(seed) for seed in range(3)]
A, B, C = (spec.trial_id for spec in SPECS)
script: list[Any] = []
"""What the trials do, in turn: a report, or an error that ends all."""


@pytest.fixture(autouse=True)
def collected_as_before() -> Iterator[None]:
    """A rank hides what is left after a trial from the garbage collector, for as long as its process lives."""
    yield
    gc.unfreeze()


def pack_steps(*_: Any) -> Iterator[MemberReport]:
    for event in script:
        if isinstance(event, Exception):
            raise event
        yield event


def epoch_of(trial_id: str, epoch: int, is_followed: bool = False, evaluation_seconds: float = 0.01) -> MemberReport:
    record = epoch_record(epoch).model_copy(update={"evaluation_seconds": evaluation_seconds})
    return MemberReport(trial_id, EpochReport(record, f"{trial_id} {epoch}".encode()), is_followed)


def outcome_of(trial_id: str) -> MemberReport:
    result = TrialResult(
        trial_id=trial_id, condition_id="0" * 16, spec={}, status=TrialStatus.COMPLETED, reason=None, epochs=[]
    )
    return MemberReport(trial_id, TrialOutcome(result, b"predictions", b"weights"))


def rank_with(events: Sequence[Any], world_size: int = 1) -> Rank:
    script[:] = events
    rank = Rank(0, world_size, TrialProgram(pack_steps=f"{__name__}:pack_steps", adopt=False), threads=1)
    specs = [spec.model_dump_json() for spec in SPECS]
    rank.begin(plan_launch(4).model_dump_json(), specs, None, None, None)
    return rank


def steps_of(rank: Rank) -> Iterator[tuple[RankStep, Any, Any]]:
    step = rank.advance()
    while not step[0].is_last:
        yield step
        step = rank.advance()
    yield step


EPOCHS = [epoch_of(A, 1, is_followed=True), epoch_of(B, 1, is_followed=True), epoch_of(C, 1)]
OUTCOMES = [outcome_of(A), outcome_of(B), outcome_of(C)]


def test_reports_of_one_epoch_are_handed_over_together_when_the_rank_is_alone() -> None:
    (first, checkpoints, _), *ends = steps_of(rank_with([*EPOCHS, *OUTCOMES]))
    assert [report.trial_id for report in first.reports] == [A, B, C] and not first.is_last
    assert checkpoints[B] == f"{B} 1".encode()
    assert [[report.trial_id for report in step.reports] for step, _, _ in ends] == [[A], [B], [C]]
    assert [step.is_last for step, _, _ in ends] == [False, False, True]
    assert [(weights, predictions) for _, weights, predictions in ends] == [(b"weights", b"predictions")] * 3


def test_report_waits_for_none_that_takes_too_long_by_its_own_evaluation() -> None:
    slow = [epoch_of(A, 1, is_followed=True, evaluation_seconds=2.0), *EPOCHS[1:]]
    first, second, *_ = steps_of(rank_with([*slow, *OUTCOMES]))
    assert [report.trial_id for report in first[0].reports] == [A]
    assert first[1] == f"{A} 1".encode(), "the bytes of one report travel as they are"
    assert [report.trial_id for report in second[0].reports] == [B, C]


def test_report_waits_for_a_second_in_all_when_many_others_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def advanced() -> float:
        now[0] += 0.2  # with every look
        return now[0]

    monkeypatch.setattr(ranks.time, "monotonic", advanced)
    many = [epoch_of(A, epoch, is_followed=True, evaluation_seconds=0.2) for epoch in range(20)]
    first, *_ = steps_of(rank_with([*many, *EPOCHS, *OUTCOMES]))
    assert len(first[0].reports) == 3


def test_reports_come_one_by_one_when_ranks_work_side_by_side() -> None:
    steps = list(steps_of(rank_with([*EPOCHS, *OUTCOMES], world_size=2)))
    assert [len(step.reports) for step, _, _ in steps] == [1] * 6


def test_reports_before_a_failure_arrive_when_what_follows_them_fails() -> None:
    (first, checkpoints, _), (last, _, _) = steps_of(rank_with([*EPOCHS[:2], MemoryError("full")]))
    assert [report.trial_id for report in first.reports] == [A, B] and first.failure is None
    assert checkpoints[A] == f"{A} 1".encode()
    assert last.failure is not None and last.failure.status is TrialStatus.OUT_OF_MEMORY and not last.reports


def test_trial_that_diverges_is_told_among_the_others() -> None:
    events = [EPOCHS[0], MemberReport(B, DivergedError("the loss is nan"), is_followed=True), EPOCHS[2], *OUTCOMES[::2]]
    first, *_, last = (step for step, _, _ in steps_of(rank_with(events)))
    assert [report.given_up is not None for report in first.reports] == [False, True, False]
    assert last.is_last and last.failure is None
