"""A study whose trials become known while it runs, by what the ledger holds: a sequential search, and weight soups."""

from __future__ import annotations

from collections.abc import Sequence

from tuning.ledger import Ledger
from tuning.scheduled_trial import ScheduledTrial
from tuning.search_settings import ended_as
from tuning.soups import with_soups
from tuning.study import Study, expand


def as_far_as_known(study: Study, ledger: Ledger) -> Study:
    """Return a study with the trials that are known from how others have ended; most are known from the beginning."""
    if study.spec.soups:
        return with_soups(study, ledger)
    if not study.num_trials_to_come:
        return study
    return expand(study.spec, lambda trial_id: ended_as(ledger.result(trial_id)))


class GrowingStudy:
    """A study and the ledger that its later trials depend on.

    Attributes:
        study: With all trials that are known by now.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        """Begin with what earlier runs found."""
        self._ledger = ledger
        self.study = as_far_as_known(study, ledger)

    def grow(self) -> Sequence[ScheduledTrial]:
        """Return the trials that are known only now, if any."""
        known = self.study.trial_specs
        self.study = as_far_as_known(self.study, self._ledger)
        return [trial for trial in self.study.trials if trial.spec.trial_id not in known]
