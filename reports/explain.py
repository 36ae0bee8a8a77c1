"""Explains why two results differ: what is unlike between two runs or two conditions, ranked by what could cause a gap.

A field of the trial's identity may change the score, and so may the weights, images, sources and packages that were
really used. The launch plan, the host and the time must not: a gap that only they could explain is a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from benchmark.result import Provenance
from benchmark.spec import TrialSpec, hashed_fields
from reports.fields import has_random_weights, options_of
from reports.formatting import listed, plural, points, points_interval
from reports.sides import Side
from reports.statistics import PairedDifference, paired_difference

ABSENT = "absent"


class Effect(StrEnum):
    """What a difference can do to a score."""

    IDENTITY = "enters the trial id: can explain a gap"
    SOURCE = "outside the trial id, but can explain a gap"
    NONE = "must not change a score"


@dataclass(frozen=True)
class Difference:
    """One field that is unlike on the two sides.

    Attributes:
        field: Dotted name.
        a: Its value on side a, as text; several, joined, where seeds differ among themselves.
        b: The same for side b.
        effect: What it can do to a score.
        why: How it would.
    """

    field: str
    a: str
    b: str
    effect: Effect
    why: str

    @property
    def can_explain(self) -> bool:
        """Whether a gap in score may come from it."""
        return self.effect is not Effect.NONE


@dataclass(frozen=True)
class Explanation:
    """What two results differ in, the likeliest cause first.

    Attributes:
        a: One side.
        b: The other.
        gap: The difference a - b in score, paired by seed for conditions.
        split: Which score: test, or validation where a side has no test score.
        differences: All that is unlike, ranked.
        verdict: One sentence.
    """

    a: Side
    b: Side
    gap: PairedDifference
    split: str
    differences: tuple[Difference, ...]
    verdict: str


RANKING: tuple[tuple[str, str], ...] = (
    ("loaded.weights", "the model starts from other weights"),
    ("backbone.", "another model, or other weights"),
    ("loaded.num_test_images", "the score is over other images"),
    ("loaded.split", "other images are trained on, chosen on, or tested"),
    ("dataset.", "other images, or another split of them"),
    ("protocol.", "images are shown, or the tested epoch is chosen, in another way"),
    ("method.", "another adaptation is trained"),
    ("training.learning_rate", "the optimiser takes other steps"),
    ("training.global_batch", "other batches, and other numbers of steps"),
    ("training.precision", "other rounding in every step"),
    ("training.", "the optimiser takes other steps"),
    ("seed", "other starting values, order of images and masks: the spread over seeds"),
    ("sources.", "other code ran"),
    ("packages.", "other versions compute, decode or resize"),
    ("python", "another interpreter"),
    ("device", "other arithmetic: sums are taken in another order"),
    ("launch.", "shared out differently, to the same result but for rounding"),
    ("", "recorded only"),
)
"""Field prefixes, the likeliest cause of a gap first, each with how it would cause one."""

_SOURCES = ("loaded.", "sources.", "packages.", "python", "device")

_DECIDING_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "deepspeed")
"""What computes, decodes and resizes; other packages' versions are ranked after these."""


def explain(a: Side, b: Side) -> Explanation:
    """Return what two runs or two conditions differ in, and which of it could explain the gap in score."""
    split = "test" if a.test and b.test else "validation"
    left, right = (a.test, b.test) if split == "test" else (a.validation, b.validation)
    if a.is_run:  # two runs are one pair, whatever their seeds
        left, right = dict(enumerate(left.values())), dict(enumerate(right.values()))
    gap = paired_difference(left, right)
    differences = ranked_differences(a, b)
    return Explanation(a, b, gap, split, differences, _verdict(a, b, gap, differences))


def ranked_differences(a: Side, b: Side) -> tuple[Difference, ...]:
    """Return every field that is unlike, those that can explain a gap first, the likeliest first among them."""
    found = [_difference(*fields, Effect.IDENTITY) for fields in _unlike_in_identity(a, b)]
    for field, left, right in _unlike(_recorded_fields(a), _recorded_fields(b)):
        effect = Effect.SOURCE if field.startswith(_SOURCES) else Effect.NONE
        found.append(_difference(field, left, right, effect))
    return tuple(sorted(found, key=lambda one: (not one.can_explain, _rank(one.field), one.field)))


def _unlike(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str]]:
    fields = dict.fromkeys([*a, *b])
    found = [(field, a.get(field, ABSENT), b.get(field, ABSENT)) for field in fields]
    return [(field, left, right) for field, left, right in found if left != right]


def _difference(field: str, a: str, b: str, effect: Effect) -> Difference:
    why = next(why for prefix, why in RANKING if field.startswith(prefix))
    return Difference(field, a, b, effect, why)


def _rank(field: str) -> tuple[int, int]:
    position = next(index for index, (prefix, _) in enumerate(RANKING) if field.startswith(prefix))
    package = field.removeprefix("packages.").lower()
    return position, _DECIDING_PACKAGES.index(package) if package in _DECIDING_PACKAGES else len(_DECIDING_PACKAGES)


def _unlike_in_identity(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """Return the unlike fields of the trials' identities; a default that one side leaves unsaid counts as its value."""
    (said_a, all_a), (said_b, all_b) = _identity_fields(a), _identity_fields(b)
    fields = said_a | said_b
    return _unlike(*({name: values[name] for name in fields if name in values} for values in (all_a, all_b)))


def _identity_fields(side: Side) -> tuple[dict[str, None], dict[str, str]]:
    """Return the names of the fields that make a trial's identity, and every field's value.

    Of a spec that another version of the suite wrote, all fields count.
    """
    values = dict(_flat({**side.spec, "method": {**side.spec.get("method", {}), "options": options_of(side.spec)}}))
    try:
        spec = TrialSpec.model_validate({"seed": 0, **side.spec})
        names, values = dict(_flat(hashed_fields(spec))), dict(_flat(spec.model_dump())) | values
    except ValidationError:
        names = values
    return {name: None for name in names if side.is_run or name != "seed"}, values


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for name, part in value.items() for pair in _flat(part, f"{prefix}.{name}" if prefix else name)]
    return [(prefix.replace("method.options.", "method."), str(value))]


def _recorded_fields(side: Side) -> dict[str, str]:
    """Return what the runs of a side recorded beside their spec, each field's distinct values joined."""
    values: dict[str, list[str]] = {}
    for result in side.results:
        facts = _provenance_fields(result.provenance) if result.provenance else []
        facts += [("loaded.num_test_images", str(result.test.num_images))] if result.test else []
        for field, value in facts:
            values.setdefault(field, []).append(value)
    return {field: ", ".join(sorted(set(found))) for field, found in values.items()}


def _provenance_fields(origin: Provenance) -> list[tuple[str, str]]:
    commit = f"{origin.git_commit or 'unknown'}{' with uncommitted changes' if origin.git_dirty else ''}"
    return [
        ("loaded.weights_sha256", origin.weights_sha256),
        ("loaded.split_sha256", origin.split_sha256),
        ("sources.sha256", origin.sources_sha256),
        *((f"packages.{name}", version) for name, version in origin.packages.items()),
        ("python", origin.python),
        ("device", origin.device),
        *_flat(origin.launch_plan, "launch"),
        ("git_commit", commit),
        ("host", origin.host),
        ("user", str(origin.user)),
    ]


def _verdict(a: Side, b: Side, gap: PairedDifference, differences: Sequence[Difference]) -> str:
    causes = [one for one in differences if one.can_explain and not _follows_the_seed(one, a)]
    told = f"{points(gap.mean)} points"
    if gap.mean is None:
        return f"There is no gap to explain: {_why_no_gap(a, b)}. {plural(len(causes), 'difference')} could cause one."
    if not causes:
        equal = "Nothing that may change a score differs"
        return (
            f"{equal}, and the scores are equal."
            if not gap.mean
            else f"{equal}, yet the gap is {told}: {_fault(differences)}."
        )
    if [one.field for one in causes] == ["seed"]:
        spread = f", which has a standard deviation of {points(a.seed_std)[1:]} points here" if a.seed_std else ""
        return f"Only the seed differs: the gap of {told} is the spread over seeds{spread}."
    if len(causes) == 1:
        return f"One difference could explain the gap of {told}: {causes[0].field}."
    first = listed([one.field for one in causes[:3]])
    more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
    return (
        f"{len(causes)} differences could explain the gap of {told}, the likeliest first: {first}{more}. Two results "
        "cannot tell them apart: change one at a time."
    )


def _follows_the_seed(difference: Difference, side: Side) -> bool:
    """Return whether a difference comes with the seed: random weights, and splits drawn by it."""
    if difference.field == "loaded.weights_sha256":
        return has_random_weights(side.spec)
    return difference.field == "loaded.split_sha256" and side.spec.get("dataset", {}).get("split") == "paper"


def _why_no_gap(a: Side, b: Side) -> str:
    without = [side.name for side in (a, b) if not (side.test or side.validation)]
    return f"{listed(without)} has no score" if without else "no seed has completed on both sides"


def _fault(differences: Sequence[Difference]) -> str:
    launch = [one.field for one in differences if one.field.startswith("launch.")]
    unlike = f" ({listed(launch)} differ)" if launch else ""
    return f"a fault, or rounding that a launch plan may bring about{unlike}; up to 0.2 % of predictions may change so"


def gap_text(explanation: Explanation) -> str:
    """Return the gap as a reader sees it."""
    gap = explanation.gap
    if gap.mean is None:
        return "no gap: a side has no score"
    interval = f", 95 % interval {points_interval(gap.interval)} over {gap.num_pairs} seeds" if gap.interval else ""
    return f"{explanation.split} top-1, a − b: {points(gap.mean)} points{interval}"


def as_document(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON values; scores are fractions."""
    gap = explanation.gap
    sides = {
        side: {
            "id": one.name,
            "label": one.label,
            "study": one.study,
            "run_ids": list(one.run_ids),
            "test_top1": one.test,
            "validation_top1": one.validation,
        }
        for side, one in (("a", explanation.a), ("b", explanation.b))
    }
    return {
        **sides,
        "split": explanation.split,
        "gap_mean": gap.mean,
        "interval_95": list(gap.interval) if gap.interval else None,
        "num_pairs": gap.num_pairs,
        "reason": gap.reason,
        "verdict": explanation.verdict,
        "differences": [
            {
                "field": one.field,
                "a": one.a,
                "b": one.b,
                "can_explain": one.can_explain,
                "effect": one.effect.value,
                "why": one.why,
            }
            for one in explanation.differences
        ],
    }
