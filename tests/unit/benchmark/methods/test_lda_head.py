"""Guards the head in closed form: equal to scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.errors import TrialError
from benchmark.methods.contract import LabelledFeatures, find_method
from benchmark.methods.parts.discriminant import class_statistics, discriminant, ledoit_wolf_shrinkage

METHOD = find_method("lda_head")


def _features(num_images: int = 300) -> LabelledFeatures:
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (num_images,), generator=draws)
    spread = torch.randn(12, 12, generator=draws)
    return LabelledFeatures(torch.randn(num_images, 12, generator=draws) @ spread + 0.7 * labels[:, None], labels)


@pytest.mark.parametrize("shrinkage", [1e-3, 0.3, 1.0])
def test_decisions_equal_scikit_learns_when_the_shrinkage_is_the_same(shrinkage: float) -> None:
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    images = _features()
    weight, bias = discriminant(class_statistics(images.features, images.labels, 5), shrinkage)
    reference = analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    reference.fit(images.features.double().numpy(), images.labels.numpy())
    torch.testing.assert_close(weight, torch.from_numpy(reference.coef_), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(bias, torch.from_numpy(reference.intercept_), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("num_images", [20, 300])
def test_ledoit_wolf_equals_scikit_learns_when_given_the_same_images(num_images: int) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    within = class_statistics(*vars(_features(num_images)).values(), 5).within
    expected = covariance.ledoit_wolf_shrinkage(within.numpy(), assume_centered=True)
    assert ledoit_wolf_shrinkage(within) == pytest.approx(expected, rel=1e-9)


def test_shrinkage_is_the_best_of_the_grid_when_chosen_on_validation() -> None:
    images = _features(40)
    heads = {name: nn.Linear(12, 5) for name in ("validation", "fixed")}
    for name, head in heads.items():
        METHOD.fit_head(head, METHOD.Options(shrinkage=name, shrinkage_value=1.0), images, _features(200))
    errors = {
        name: float((head(_features(200).features).argmax(dim=1) != _features(200).labels).double().mean())
        for name, head in heads.items()
    }
    assert errors["validation"] < errors["fixed"]


def test_a_class_without_images_is_refused_when_the_head_is_fitted() -> None:
    with pytest.raises(TrialError, match=r"every class; none of \[5, 6\]"):
        METHOD.fit_head(nn.Linear(12, 7), METHOD.Options(), _features(), _features())
