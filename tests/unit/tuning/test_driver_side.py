"""Which moment the driver uses to prepare what comes at the end."""

from types import SimpleNamespace
from typing import Any

import pytest

from tuning import tune_run
from tuning.trainable import TRIAL_IDS


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.heard.append(name)


def test_the_quiet_moment_comes_once_when_no_slot_has_started_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(tune_run.time, "monotonic", lambda: now[0])
    listener: Any = Listener()
    side = tune_run.DriverSide(listener, lambda: False)

    def pass_by(seconds: float) -> None:
        now[0] += seconds
        side.on_step_end(0, [])

    pass_by(10)
    assert listener.heard == [], "nothing has started yet"
    side.on_trial_start(0, [], SimpleNamespace(config={TRIAL_IDS: "a"}))
    pass_by(0.9)
    side.on_trial_start(0, [], SimpleNamespace(config={TRIAL_IDS: "b"}))
    pass_by(0.9)
    assert listener.heard == ["on_trial_started"] * 2, "another slot may be about to start"
    pass_by(0.2)
    pass_by(10)
    assert listener.heard == ["on_trial_started"] * 2 + ["on_quiet"]
