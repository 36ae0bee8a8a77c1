"""Guards the identity of trials: what enters it, and that it never moves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, ValidationError

from benchmark.request import resolve_trial
from benchmark.spec import ADDED_LATER, NOT_HASHED, Frozen, TrialSpec, as_canonical_json, hashed_fields

WITHOUT_LATER_FIELD = '{"rank":8}'


class _Part(Frozen):
    rank: int = 8
    added: str = Field(default="old behaviour", json_schema_extra=dict(ADDED_LATER))
    path: str | None = Field(default=None, json_schema_extra=dict(NOT_HASHED))


def test_later_field_leaves_identity_alone_when_it_has_the_earlier_behaviour() -> None:
    assert as_canonical_json(hashed_fields(_Part())) == WITHOUT_LATER_FIELD


def test_later_field_enters_identity_when_it_differs() -> None:
    assert "added" in hashed_fields(_Part(added="new behaviour"))


def test_path_of_a_file_stays_out_of_identity_when_its_content_hash_stands_beside_it() -> None:
    assert hashed_fields(_Part(path="/somewhere")) == hashed_fields(_Part())


def test_identity_is_equal_when_a_default_is_written_out(tiny_request: dict[str, Any]) -> None:
    written_out = {**tiny_request, "method": {"name": "adaptertune", "rank": 4, "placement": "all", "init": "zero"}}
    assert resolve_trial(written_out).trial_id == resolve_trial(tiny_request).trial_id


def test_identity_is_equal_when_a_spec_travels_as_json(tiny_request: dict[str, Any]) -> None:
    spec = resolve_trial(tiny_request)
    assert TrialSpec.model_validate_json(spec.model_dump_json()).trial_id == spec.trial_id


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"method": {"name": "adaptertune", "rank": 5}},
        {"method": {"name": "adaptertune", "rank": 4, "init": "small"}},
        {"protocol": {"name": "fair", "augmentation": "shift"}},
        {"backbone": {"name": "vit_nano", "weights": "random"}},
        {"training": {"epochs": 3, "warmup_epochs": 1, "global_batch_images": 256, "learning_rate": 3e-3}},
    ],
)
def test_identity_differs_when_the_score_may(tiny_request: dict[str, Any], change: dict[str, Any]) -> None:
    assert resolve_trial({**tiny_request, **change}).trial_id != resolve_trial(tiny_request).trial_id


def test_identity_is_equal_when_only_the_launch_differs(tiny_request: dict[str, Any]) -> None:
    assert (
        resolve_trial({**tiny_request, "launch": {"num_workers": 2}}).trial_id == resolve_trial(tiny_request).trial_id
    )


def test_condition_is_equal_when_only_the_seed_differs(tiny_request: dict[str, Any]) -> None:
    assert resolve_trial({**tiny_request, "seed": 7}).condition_id == resolve_trial(tiny_request).condition_id


@pytest.mark.parametrize("change", [{"seed": 7}, {"seed": 7, "reads_test": False}, {"reads_test": False}, {}])
def test_copy_has_the_identity_of_a_spec_made_anew_when_the_original_was_asked_for_its_own(
    tiny_request: dict[str, Any], change: dict[str, Any]
) -> None:
    spec = resolve_trial(tiny_request)
    assert spec.trial_id and spec.condition_id
    copy, anew = spec.model_copy(update=change), TrialSpec.model_validate({**spec.model_dump(), **change})
    assert (copy.trial_id, copy.condition_id) == (anew.trial_id, anew.condition_id)
    assert copy.canonical_json() == as_canonical_json(hashed_fields(anew))
    assert copy == anew


def test_spec_refuses_a_change_when_it_stands(tiny_request: dict[str, Any]) -> None:
    spec = resolve_trial(tiny_request)
    with pytest.raises(ValidationError):
        spec.seed = 3  # type: ignore[misc]


def test_option_added_later_is_left_out_when_it_has_its_default(tiny_request: dict[str, Any]) -> None:
    written_out = {**tiny_request, "method": {"name": "adaptertune", "rank": 4, "scale": 1.0, "site": "block"}}
    assert resolve_trial(written_out).method.options == {"rank": 4, "placement": "all", "init": "zero"}
    assert resolve_trial(written_out).trial_id == resolve_trial(tiny_request).trial_id


def test_option_added_later_enters_identity_when_it_differs(tiny_request: dict[str, Any]) -> None:
    changed = {**tiny_request, "method": {"name": "adaptertune", "rank": 4, "scale": "channel"}}
    assert resolve_trial(changed).method.options["scale"] == "channel"
    assert resolve_trial(changed).trial_id != resolve_trial(tiny_request).trial_id
