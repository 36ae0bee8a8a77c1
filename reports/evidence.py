"""A verdict's numbers as JSON values, for `summary.json`."""

from __future__ import annotations

from reports.comparisons import Comparison
from reports.statistics import INTERVAL_METHOD
from reports.verdicts import RULE, Verdict, pairs_required


def evidence(verdict: Verdict) -> dict[str, object]:
    """Return a verdict's numbers as JSON values; accuracies are fractions."""
    means = [pair.difference.mean for pair in verdict.pairs if pair.difference.mean is not None]
    return {
        "rule": RULE,
        "interval_method": INTERVAL_METHOD,
        "margin": verdict.claim.margin,
        "num_settings": len(verdict.pairs),
        "num_pairs": sum(pair.difference.num_pairs for pair in verdict.pairs),
        "seeds": sorted({seed for pair in verdict.pairs for seed in pair.difference.seeds}),
        "difference_mean": sum(means) / len(means) if means else None,
        "over": verdict.claim.over,
        "num_settings_required": pairs_required(verdict.claim, len(verdict.pairs)),
        "mean_over_settings": _mean_evidence(verdict),
        "parameter_share": verdict.parameter_share,
        "published": verdict.claim.published,
        "more_seeds_needed": verdict.more_seeds_needed,
        "summary": verdict.summary,
        "pairs": [
            _pair_evidence(pair, needed) | {"verdict": name, "p_value": alone, "p_value_holm_claims": corrected}
            for pair, name, needed, alone, corrected in zip(
                verdict.pairs,
                verdict.pair_names,
                verdict.seeds_needed,
                verdict.p_values,
                verdict.p_values_holm,
                strict=True,
            )
        ],
        "run_ids": list(verdict.run_ids),
        "reason": verdict.reason,
        "caution": verdict.caution,
    }


def _mean_evidence(verdict: Verdict) -> dict[str, object] | None:
    """Return the mean over settings with its interval and the pooled permutation test; none without a paired seed."""
    mean, test = verdict.mean, verdict.sign_flip
    if mean is None or test is None:
        return None
    return {
        "difference_mean": mean.mean,
        "interval_95": list(mean.interval) if mean.interval else None,
        "interval_method": mean.method,
        "sign_flip_p_value": test.p_value,
        "sign_flip_smallest_p_value": test.smallest_p_value,
        "sign_flip_is_exact": test.is_exact,
        "num_pairs": test.num_pairs,
        "reason": mean.reason,
    }


def _pair_evidence(pair: Comparison, needed: int | None) -> dict[str, object]:
    difference = pair.difference
    return {
        "backbone": pair.a.setting.backbone,
        "dataset": pair.a.setting.dataset,
        "a": pair.a.id,
        "b": pair.b.id,
        "difference_mean": difference.mean,
        "interval_95": list(difference.interval) if difference.interval else None,
        "num_pairs": difference.num_pairs,
        "seeds": list(difference.seeds),
        "seeds_needed": needed,
        "run_ids": list(pair.run_ids),
        "reason": difference.reason,
    }
