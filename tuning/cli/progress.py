"""Shows a running study: a live table on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.live import Live
from rich.table import Table

from benchmark.result import EpochRecord, TrialStatus
from benchmark.spec import TrialSpec
from tuning.cli.output import as_percent, errors
from tuning.ledger import Ledger
from tuning.study import Study

REFRESH_PER_SECOND = 2.0


class LiveProgress:
    """Counts what is done, running and failed, the best validation accuracy so far, and the time left."""

    def __init__(self, name: str, output_directory: Path) -> None:
        """Begin with nothing; `planned` says what there is to run."""
        self._name = name
        self._output_directory = output_directory
        self._specs: dict[str, TrialSpec] = {}
        self._labels: dict[str, str] = {}
        self._num_trials = 0
        self._num_done_before: int | None = None
        self._started = time.monotonic()
        self._statuses: dict[str, TrialStatus] = {}
        self._running: dict[str, EpochRecord | None] = {}
        self._best: tuple[float, str] | None = None
        self._live = Live(get_renderable=self._table, console=errors, refresh_per_second=REFRESH_PER_SECOND)

    def __enter__(self) -> LiveProgress:
        """Begin to show."""
        if errors.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; the last state stays on the terminal."""
        self._live.stop()

    def planned(self, study: Study) -> None:
        """Note which trials there are, and at first what earlier runs left of them in the ledger."""
        self._specs = study.trial_specs
        self._labels = {key: study.labels[spec.condition_id] for key, spec in self._specs.items()}
        self._num_trials = study.num_trials
        if self._num_done_before is None:
            self._read_ledger(self._output_directory)
            self._num_done_before = len(self._statuses)
            if not errors.is_terminal:
                errors.print(f"{self._name}: {self._count_line()}", highlight=False)

    def started(self, trial_id: str) -> None:
        """Note that a trial runs."""
        self._running[trial_id] = None

    def advanced(self, trial_id: str, record: EpochRecord) -> None:
        """Note an epoch."""
        self._running[trial_id] = record
        self._note_best(trial_id, record.validation_top1)

    def ended(self, trial_id: str, status: TrialStatus) -> None:
        """Note a trial's end; where there is no terminal, say so in a line."""
        self._running.pop(trial_id, None)
        self._statuses[trial_id] = status
        if not errors.is_terminal:
            label = f"{self._labels[trial_id]}, seed {self._specs[trial_id].seed}"
            errors.print(f"{label}: {status} · {self._count_line()}", highlight=False, markup=False, soft_wrap=True)

    def _read_ledger(self, output_directory: Path) -> None:
        if not output_directory.exists():
            return
        ledger = Ledger(output_directory)
        for trial_id, entry in ledger.entries(list(self._specs)).items():
            if entry.is_final:
                self._statuses[trial_id] = TrialStatus(entry.state)
            if entry.best_validation_top1 is not None:
                self._note_best(trial_id, entry.best_validation_top1)
        ledger.close()

    def _note_best(self, trial_id: str, validation_top1: float) -> None:
        if self._best is None or validation_top1 > self._best[0]:
            self._best = (validation_top1, trial_id)

    def _table(self) -> Table:
        table = Table(title=f"{self._name}: {self._count_line()}", title_justify="left", box=None, pad_edge=False)
        for heading in ("running", "seed", "epoch", "validation top-1"):
            table.add_column(heading)
        for trial_id, record in list(self._running.items()):
            spec = self._specs[trial_id]
            epoch = f"{record.epoch if record else 0} of {spec.training.epochs}"
            validation = as_percent(record.validation_top1 if record else None)
            table.add_row(self._labels[trial_id], str(spec.seed), epoch, validation)
        return table

    def _count_line(self) -> str:
        num_failed = sum(status is not TrialStatus.COMPLETED for status in self._statuses.values())
        parts = [f"{len(self._statuses)} of {self._num_trials} done"]
        if self._running:
            parts.append(f"{len(self._running)} running")
        if num_failed:
            parts.append(f"{num_failed} not completed")
        if self._best is not None:
            parts.append(f"best validation {as_percent(self._best[0])} ({self._labels[self._best[1]]})")
        left = self._seconds_left()
        if left is not None:
            parts.append(f"about {_as_duration(left)} left")
        return " · ".join(parts)

    def _seconds_left(self) -> float | None:
        """Return the time left at the pace so far; none before the first trial of this run has ended."""
        num_done = len(self._statuses) - (self._num_done_before or 0)
        num_open = self._num_trials - len(self._statuses)
        if num_done == 0 or num_open == 0:
            return None
        return (time.monotonic() - self._started) / num_done * num_open


def _as_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
