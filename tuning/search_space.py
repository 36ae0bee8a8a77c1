"""What a search tries: choices and ranges of any field, and the settings drawn from them.

The draws of a field depend on (seed, field, number of the setting) alone, so methods that share a field try the same
values of it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from benchmark.documents import validated
from benchmark.errors import RequestError
from benchmark.spec import Frozen, Scalar

SHARED_PARTS = ("training", "protocol")
"""The parts of a study whose fields `search.space` may name; a method's own options are searched in its entry."""

_SIGNIFICANT_DIGITS = 4
MAX_REPEATED_DRAWS = 1000

DEFAULT_STARTUP, DEFAULT_AT_ONCE = 5, 4


class Range(Frozen):
    """Numbers from `low` to `high`; whole ones where both ends are."""

    low: int | float = Field(description="smallest value")
    high: int | float = Field(description="largest value")
    scale: Literal["linear", "log"] = Field(default="linear", description="on which the draws are uniform")

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be smaller than high {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a log scale needs low above 0, found {self.low}")
        return self

    def at(self, share: float) -> int | float:
        """Return the value at a share in [0, 1) of the way from low to high, with four significant digits."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return min(int(self._between(self.low, self.high + 1, share)), self.high)
        return self.rounded(self._between(self.low, self.high, share))

    def rounded(self, value: float) -> float:
        """Return a value with four significant digits, within the ends."""
        return min(max(float(f"{value:.{_SIGNIFICANT_DIGITS}g}"), float(self.low)), float(self.high))

    def share_of(self, value: float) -> float:
        """Return where a value lies, 0 at low and 1 at high."""
        if self.scale == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def _between(self, low: float, high: float, share: float) -> float:
        return low * (high / low) ** share if self.scale == "log" else low + (high - low) * share


Domain = Sequence[Scalar] | Range
"""The values that a field may take: choices, or a range."""


class EarlyStoppingSpec(Frozen):
    """Asynchronous successive halving (Li et al., 2020) among the settings of one method."""

    by: Literal["asha"] = "asha"
    grace_epochs: int = Field(default=1, ge=1, description="epochs that every trial is given")
    reduction_factor: float = Field(
        default=3.0, gt=1, description="at each rung, one in so many goes on; rungs are so many times further apart"
    )


class SearchSpec(Frozen):
    """How a search chooses what it tries. Every method gets equally many settings."""

    by: Literal["grid", "random", "tpe"] = Field(
        default="random",
        description="all combinations of the choices; settings drawn at random; Optuna's TPE, which chooses in rounds",
    )
    settings: int | None = Field(default=None, ge=1, description="settings tried for each method; grid: all there are")
    seed: int = Field(default=0, ge=0, description="of the draws")
    startup: int | None = Field(
        default=None, ge=1, description=f"tpe: settings drawn at random at first, {DEFAULT_STARTUP} where not given"
    )
    at_once: int | None = Field(
        default=None,
        ge=1,
        description=f"tpe: settings that are chosen together after that, {DEFAULT_AT_ONCE} where not given",
    )
    space: dict[str, list[Scalar] | Range] = Field(
        default_factory=dict,
        description="what every method searches, such as training.learning_rate: choices, or low, high and scale",
    )

    early_stopping: EarlyStoppingSpec | None = Field(
        default=None, description="gives up trials that fall behind; null: every trial runs to its end"
    )

    @field_validator("space")
    @classmethod
    def _fields_are_shared_ones(cls, space: dict[str, Any]) -> dict[str, Any]:
        for name in space:
            if name.partition(".")[0] not in SHARED_PARTS or not name.partition(".")[2]:
                raise ValueError(
                    f"{name!r}: name training.FIELD or protocol.FIELD; a method's own options are searched in its entry"
                )
        return space

    @model_validator(mode="after")
    def _settings_fit_the_way(self) -> SearchSpec:
        if self.by == "grid" and self.settings is not None:
            raise ValueError("a grid tries all combinations: leave settings out, or search by random")
        if self.by != "grid" and self.settings is None:
            raise ValueError(f"a search by {self.by} needs the number of settings that each method tries")
        if self.by != "tpe" and (self.startup or self.at_once):
            raise ValueError("only a search by tpe has startup and at_once")
        return self

    @property
    def num_startup(self) -> int:
        """How many of them are drawn at random before TPE begins."""
        return self.startup or DEFAULT_STARTUP

    @property
    def num_at_once(self) -> int:
        """How many of them are chosen together after that."""
        return self.at_once or DEFAULT_AT_ONCE


def axes_of(search: SearchSpec, entry: str | Mapping[str, Any], where: str) -> dict[str, Domain]:
    """Return what is searched for one entry of `method`, by `PART.FIELD`.

    A list in the entry is a choice, a mapping with low and high a range. A training field in the entry goes before the
    shared one.

    Raises:
        RequestError: A range is wrong, or a list empty.
    """
    own: dict[str, Domain] = {}
    for key, value in entry.items() if not isinstance(entry, str) else ():
        if isinstance(value, list) and key == "match":
            raise RequestError(f"{where}.match", value, "a search matches one budget", "Write one entry for each.")
        if isinstance(value, list) and key != "name":
            own[f"method.{key}"] = value
        elif isinstance(value, Mapping) and key != "match":
            own[f"method.{key}"] = validated(Range, dict(value), f"{where}.{key}")
    given = set() if isinstance(entry, str) else set(entry)
    shared = {name: domain for name, domain in search.space.items() if name.partition(".")[2] not in given}
    axes = shared | own
    for name, domain in axes.items():
        if not isinstance(domain, Range) and not domain:
            raise RequestError(f"{where}: {name}", [], "an empty list leaves nothing to try")
    return axes


def grid_settings(axes: Mapping[str, Domain], where: str) -> Iterator[dict[str, Scalar]]:
    """Yield all combinations of the choices."""
    for name, domain in axes.items():
        if isinstance(domain, Range):
            hint = "Give a list, or search by random."
            raise RequestError(f"{where}: {name}", domain.model_dump(), "a grid needs choices, not a range", hint)
    for combination in itertools.product(*(domain for domain in axes.values() if not isinstance(domain, Range))):
        yield dict(zip(axes, combination, strict=True))


def drawn_settings(search: SearchSpec, axes: Mapping[str, Domain], where: str) -> Iterator[dict[str, Scalar]]:
    """Yield different settings, as many as asked for; an entry without anything to search has its one."""
    wanted = search.settings if axes else 1
    assert wanted is not None
    seen: set[tuple[Scalar, ...]] = set()
    for number in range(wanted + MAX_REPEATED_DRAWS):
        if len(seen) == wanted:
            return
        values = {name: _drawn(search.seed, name, number, domain) for name, domain in axes.items()}
        if tuple(values.values()) not in seen:
            seen.add(tuple(values.values()))
            yield values
    if len(seen) < wanted:
        rule = f"there are only {len(seen)} different settings of {', '.join(axes)}"
        raise RequestError("search.settings", wanted, f"{where}: {rule}", f"Ask for {len(seen)}, or add values.")


def _drawn(seed: int, name: str, number: int, domain: Domain) -> Scalar:
    # The field without its part: `training.learning_rate` and an entry's own learning_rate draw alike.
    digest = hashlib.sha256(f"{seed}/search/{name.partition('.')[2]}/{number}".encode()).digest()
    share = int.from_bytes(digest[:7], "big") / 2**56
    return domain.at(share) if isinstance(domain, Range) else domain[int(share * len(domain))]
