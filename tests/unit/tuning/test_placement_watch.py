"""Guards that a wedged placement is told from one that waits for its turn."""

from __future__ import annotations

import time

import pytest

from tuning import placement_watch
from tuning.placement_watch import PlacementWatch, waiting_in_spite_of_room

ONE_CPU = {"CPU": 1.0}


def group(state: str, strategy: str, num_workers: int) -> dict[str, object]:
    # As Tune asks: an empty bundle for the slot itself, then one a worker.
    bundles = dict(enumerate([{}, *[ONE_CPU] * num_workers]))
    return {"placement_group_id": "a", "state": state, "strategy": strategy, "bundles": bundles}


@pytest.mark.parametrize(
    ("state", "strategy", "num_workers", "free", "waits"),
    [
        ("PENDING", "PACK", 2, [{"CPU": 1.0}, {"CPU": 1.0}], True),
        ("PENDING", "PACK", 2, [{"CPU": 1.0}, {}], False),
        ("PENDING", "STRICT_PACK", 2, [{"CPU": 1.0}, {"CPU": 1.0}], False),
        ("PENDING", "STRICT_PACK", 2, [{"CPU": 2.0}], True),
        ("PENDING", "STRICT_SPREAD", 2, [{"CPU": 2.0}], False),
        ("PENDING", "STRICT_SPREAD", 2, [{"CPU": 1.0}, {"CPU": 0.9999999}], True),
        ("CREATED", "PACK", 1, [{"CPU": 4.0}], False),
        ("REMOVED", "PACK", 1, [{"CPU": 4.0}], False),
        ("PENDING", "PACK", 1, [], False),
    ],
)
def test_group_waits_in_spite_of_room_when_its_bundles_would_fit(state, strategy, num_workers, free, waits):
    found = waiting_in_spite_of_room([group(state, strategy, num_workers)], free)
    assert found == (["a"] if waits else [])


def test_placement_is_stuck_when_one_group_waits_for_longer_than_allowed(monkeypatch):
    waiting = [["a"], ["b"]]
    monkeypatch.setattr(placement_watch, "_waiting_groups", lambda: waiting[0])
    watch = PlacementWatch(patience_seconds=0.2)
    assert not watch.is_stuck()
    time.sleep(0.15)
    waiting.reverse()
    assert not watch.is_stuck(), "another one waits now"
    time.sleep(0.15)
    assert not watch.is_stuck()
    time.sleep(0.15)
    assert watch.is_stuck()
