"""Says in three sentences what a study found, from its data alone and as open about what is undecided."""

from __future__ import annotations

from collections import Counter

from reports.analysis import Analysis
from reports.conditions import Condition, Split, count_statuses, is_search, trials_in_scope
from reports.fields import Setting
from reports.formatting import listed, percent, percent_interval, plural, points, points_interval
from reports.naming import method_title
from reports.rank import recommendation
from reports.statistics import estimate


def findings(analysis: Analysis) -> list[str]:
    """Return three sentences: the claims, the best condition, and the rank or the baseline comparison."""
    if not any(condition.completed for condition in analysis.conditions):
        return _nothing_yet(analysis)
    return [_claims_sentence(analysis), _best_sentence(analysis), _third_sentence(analysis)]


def _nothing_yet(analysis: Analysis) -> list[str]:
    statuses = count_statuses(analysis.study)
    ended = [f"{number} {status}" for status, number in statuses.items() if number and status != "COMPLETED"]
    claims = plural(len(analysis.verdicts), "claim")
    return [
        "No trial of this study has completed, so nothing has been found yet.",
        f"Of {plural(len(trials_in_scope(analysis.study)), 'planned trial')}: {listed(ended) or 'none has a record'}.",
        f"Its {claims} remain undecided." if analysis.verdicts else "It states no claim.",
    ]


def _claims_sentence(analysis: Analysis) -> str:
    if is_search(analysis.study):
        return "A search: it reads validation alone and confirms nothing; the test split stays closed."
    if not analysis.verdicts:
        return "The study states no claim, so its numbers describe and confirm nothing."
    counts = Counter(verdict.name for verdict in analysis.verdicts)
    told = [f"{counts[name]} {name}" for name in ("confirmed", "contradicted", "undecided") if counts[name]]
    total = len(analysis.verdicts)
    if total == 1:
        verdict = analysis.verdicts[0]
        return f"Its one claim, “{verdict.claim.text.rstrip('.')}”, is {verdict.name}."
    if len(counts) == 1:
        every = "Both" if total == 2 else f"All {total}"
        return f"{every} claims stated before the run are {next(iter(counts))}."
    number, rest = told[0].split(" ", 1)
    told[0] = f"{number} {'is' if number == '1' else 'are'} {rest}"
    return f"Of the {total} claims stated before the run, {listed(told)}."


def best_by_validation(analysis: Analysis) -> dict[Setting, Condition]:
    """Return for each setting the condition with the best mean validation top-1; the first of equals."""
    best: dict[Setting, tuple[float, Condition]] = {}
    for condition in analysis.conditions:
        mean = estimate(list(condition.scores("validation").values())).mean
        if mean is not None and (condition.setting not in best or mean > best[condition.setting][0]):
            best[condition.setting] = (mean, condition)
    return {setting: condition for setting, (_, condition) in best.items()}


def _best_sentence(analysis: Analysis) -> str:
    best = best_by_validation(analysis)
    if not best:
        return "No completed trial has a validation score, so no condition can be chosen."
    if len(best) == 1:
        return _one_best(next(iter(best.values())), is_search(analysis.study))
    wins = Counter(condition.method for condition in best.values()).most_common()
    told = listed([f"{method_title(method)} in {number}" for method, number in wins])
    return f"Chosen on validation, the best method over {len(best)} backbone–data set pairs is {told}."


def _one_best(condition: Condition, searching: bool) -> str:
    split: Split = "validation" if searching else "test"
    score = estimate(list(condition.scores(split).values()))
    if score.mean is None:
        return f"Chosen on validation, {condition.label} is best; it has no test score."
    interval = f"95 % interval {percent_interval(score.interval)}" if score.interval else "one seed, no interval"
    seeds = f", {plural(score.num_seeds, 'seed')}" if score.interval else ""
    return (
        f"Chosen on validation, {condition.label} is best and reaches {percent(score.mean)} % {split} top-1 "
        f"({interval}{seeds})."
    )


def _third_sentence(analysis: Analysis) -> str:
    if is_search(analysis.study):
        tried = Counter(condition.method for condition in analysis.conditions)
        return f"Settings tried: {listed([f'{method_title(method)} {number}' for method, number in tried.items()])}."
    if len(analysis.rank_curves) == 1:
        return recommendation(analysis.rank_curves[0])
    if len(analysis.rank_curves) > 1:
        elbows = Counter(curve.elbow.option("rank") for curve in analysis.rank_curves if curve.elbow)
        told = listed([f"{rank} in {number}" for rank, number in sorted(elbows.items())])
        curves = f"{len(analysis.rank_curves)} rank curves"
        return f"Over {curves} the elbow, chosen on validation, is rank {told or 'unknown'}."
    return _comparison_sentence(analysis)


def _comparison_sentence(analysis: Analysis) -> str:
    decided = [row for row in analysis.comparisons if row.difference.interval is not None]
    if not decided:
        return "No paired difference has an interval: that takes two seeds completed on both sides."
    if len(decided) == 1:
        row = decided[0]
        return (
            f"{row.a.label} minus {row.b.label} is {points(row.difference.mean)} points on test, 95 % interval "
            f"{points_interval(row.difference.interval)} over {plural(row.difference.num_pairs, 'paired seed')}."
        )
    small = sum(row.p_value_holm is not None and row.p_value_holm < 0.05 for row in decided)
    return f"Of {len(decided)} paired differences on test, {small} stay below p = 0.05 after Holm's correction."
