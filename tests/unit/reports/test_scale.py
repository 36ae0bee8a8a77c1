"""Guards that the analysis stays quick with ten thousand trials."""

import time

import numpy as np
import pytest

from reports.build import summarise
from tests.unit.reports.synthetic import completed, make_spec, make_study, no_curves

CLAIM = {
    "id": "beats-head",
    "text": "lora r8 beats head-only everywhere",
    "a": {"method": "lora", "rank": 8},
    "b": {"method": "head_only"},
}


def many_trials():
    """5 backbones, 10 data sets, 20 conditions, 10 seeds."""
    generator, trials = np.random.default_rng(0), []
    recipes = [("head_only", {}), ("full_finetune", {}), ("bitfit", {}), ("ssf", {})]
    recipes += [
        (method, {"rank": rank}) for method in ("lora", "adaptertune") for rank in (2, 4, 8, 16, 32, 64, 128, 256)
    ]
    for backbone in range(5):
        for dataset in range(10):
            for position, (method, options) in enumerate(recipes):
                for seed in range(10):
                    spec = make_spec(method, seed, f"vit_{backbone}", f"data_{dataset}", **options)
                    score = 0.7 + 0.01 * position + round(generator.normal(0, 4)) / 360
                    trials.append(completed(spec, score, score))
    return trials


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_analysis_takes_under_thirty_seconds_when_ten_thousand_trials():
    study = make_study(many_trials(), claims=[CLAIM])
    begun = time.process_time()
    summary = summarise(study, no_curves)
    seconds = time.process_time() - begun
    assert summary["num_trials"] == 10_000
    assert len(summary["standings"]) == 6
    # Processor time: the machine's other work does not count.
    assert seconds < 30, f"{seconds:.1f} s"
