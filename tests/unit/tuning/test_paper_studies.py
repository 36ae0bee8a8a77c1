"""Guards the shipped studies of the paper's tables: their cells, and the released protocol's facts in every trial."""

from __future__ import annotations

import pytest

from tuning.study import Study, load_study


@pytest.fixture(scope="module")
def core() -> Study:
    return load_study("paper-core")


@pytest.mark.parametrize(
    ("name", "num_trials"),
    [
        ("paper-core", 5 * 3 * 3 * 3),
        ("paper-extended", 9 * 3 * 3 * 3),
        ("ablation-rank", 5 * 3),
        ("ablation-placement", 9 * 3),
        ("ablation-init", 6 * 3),
    ],
)
def test_study_has_the_papers_cells(name: str, num_trials: int) -> None:
    assert load_study(name).num_trials == num_trials


def test_trials_keep_to_the_released_protocol(core: Study) -> None:
    for trial in core.trials:
        training, protocol = trial.spec.training, trial.spec.protocol
        assert (training.epochs, training.warmup_epochs, training.weight_decay) == (50, 5.0, 0.05)
        assert (training.global_batch_images, training.learning_rate, training.precision) == (1024, 5e-4, "fp32")
        assert (protocol.name, protocol.normalisation, protocol.selection) == ("paper", "imagenet", "last_epoch")
        assert trial.spec.dataset.split == "paper"


def test_bare_backbone_names_are_pinned_to_full_tags(core: Study) -> None:
    names = {trial.spec.backbone.name for trial in core.trials}
    assert {name.partition(".")[0] for name in names} == {
        "deit_tiny_patch16_224",
        "vit_small_patch16_224",
        "vit_base_patch16_224",
    }
    assert all(name.partition(".")[2] for name in names)


def test_extended_study_runs_none_of_the_core_again(core: Study) -> None:
    assert core.trial_specs.keys() <= load_study("paper-extended").trial_specs.keys()
