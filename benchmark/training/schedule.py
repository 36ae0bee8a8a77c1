"""The learning rate of every optimiser step."""

from __future__ import annotations

import math


def learning_rate_at(step: int, peak: float, num_warmup_steps: int, num_steps: int) -> float:
    """Return the learning rate of one step: linear warm-up from 0, then a cosine to 0.

    Args:
        step: 0-based optimiser step.
        peak: Highest learning rate, reached at the last warm-up step.
        num_warmup_steps: Steps of warm-up; 0 for none.
        num_steps: Steps of the whole training.

    Source: per-step cosine annealing (Loshchilov & Hutter, 2017), without restarts.
    """
    if step < num_warmup_steps:
        return peak * (step + 1) / num_warmup_steps
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return 0.5 * peak * (1.0 + math.cos(math.pi * progress))
