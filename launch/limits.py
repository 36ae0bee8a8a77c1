"""How long a trial may take, how long its processes may keep silent, and who asks them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_SILENCE_SECONDS = 60.0
HEARTBEAT = "heartbeat"
"""The ranks' concurrency group that answers while a trial runs in the other one."""


@dataclass(frozen=True)
class TrialLimits:
    """What ends a trial, or its group, before it is done.

    Attributes:
        max_trial_seconds: Wall time of one trial over all its tries; in a pack its share. None: as long as it takes.
        max_silence_seconds: How long a rank's process may not answer before it counts as lost.
    """

    max_trial_seconds: float | None = None
    max_silence_seconds: float = DEFAULT_SILENCE_SECONDS

    @property
    def seconds_between_questions(self) -> float:
        """How often the ranks are asked whether they are there."""
        return min(5.0, self.max_silence_seconds / 4)


NO_LIMITS = TrialLimits()
"""A trial takes as long as it takes; only its silence is limited."""


class Pulse:
    """Asks ranks that are at work whether their processes still answer.

    A stopped process is no dead one: its connections stand, and where it is the only rank nobody waits for it in vain.
    """

    def __init__(self, ranks: Sequence[Any], limits: TrialLimits) -> None:
        """Count the silence from now on.

        Args:
            ranks: The actors.
            limits: How long they may be silent.
        """
        self._ranks = ranks
        self._limits = limits
        self._heard_at = [time.monotonic()] * len(ranks)
        self._questions: list[Any] = [None] * len(ranks)

    def silent_ranks(self) -> list[int]:
        """Ask those who owe no answer, and return the ranks that have been silent for too long."""
        import ray

        now = time.monotonic()
        for index, rank in enumerate(self._ranks):
            question = self._questions[index]
            if question is not None and not ray.wait([question], timeout=0)[0]:
                continue
            if question is not None:
                self._heard_at[index] = now
            self._questions[index] = rank.is_there.options(concurrency_group=HEARTBEAT).remote()
        return [index for index, heard in enumerate(self._heard_at) if now - heard > self._limits.max_silence_seconds]
