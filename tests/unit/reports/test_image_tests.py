import numpy as np
import pytest

from benchmark.errors import MissingError
from reports.analysis import analyse
from reports.image_tests import images_json
from reports.images_table import images_table
from reports.summary import summary_of
from tests.unit.reports.synthetic import completed, make_spec, make_study, no_curves

CLAIM = {"id": "c", "text": "c", "a": {"method": "lora"}, "b": {"method": "head_only"}}


def study_of(num_seeds=2):
    return make_study(
        [
            completed(make_spec(method, seed), score + seed / 100, 0.9)
            for method, score in (("lora", 0.8), ("head_only", 0.6))
            for seed in range(num_seeds)
        ],
        claims=[CLAIM],
    )


def reader(study, right):
    """Ten images a run; `right` says by (method, seed) which of them are labelled right, in an order of its own."""
    by_run = {trial.run_id: trial.result.spec for trial in study.trials}

    def read(run_id):
        spec = by_run[run_id]
        images = right[spec["method"]["name"], spec["seed"]]
        order = list(reversed(range(10))) if spec["seed"] else list(range(10))
        predictions = np.array([int(image in images) for image in order])
        return {
            "identity": np.array([f"image-{image}" for image in order]),
            "label": np.ones(10, dtype=np.int64),
            "prediction": predictions,
            "logits": np.eye(2)[predictions],
        }

    return read


def test_images_are_matched_by_identity_when_the_order_differs():
    study = study_of()
    right = {("lora", 0): {0, 1, 2, 3, 4}, ("head_only", 0): {5}, ("lora", 1): {0, 1, 2, 3}, ("head_only", 1): {0, 9}}
    (found,) = analyse(study, no_curves, predictions=reader(study, right)).image_comparisons
    # Seed 0: 5 against 1 image, p = 14/64; seed 1: {1, 2, 3} against {9}, p = 2 · (1 + 4) / 16.
    assert [(test.only_a, test.only_b) for test in found.tests.values()] == [(5, 1), (3, 1)]
    assert [test.p_value for test in found.tests.values()] == pytest.approx([14 / 64, 10 / 16])
    # (4 + 2) / 2 images of ten.
    assert found.difference == pytest.approx(0.3)
    assert found.interval[0] < 0.3 < found.interval[1]
    assert images_json(found)["by_seed"]["0"]["num_images"] == 10
    assert "0: 0.22, 1: 0.62" in images_table([found]).rows[0][-1].text


def test_nothing_is_compared_when_predictions_are_gone():
    def gone(run_id):
        raise MissingError("predictions.parquet", run_id, "it is not in the store")

    (found,) = analyse(study_of(), no_curves, predictions=gone).image_comparisons
    assert (found.tests, found.interval) == ({}, None)
    assert "predictions cannot be read" in found.reason


def test_nothing_is_compared_when_the_test_images_differ():
    study = study_of(num_seeds=1)
    whole = reader(study, {("lora", 0): {0}, ("head_only", 0): {1}})
    lora = study.trials[0].run_id

    def read(run_id):
        return {name: values[: 9 if run_id == lora else 10] for name, values in whole(run_id).items()}

    (found,) = analyse(study, no_curves, predictions=read).image_comparisons
    assert "test images differ" in found.reason


def test_no_file_is_read_when_claims_need_too_many(monkeypatch):
    for reading in ("image_tests", "combinations"):
        monkeypatch.setattr(f"reports.{reading}.MOST_RUNS_READ", 1)
    assert analyse(study_of(), no_curves, predictions=lambda run_id: pytest.fail(run_id)).image_comparisons == []


def test_interval_over_images_stands_beside_the_one_over_seeds_when_summarised():
    condition = summary_of(analyse(study_of(), no_curves))["conditions"][0]
    low, high = condition["interval_95_over_images"]
    # Wilson with 290 of 360 images (0.805): 0.7615 to 0.8432.
    assert (low, high) == pytest.approx((0.7615, 0.8432), abs=5e-4)
    assert condition["interval_95"] != [low, high]
