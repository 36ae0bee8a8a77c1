"""Weight soups the whole way but for Ray: seeds train, the ledger tells the soups, a soup is mixed and tested once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from benchmark.errors import MissingError, RequestError
from benchmark.launch_plan import LaunchPlan
from benchmark.result import TrialOutcome, TrialStatus
from benchmark.spec import TrialSpec
from benchmark.training.process_group import join, leave
from benchmark.training.trial import EpochReport, trial_steps
from tuning.growing_study import GrowingStudy, as_far_as_known
from tuning.ledger import Ledger
from tuning.packing import packed
from tuning.recorder import Recorder, record_failure
from tuning.study import Study, load_study

STUDY = {
    "name": "soups",
    "backbone": "vit_nano",
    "dataset": "digits",
    "method": [{"name": "adaptertune", "rank": 2, "placement": "last:1"}],
    "seed": [0, 1, 2],
    "training": {"epochs": 1, "warmup_epochs": 0.5, "global_batch_images": 256, "learning_rate": 3.0e-3},
    "soups": ["uniform", "greedy"],
}


@pytest.fixture(autouse=True, scope="module")
def group() -> Iterator[None]:
    join(0, 1)
    yield
    leave()


def load(folder: Path, **changes: object) -> Study:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**STUDY, **changes}))
    return load_study(str(file))


def run(spec: TrialSpec, plan: LaunchPlan, handed: bytes | None = None) -> TrialOutcome:
    steps = trial_steps(spec, plan, handed)
    return next(step for step in steps if not isinstance(step, EpochReport))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path, list[TrialOutcome]]:
    """A study whose seeds have ended."""
    folder = tmp_path_factory.mktemp("soups")
    study = load(folder)
    outcomes = [run(trial.spec, trial.plan) for trial in study.trials]
    with contextlib.closing(Ledger(folder)) as ledger:
        for outcome in outcomes:
            ledger.record_outcome(outcome, study.spec.name)
    return study, folder, outcomes


def soups_of(study: Study, folder: Path) -> list[TrialSpec]:
    with contextlib.closing(Ledger(folder)) as ledger:
        return [one.spec for one in as_far_as_known(study, ledger).trials if one.spec.soup is not None]


def mixed(study: Study, folder: Path, spec: TrialSpec) -> TrialOutcome:
    """Run a soup with what the recorder hands a rank."""
    plan = study.trials[0].plan
    trials = folder / "trials.json"
    trials.write_text(json.dumps({spec.trial_id: (spec.model_dump_json(), plan.model_dump_json())}))
    recorder = Recorder(str(folder), study.spec.name, str(trials))
    _, handed = recorder.begin(spec.trial_id)
    return run(spec, plan, handed)


def mean_of(outcomes: Sequence[TrialOutcome]) -> dict[str, torch.Tensor]:
    parts = [safetensors.torch.load(outcome.checkpoint or b"") for outcome in outcomes]
    return {name: torch.stack([part[name] for part in parts]).mean(dim=0) for name in parts[0]}


def test_soups_are_to_come_before_the_seeds_have_ended(tmp_path: Path) -> None:
    study = load(tmp_path)
    assert (len(study.trials), study.num_trials_to_come, study.num_trials) == (3, 2, 5)
    assert soups_of(study, tmp_path) == []


def test_soups_are_trials_of_their_own_when_every_seed_has_ended(trained) -> None:
    study, folder, outcomes = trained
    with contextlib.closing(Ledger(folder)) as ledger:
        known = as_far_as_known(study, ledger)
        assert as_far_as_known(known, ledger) == known
        assert GrowingStudy(study, ledger).study == known
    uniform, greedy = (one.spec for one in known.trials[3:])
    assert known.num_trials_to_come == 0
    assert uniform.soup and uniform.soup.members == [outcome.result.trial_id for outcome in outcomes]
    assert len({uniform.trial_id, greedy.trial_id, *study.trial_specs}) == 5
    assert known.labels[greedy.condition_id].endswith("greedy soup")
    assert [len(pack) for pack in packed(known.trials[3:], 8, 1)] == [1, 1]


def test_uniform_soup_is_the_mean_and_reads_test_once_when_run(trained) -> None:
    study, folder, outcomes = trained
    outcome = mixed(study, folder, soups_of(study, folder)[0])
    expected, found = mean_of(outcomes), safetensors.torch.load(outcome.checkpoint or b"")
    # One addition in double precision and one in single precision may differ in the last bit.
    assert all(torch.allclose(found[name], expected[name], rtol=1e-6, atol=1e-8) for name in expected)
    result = outcome.result
    assert (result.status, result.epochs) == (TrialStatus.COMPLETED, [])
    assert result.test and result.test_read_at and result.test.num_images == 360
    assert result.soup_members == [one.result.trial_id for one in outcomes]
    assert result.cost and result.cost.train_seconds == 0
    assert outcome.predictions


def test_greedy_soup_is_no_worse_on_validation_than_the_best_seed(trained) -> None:
    study, folder, outcomes = trained
    result = mixed(study, folder, soups_of(study, folder)[1]).result
    best = max(outcomes, key=lambda one: one.result.validation.top1)
    assert result.validation.top1 >= best.result.validation.top1
    assert result.soup_members[0] == best.result.trial_id


def test_soup_averages_what_completed_when_a_seed_diverged(trained, tmp_path: Path) -> None:
    study, _, outcomes = trained
    with contextlib.closing(Ledger(tmp_path)) as ledger:
        for outcome in outcomes[:2]:
            ledger.record_outcome(outcome, study.spec.name)
        assert soups_of(study, tmp_path) == []
        spec = study.trials[2].spec.model_dump_json()
        record_failure(ledger, study.spec.name, spec, TrialStatus.NODE_LOST, "gone")
        # It is tried again, so the soup waits for it.
        assert soups_of(study, tmp_path) == []
        record_failure(ledger, study.spec.name, spec, TrialStatus.DIVERGED, "not finite")
    assert [len(spec.soup.members) for spec in soups_of(study, tmp_path)] == [2, 2]


def test_soup_fails_with_the_reason_when_a_members_file_is_gone(trained, tmp_path: Path) -> None:
    study, folder, outcomes = trained
    spec = soups_of(study, folder)[0]
    with contextlib.closing(Ledger(tmp_path)) as ledger:
        ledger.record_outcome(outcomes[0], study.spec.name)
    with pytest.raises(MissingError, match=outcomes[1].result.trial_id):
        mixed(study, tmp_path, spec)


def test_no_soup_is_made_when_the_seeds_frozen_tensors_differ(trained, tmp_path: Path) -> None:
    study, _, outcomes = trained
    with contextlib.closing(Ledger(tmp_path)) as ledger:
        for number, outcome in enumerate(outcomes):
            origin = outcome.result.provenance.model_copy(update={"frozen_sha256_before": str(number) * 64})
            result = outcome.result.model_copy(update={"provenance": origin})
            ledger.record_outcome(TrialOutcome(result, outcome.predictions, outcome.checkpoint), study.spec.name)
        known = as_far_as_known(study, ledger)
    assert (len(known.trials), known.num_trials_to_come) == (3, 0)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"seed": [0]}, "two seeds or more"),
        ({"protocol": "paper", "dataset": "cifar10", "backbone": "deit_tiny_patch16_224"}, "different splits"),
        ({"backbone": {"name": "vit_nano", "weights": "random"}}, "random weights"),
        (
            {
                "dataset": {"name": "digits", "split": "train_and_validation"},
                "protocol": {"name": "fair", "selection": "last_epoch"},
            },
            "no validation image",
        ),
        ({"soups": ["uniform", "uniform"]}, "twice"),
        ({"soups": "stirred"}, "uniform"),
    ],
)
def test_request_is_refused_when_seeds_cannot_be_averaged(tmp_path: Path, changes, rule: str) -> None:
    with pytest.raises(RequestError, match=rule):
        load(tmp_path, **changes)
