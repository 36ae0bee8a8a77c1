"""The examples in the docstrings of the public API hold when they are run as printed, each in a folder of its own."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from tuning import api

EXAMPLES = [test for test in doctest.DocTestFinder().find(api, extraglobs={}) if test.examples]
OWN = [test for test in EXAMPLES if test.name.startswith("tuning.api.")]


@pytest.mark.docs
@pytest.mark.parametrize("example", OWN, ids=lambda example: example.name)
def test_example_holds_when_run(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAPTERTUNE_OUTPUT", raising=False)
    said: list[str] = []
    outcome = doctest.DocTestRunner().run(example, out=said.append)
    assert (outcome.failed, outcome.attempted > 2) == (0, True), "".join(said)


def test_public_functions_have_examples() -> None:
    assert {test.name.rpartition(".")[2] for test in OWN} >= {"run_study", "load_results"}
