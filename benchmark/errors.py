"""The errors a user can meet: each says where, what was found, what is allowed, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request.

    Attributes:
        where: The field's path or the file, such as `method[1].rank`.
        found: The value received.
        rule: What is allowed there.
        hint: The next step, such as the nearest valid name; empty when there is none.
    """

    where: str
    found: object
    rule: str
    hint: str = ""

    def __str__(self) -> str:
        """Return the problem as one line."""
        found = "" if self.found is None else f" found {self.found!r};"
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.where}:{found} {self.rule}.{hint}"

    def below(self, prefix: str) -> Problem:
        """Return the same problem with `prefix` put before its path."""
        separator = "." if prefix and self.where and not self.where.startswith("[") else ""
        return Problem(f"{prefix}{separator}{self.where}", self.found, self.rule, self.hint)


class AdapterTuneError(Exception):
    """The parent of every error a user can meet; `exit_status` is the command line's."""

    exit_status = 1


class RequestError(AdapterTuneError):
    """The request itself is wrong: a file, a key or a value."""

    exit_status = 2

    def __init__(self, where: str, found: object, rule: str, hint: str = "") -> None:
        """Refuse a request for one reason; the arguments are those of `Problem`."""
        self.problems: tuple[Problem, ...] = (Problem(where, found, rule, hint),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> RequestError:
        """Refuse a request for several reasons at once, so that a user mends them in one go."""
        error = cls(problems[0].where, problems[0].found, problems[0].rule, problems[0].hint)
        error.problems = tuple(problems)
        error.args = ("\n".join(str(problem) for problem in problems),)
        return error


class MissingError(AdapterTuneError):
    """Something the request needs is not here: weights, data, a device, a server."""

    exit_status = 3


class TrialError(AdapterTuneError):
    """A trial cannot go on; the launch layer stores it with its reason and the study continues."""


class DivergedError(TrialError):
    """The loss is no longer a finite number."""


class SealedTestError(AdapterTuneError):
    """A search tried to open a test split."""


class SourceMismatchError(AdapterTuneError):
    """A worker runs other sources than the driver."""

    exit_status = 3


def nearest(name: str, valid_names: Iterable[str]) -> str:
    """Return a hint that names the nearest valid names, or all of them when none is near."""
    valid = sorted(valid_names)
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
    if near:
        return "Did you mean " + " or ".join(repr(match) for match in near) + "?"
    return "Valid: " + ", ".join(valid) + "." if valid else ""
