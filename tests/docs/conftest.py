"""Lists, at the end, the documentation's blocks that are not run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

LEFT_OUT = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture
def note_left_out(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return what adds a block and its reason to the list that is printed at the end."""
    rows = request.config.stash.setdefault(LEFT_OUT, [])
    return lambda place, reason: rows.append((place, reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the list."""
    rows = config.stash.get(LEFT_OUT, [])
    if rows:
        terminalreporter.write_line(f"{len(rows)} blocks of the documentation are not run:")
    for place, reason in rows:
        terminalreporter.write_line(f"  {place:40} {reason}")
