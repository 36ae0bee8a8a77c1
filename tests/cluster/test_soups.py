"""Weight soups through Ray: their trials begin when the seeds have ended, in the same run of the command."""

from __future__ import annotations

import contextlib
import json

import pytest

from benchmark.result import TrialStatus
from tests.cluster.study_command import ONE_AT_A_TIME, start_run, write_study
from tuning.ledger import Ledger
from tuning.study import load_study

METHOD = {"name": "adaptertune", "rank": 2, "placement": "last:1"}


@pytest.mark.timeout(600)
def test_soups_are_mixed_tested_and_reported_when_their_seeds_have_ended(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("soups")
    recipes = ["uniform", "greedy"]
    study = write_study(folder, "mixed", [METHOD], [0, 1], soups=recipes, resources=ONE_AT_A_TIME)
    text, messages = start_run(study, folder / "output").communicate(timeout=500)
    assert text, messages
    document = json.loads(text)
    seeds = [trial.spec.trial_id for trial in load_study(str(study)).trials]
    soups = [trial_id for trial_id in document["statuses"] if trial_id not in seeds]
    assert (len(soups), set(document["statuses"].values())) == (2, {"COMPLETED"}), messages
    with contextlib.closing(Ledger(folder / "output")) as ledger:
        results = [outcome.result for outcome in map(ledger.outcome, soups) if outcome is not None]
    assert [result.status for result in results] == [TrialStatus.COMPLETED] * 2
    assert all(result.test is not None and set(result.soup_members) <= set(seeds) for result in results)
    reported = {one["kind"]: one["test_top1"] for one in document["summary"]["combinations"]}
    measured = {result.spec["soup"]["recipe"]: result.test.top1 for result in results if result.test}
    assert {kind: score for kind, score in reported.items() if kind.endswith("soup")} == {
        f"{recipe} soup": measured[recipe] for recipe in recipes
    }
