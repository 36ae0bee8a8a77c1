"""Guards that an option is found by the value in force, though trial ids leave out defaults that came later."""

from __future__ import annotations

from typing import Any

from reports.claims import matched_pairs
from reports.fields import family_key
from tuning.study import Study, expand
from tuning.study_spec import StudySpec

SITES = [{"name": "adaptertune", "rank": 4}, {"name": "adaptertune", "rank": 4, "site": "attention"}]
CLAIM = {"id": "block", "text": "Behind the block is better", "a": {"site": "block"}, "b": {"site": "attention"}}


def _study(**keys: Any) -> Study:
    values = {"name": "sites", "backbone": "vit_nano", "dataset": "digits", "method": SITES, "seed": 0}
    return expand(StudySpec.model_validate({**values, **keys}))


def test_claim_on_a_default_matches_when_trials_do_not_record_it() -> None:
    study = _study(claims=[CLAIM])
    assert "site" not in study.trials[0].spec.method.options  # so that released trial ids stay
    assert len(matched_pairs(study.spec.claims[0], study.planned)) == 1


def test_conditions_are_one_family_when_they_differ_in_an_option_added_later() -> None:
    assert len({family_key(trial.spec, "site") for trial in _study().planned}) == 1


def test_conditions_are_one_family_when_only_one_was_matched_to_a_budget() -> None:
    method = [{"name": "lora", "match": {"parameters": 20_000}}, {"name": "lora", "rank": 4}]
    assert len({family_key(trial.spec, "rank") for trial in _study(method=method).planned}) == 1
