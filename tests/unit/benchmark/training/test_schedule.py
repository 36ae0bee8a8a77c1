"""Guards the learning rate of each step."""

from __future__ import annotations

import pytest

from benchmark.training.schedule import learning_rate_at


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.5), (1, 1.0), (2, 1.0), (6, 0.5), (9, 0.5 * (1 + -0.9238795325112867))],
    ids=["first warm-up step", "last warm-up step", "peak", "half of the cosine", "last step: cos(7 pi / 8)"],
)
def test_rate_follows_warmup_and_cosine_when_two_of_ten_steps_warm_up(step: int, expected: float) -> None:
    assert learning_rate_at(step, peak=1.0, num_warmup_steps=2, num_steps=10) == pytest.approx(expected)


def test_rate_starts_at_the_peak_when_there_is_no_warmup() -> None:
    assert learning_rate_at(0, peak=0.1, num_warmup_steps=0, num_steps=5) == 0.1
