"""Guards that a trial which ended stays as it ended when its slot was lost before the driver heard of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmark.result import TrialStatus
from tests.integration.tracking_samples import completed
from tests.trials import make_spec
from tuning.ledger import Ledger
from tuning.scheduler import _Pace, _Run

DONE, LOST, GIVEN_UP = (make_spec(seed) for seed in range(3))


def test_outcome_in_the_ledger_is_kept_when_its_slot_was_lost_before_the_driver_heard_of_it(tmp_path: Path) -> None:
    ended: dict[str, TrialStatus] = {}
    ledger, nothing = Ledger(tmp_path), lambda: None
    observer: Any = SimpleNamespace(on_trial_ended=ended.__setitem__)
    run = _Run(None, ledger, "study", None, observer, nothing, nothing, _Pace(1, None, 0), None)  # type: ignore[arg-type]
    ledger.record_running(DONE.trial_id, "study")
    ledger.record_outcome(completed(DONE))
    # As after a slot that was begun again found this trial done, or never came back.
    side: Any = SimpleNamespace(cut_short=[DONE.trial_id, GIVEN_UP.trial_id], errors={LOST.trial_id: "gone"})
    trials = {spec.trial_id: (spec.model_dump_json(), "") for spec in (DONE, LOST, GIVEN_UP)}
    statuses = run._record_the_rest(side, trials)
    assert (
        statuses
        == ended
        == {
            DONE.trial_id: TrialStatus.COMPLETED,
            GIVEN_UP.trial_id: TrialStatus.PRUNED,
            LOST.trial_id: TrialStatus.NODE_LOST,
        }
    )
    outcome = ledger.outcome(DONE.trial_id)
    assert outcome is not None and outcome.result.status is TrialStatus.COMPLETED and outcome.predictions
    assert ledger.entries([LOST.trial_id])[LOST.trial_id].reason == "gone"
