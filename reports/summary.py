"""The study as one JSON document: `summary.json`. Accuracies are fractions; what is absent is null with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reports.analysis import Analysis, CurveReader, analyse
from reports.combinations_table import combination_json
from reports.comparisons import Comparison
from reports.conditions import Condition, MissingSeed, count_statuses, is_search, trials_in_scope
from reports.evidence import evidence
from reports.findings import findings
from reports.image_tests import images_json
from reports.rank import RankCurve, recommendation
from reports.standings_table import standings_json
from reports.statistics import INTERVAL_METHOD, TEST_NAME, estimate
from reports.statistics.images import wilson_interval
from reports.statistics.rank_curve import ErrorFit, TrendTest
from reports.verdicts import Verdict

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord

SUMMARY_SCHEMA_VERSION = 1

SCOPE = "Intervals cover seeds on one split: initialisation, data order and masks vary, the images do not."


def summarise(study: StudyRecord, curves: CurveReader) -> dict[str, Any]:
    """Return the study's summary as JSON values."""
    return summary_of(analyse(study, curves))


def summary_of(analysis: Analysis) -> dict[str, Any]:
    """Return the summary of an analysis as JSON values."""
    study = analysis.study
    fields = {
        "schema_version": SUMMARY_SCHEMA_VERSION,
        "study": study.name,
        "question": study.spec.get("question"),
        "kind": study.spec.get("kind"),
        "findings": findings(analysis),
        "scope": SCOPE,
        "wall_seconds": study.wall_seconds,
        "per_trial_overhead_seconds": analysis.overhead_seconds,
        "num_trials": len(trials_in_scope(study)),
        "statuses": count_statuses(study),
        "conditions": [_condition(condition, is_search(study)) for condition in analysis.conditions],
        "comparisons": [_comparison(comparison) for comparison in analysis.comparisons],
        "standings": standings_json(analysis.standings),
        "claims": [_claim(verdict) for verdict in analysis.verdicts],
        "images": [images_json(comparison) for comparison in analysis.image_comparisons],
        "combinations": [combination_json(one) for one in analysis.combinations],
        "elbow": [_elbow(curve) for curve in analysis.rank_curves],
        "missing": [_missing(seed) for seed in analysis.missing],
        "test_reads": [dict(read) for read in study.test_reads],
        "run_id": study.run_id,
        "experiment_id": study.experiment_id,
    }
    reasons = {
        "question": "the study states none",
        "kind": "the study states none",
        "wall_seconds": "no run of the study has ended",
        "per_trial_overhead_seconds": "no trial has completed with its cost",
    }
    return with_reasons(fields, reasons)


def with_reasons(fields: dict[str, Any], reasons: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the fields with `reason`, one text that says why each null is one; null when there is nothing to say."""
    told = [f"{name}: {reason}" for name, reason in reasons.items() if reason and fields.get(name) is None]
    return fields | {"reason": "; ".join(told) or None}


def _condition(condition: Condition, searching: bool) -> dict[str, Any]:
    test = estimate(list(condition.scores("test").values()))
    validation = estimate(list(condition.scores("validation").values()))
    options = {name: condition.option(name) for name in ("rank", "placement", "init", "site")}
    fields = {
        "id": condition.id,
        "condition_id": condition.condition_id,
        "label": condition.label,
        "backbone": condition.setting.backbone,
        "dataset": condition.setting.dataset,
        "method": condition.method,
        **options,
        "num_seeds": test.num_seeds,
        "planned_seeds": list(condition.planned_seeds),
        "seeds": [seed.seed for seed in condition.completed],
        "test_top1_mean": test.mean,
        "test_top1_std": test.std,
        "interval_95": list(test.interval) if test.interval else None,
        "interval_95_over_images": _image_interval(condition, test.mean),
        "test_top1_per_seed": {str(seed): score for seed, score in condition.scores("test").items()},
        "num_validation_seeds": validation.num_seeds,
        "validation_top1_mean": validation.mean,
        "validation_top1_std": validation.std,
        "num_trainable_parameters": condition.num_trainable_parameters(),
        "run_ids": list(condition.run_ids),
    }
    why = "a search reads validation only" if searching else test.reason
    reasons: dict[str, str | None] = {
        name: f"{condition.method} has no option {name}, or it is null" for name in options
    }
    reasons |= dict.fromkeys(("test_top1_mean", "test_top1_std", "interval_95", "interval_95_over_images"), why)
    reasons |= {"validation_top1_mean": validation.reason, "validation_top1_std": validation.reason}
    return with_reasons(fields, reasons | {"num_trainable_parameters": "no seed has completed with its cost"})


def _image_interval(condition: Condition, mean: float | None) -> list[float] | None:
    """Return Wilson's interval over the test images of a mean over seeds; none without a score."""
    num_images = condition.num_test_images()
    return list(wilson_interval(mean, num_images)) if mean is not None and num_images else None


def _comparison(comparison: Comparison) -> dict[str, Any]:
    difference = comparison.difference
    fields = {
        "a": comparison.a.id,
        "b": comparison.b.id,
        "purpose": comparison.purpose,
        "difference_mean": difference.mean,
        "difference_std": difference.std,
        "interval_95": list(difference.interval) if difference.interval else None,
        "interval_method": INTERVAL_METHOD,
        "test": TEST_NAME,
        "num_pairs": difference.num_pairs,
        "seeds": list(difference.seeds),
        "p_value": difference.p_value,
        "p_value_holm": comparison.p_value_holm,
        "sign_flip_p_value": difference.sign_flip_p_value,
        "sign_flip_smallest_p_value": difference.smallest_p_value,
        "run_ids": list(comparison.run_ids),
    }
    absent = ("difference_mean", "difference_std", "interval_95", "p_value", "p_value_holm")
    reasons: dict[str, str | None] = dict.fromkeys(absent, difference.reason)
    unlisted = "too many pairs to enumerate, or none"
    return with_reasons(fields, reasons | {"sign_flip_p_value": unlisted, "sign_flip_smallest_p_value": unlisted})


def _claim(verdict: Verdict) -> dict[str, Any]:
    fields = {
        "id": verdict.claim.id,
        "text": verdict.claim.text,
        "a": verdict.claim.a,
        "b": verdict.claim.b,
        "margin": verdict.claim.margin,
        "verdict": verdict.name,
        "evidence": evidence(verdict),
    }
    return fields | {"reason": verdict.reason}


def _elbow(curve: RankCurve) -> dict[str, Any]:
    first = curve.conditions[0]
    fields = {
        "label": curve.label,
        "backbone": first.setting.backbone,
        "dataset": first.setting.dataset,
        "method": first.method,
        "ranks": [condition.option("rank") for condition in curve.conditions],
        "elbow_rank": curve.elbow.option("rank") if curve.elbow else None,
        "levelled_off": curve.is_levelled_off,
        "best_rank": curve.best.option("rank") if curve.best else None,
        "elbow": curve.elbow.id if curve.elbow else None,
        "chosen_on": "validation",
        "delta": curve.delta,
        "recommendation": recommendation(curve),
        "caution": curve.caution,
        **_elbow_evidence(curve),
    }
    absent: dict[str, str | None] = dict.fromkeys(("elbow_rank", "best_rank", "elbow"), curve.caution)
    uncertain = ("confidence", "elbow_rank_interval_95", "resampling", "trend", "saturating_fit", "excess_risk_fit")
    return with_reasons(fields, absent | dict.fromkeys(uncertain, curve.evidence.reason))


def _elbow_evidence(curve: RankCurve) -> dict[str, Any]:
    """Return how sure an elbow is, the test of the trend and the two fits; ranks, and fractions of errors."""
    evidence, draws, trend = curve.evidence, curve.evidence.draws, curve.evidence.trend
    return {
        "confidence": curve.confidence,
        "elbow_rank_interval_95": list(curve.elbow_interval) if curve.elbow_interval else None,
        "elbow_shares": dict(zip(map(str, evidence.ranks), draws.shares, strict=True)) if draws else {},
        "resampling": draws.method if draws else None,
        "num_paired_seeds": draws.num_seeds if draws else 0,
        "trend": _trend(trend, evidence.ranks) if trend else None,
        "saturating_fit": _fit(evidence.saturating, "1 - floor - scale * rank^-exponent"),
        "excess_risk_fit": _fit(evidence.excess_risk, "error = floor + scale * rank^-exponent + slope * rank"),
    }


def _trend(trend: TrendTest, ranks: Sequence[int]) -> dict[str, Any]:
    return {
        "test": "Page's trend test over seeds, one-sided",
        "p_value": trend.p_value,
        "largest_fall": trend.largest_fall,
        "falls_after_rank": None if trend.falls_after is None else ranks[trend.falls_after],
    }


def _fit(fit: ErrorFit | None, form: str) -> dict[str, Any] | None:
    if fit is None:
        return None
    return (
        {"form": form}
        | asdict(fit)
        | {
            "ranks": list(fit.ranks),
            "residuals": list(fit.residuals),
            "residual_root_mean_square": fit.root_mean_square,
            "is_determined": fit.is_determined,
            "best_rank": fit.best_rank,
        }
    )


def _missing(seed: MissingSeed) -> dict[str, Any]:
    return {
        "condition": seed.condition_id,
        "label": seed.label,
        "seed": seed.seed,
        "trial_id": seed.trial_id,
        "status": seed.status,
        "reason": seed.reason,
        "run_id": seed.run_id,
    }
