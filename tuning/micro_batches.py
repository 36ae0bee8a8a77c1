"""How large the micro-batches of a slot's trials may be: found out by running out of memory."""

from __future__ import annotations

import json

from benchmark.launch_plan import LaunchPlan, reduced


class MicroBatches:
    """The plans that a slot's trials run with.

    What one trial has found out holds for the trials of the same condition under other seeds, which follow in the slot.
    """

    def __init__(self) -> None:
        """Know of no trial that had too little memory."""
        self._num_reductions: dict[str, int] = {}
        self._condition = ""
        self._plan: LaunchPlan | None = None

    def plan_of(self, spec_json: str, plan_json: str) -> str:
        """Return the plan that a trial shall run with now: its own, or one of the same global batch that takes less.

        Args:
            spec_json: The trial's spec.
            plan_json: The plan that it was scheduled with.
        """
        self._condition = _condition_of(spec_json)
        self._plan = LaunchPlan.model_validate_json(plan_json)
        for _ in range(self._num_reductions.get(self._condition, 0)):
            self._plan = reduced(self._plan) or self._plan
        return self._plan.model_dump_json()

    def reduce(self) -> bool:
        """Let that trial have a smaller micro-batch the next time; return false where there is none."""
        if self._plan is None or reduced(self._plan) is None:
            return False
        self._num_reductions[self._condition] = self._num_reductions.get(self._condition, 0) + 1
        return True

    def story(self) -> str:
        """Return what had been tried when memory did not suffice, as the end of a reason."""
        if self._plan is None:
            return ""
        return (
            f" (with a micro-batch of {self._plan.micro_batch_images}, made smaller {self._plan.num_reductions} times)"
        )


def _condition_of(spec_json: str) -> str:
    return json.dumps({key: value for key, value in json.loads(spec_json).items() if key != "seed"}, sort_keys=True)
