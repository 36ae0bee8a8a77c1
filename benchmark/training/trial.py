"""The story of one trial, and of several that train in one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from benchmark.datasets.reading.seal import sealed_tests
from benchmark.errors import DivergedError
from benchmark.launch_plan import LaunchPlan
from benchmark.result import EpochRecord, TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training.loop import TrainedEpoch
from benchmark.training.open_trial import OpenTrial
from benchmark.training.pack import Pack, opened
from benchmark.training.soup import soup_outcome


@dataclass(frozen=True)
class EpochReport:
    """What a rank hands over after an epoch.

    Attributes:
        record: The epoch's measurements, the same on every rank.
        checkpoint: Bytes to resume from after this epoch; rank 0 only, none on the others.
    """

    record: EpochRecord
    checkpoint: bytes | None


@dataclass(frozen=True)
class MemberReport:
    """What a rank hands over of one trial of a pack.

    Attributes:
        trial_id: Whose it is.
        report: An epoch; the outcome (rank 0's is the complete one); or why this trial, and no other, cannot go on.
        is_followed: Whether the next report is another trial's of the same epoch, without a step of training between.
    """

    trial_id: str
    report: EpochReport | TrialOutcome | DivergedError
    is_followed: bool = False


def trial_steps(
    spec: TrialSpec, plan: LaunchPlan, resume_from: bytes | None = None
) -> Iterator[EpochReport | TrialOutcome]:
    """Run one trial on this rank: yield after every epoch, and last the outcome (rank 0's is the complete one).

    The process group must stand (`benchmark.training.process_group.join`). Every rank of the trial advances in step.

    Args:
        spec: What to train.
        plan: How this trial is spread over ranks.
        resume_from: A checkpoint that an earlier run of the same trial yielded.

    Raises:
        DivergedError: The loss is not finite.
        MissingError: Weights or data are not here.
    """
    with contextlib.closing(pack_steps([spec], plan, [resume_from])) as steps:
        for step in steps:
            if isinstance(step.report, DivergedError):
                raise step.report
            yield step.report


def pack_steps(
    specs: Sequence[TrialSpec], plan: LaunchPlan, checkpoints: Sequence[bytes | None]
) -> Generator[MemberReport, None, None]:
    """Run several trials in one pass over their frozen backbone; what each yields is what `trial_steps` would yield.

    A trial that diverges or ends leaves the others as they are. Of more trials than memory holds, one lot follows the
    other.

    Args:
        specs: Of equal backbone, data set, batch and precision, whose methods pack (`Method.packs`); any number of
            ranks, placements, initialisations, learning rates, epochs and seeds.
        plan: How the trials are spread over ranks.
        checkpoints: What each goes on from, or none; they may be of different epochs. A soup comes alone, and this is
            its members' tensors.

    Raises:
        MissingError: Weights or data are not here.
    """
    with contextlib.nullcontext() if specs[0].reads_test else sealed_tests():
        if specs[0].soup is not None:
            outcome = soup_outcome(OpenTrial(specs[0], plan, None), checkpoints[0])
            yield MemberReport(specs[0].trial_id, outcome)
            return
        for members in opened(specs, plan, checkpoints):
            pack = Pack(members, plan)
            try:
                yield from _steps(pack, members)
            finally:
                pack.close()


def _steps(pack: Pack, members: Sequence[OpenTrial]) -> Iterator[MemberReport]:
    fresh = [member for member in members if not member.state.records]
    for member in fresh:
        yield _report(pack, member, member.measure_start(), is_followed=member is not fresh[-1])
    running = list(members)
    while running:
        ended = [member for member in running if member.next_epoch is None]
        running = [member for member in running if member not in ended]
        for member in ended:
            member.restore_selected()
            yield MemberReport(member.spec.trial_id, member.finish())
        side_by_side = list(running)
        for member, trained in zip(side_by_side, _trained(pack, running), strict=True):
            is_followed = member is not side_by_side[-1]
            if trained.divergence is not None:
                running.remove(member)
                yield MemberReport(member.spec.trial_id, trained.divergence, is_followed)
            else:
                yield _report(pack, member, member.close_epoch(trained), is_followed)


def _trained(pack: Pack, members: list[OpenTrial]) -> list[TrainedEpoch]:
    if members and members[0].fits_head:
        return [member.fit_head() for member in members]
    return pack.train_epoch(members) if members else []


def _report(pack: Pack, member: OpenTrial, record: EpochRecord, is_followed: bool) -> MemberReport:
    report = EpochReport(record, member.checkpoint(pack.moments(member)))
    return MemberReport(member.spec.trial_id, report, is_followed)
