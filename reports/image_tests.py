"""Compares the two sides of each claim image by image, from the stored predictions of their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import AdapterTuneError
from reports.comparisons import Comparison
from reports.statistics.images import MCNEMAR_NAME, PAIRED_IMAGES_METHOD, McNemar, mcnemar, paired_image_interval
from reports.verdicts import Verdict

PredictionReader = Callable[[str], Mapping[str, NDArray[Any]]]
"""Reads a run's test predictions: `identity`, `label` and `prediction`, a value an image."""

MOST_RUNS_READ = 400
"""Each run's predictions are a file to fetch: a study whose claims need more goes without."""


@dataclass(frozen=True)
class ImageComparison:
    """The two sides of a claim in one setting, over the test images.

    Attributes:
        claim_id: The claim.
        pair: The conditions.
        tests: McNemar's test of each paired seed.
        difference: Mean over images and seeds of a right less b right; none where nothing could be read.
        interval: Its 95 % interval over images; the seeds are given.
        reason: Why something is absent; none otherwise.
    """

    claim_id: str
    pair: Comparison
    tests: dict[int, McNemar]
    difference: float | None
    interval: tuple[float, float] | None
    reason: str | None = None


def compare_images(verdicts: Sequence[Verdict], read: PredictionReader | None) -> list[ImageComparison]:
    """Return every claim's pairs, image by image; empty without a reader, or where too many runs would be read."""
    pairs = [(verdict.claim.id, pair) for verdict in verdicts for pair in verdict.pairs if pair.difference.seeds]
    runs = {run_id for _, pair in pairs for run_id in pair.run_ids}
    if read is None or len(runs) > MOST_RUNS_READ:
        return []
    known: dict[str, dict[str, bool]] = {}
    return [_compare(claim_id, pair, read, known) for claim_id, pair in pairs]


def _compare(
    claim_id: str, pair: Comparison, read: PredictionReader, known: dict[str, dict[str, bool]]
) -> ImageComparison:
    tests, differences = {}, []
    runs = [{one.seed: one.run_id for one in side.completed} for side in (pair.a, pair.b)]
    try:
        for seed in pair.difference.seeds:
            a, b = (_right_by_image(side[seed], read, known) for side in runs)
            if a.keys() != b.keys():
                return ImageComparison(claim_id, pair, {}, None, None, f"seed {seed}: the sides' test images differ")
            right_a = np.array(list(a.values()), dtype=np.bool_)
            right_b = np.array([b[image] for image in a], dtype=np.bool_)
            tests[seed] = mcnemar(right_a, right_b)
            differences.append({image: float(a[image]) - float(b[image]) for image in a})
    except AdapterTuneError as error:
        return ImageComparison(claim_id, pair, {}, None, None, f"predictions cannot be read: {error}")
    if any(seen.keys() != differences[0].keys() for seen in differences):
        return ImageComparison(claim_id, pair, tests, None, None, "the seeds' test images differ: no joint interval")
    means = np.array([np.mean([seen[image] for seen in differences]) for image in differences[0]])
    return ImageComparison(claim_id, pair, tests, float(means.mean()), paired_image_interval(means))


def _right_by_image(run_id: str, read: PredictionReader, known: dict[str, dict[str, bool]]) -> dict[str, bool]:
    """Return by image whether a run labels it right; a run is read once."""
    if run_id not in known:
        found = read(run_id)
        right = (found["label"] == found["prediction"]).tolist()
        known[run_id] = dict(zip(map(str, found["identity"]), right, strict=True))
    return known[run_id]


def images_json(comparison: ImageComparison) -> dict[str, Any]:
    """Return a comparison as JSON values; differences are fractions."""
    return {
        "claim": comparison.claim_id,
        "a": comparison.pair.a.id,
        "b": comparison.pair.b.id,
        "difference_mean": comparison.difference,
        "interval_95_over_images": list(comparison.interval) if comparison.interval else None,
        "interval_method": PAIRED_IMAGES_METHOD,
        "test": MCNEMAR_NAME,
        "by_seed": {str(seed): asdict(test) for seed, test in comparison.tests.items()},
        "reason": comparison.reason,
    }
