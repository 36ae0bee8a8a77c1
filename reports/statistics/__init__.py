"""Statistics as pure functions: `seeds` within a cell, `pooling` over data sets, `images`, `permutation`; no I/O."""

from reports.statistics.permutation import SIGNIFICANCE, SignFlipTest, holm, pairs_needed, sign_flip_test
from reports.statistics.seeds import (
    INTERVAL_METHOD,
    TEST_NAME,
    Estimate,
    PairedDifference,
    estimate,
    p_value_of_margin,
    paired_difference,
    paired_t_p_value,
    seeds_needed,
    t_interval,
)

__all__ = [
    "INTERVAL_METHOD",
    "SIGNIFICANCE",
    "TEST_NAME",
    "Estimate",
    "PairedDifference",
    "SignFlipTest",
    "estimate",
    "holm",
    "p_value_of_margin",
    "paired_difference",
    "paired_t_p_value",
    "pairs_needed",
    "seeds_needed",
    "sign_flip_test",
    "t_interval",
]
