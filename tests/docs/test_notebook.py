"""The tutorial's notebook runs from top to bottom, and shows what it is stored with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.docs
@pytest.mark.timeout(900)
def test_outputs_are_those_stored_when_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient", reason="the extra `docs` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `docs` is not installed")
    import nbformat

    from tests.docs.execute_notebook import NOTEBOOK, executed, shown

    monkeypatch.setenv("PYTHONPATH", "")  # put back what the execution changes
    stored = shown(nbformat.read(NOTEBOOK, as_version=4))
    assert sum(bool(outputs) for outputs in stored) >= 6
    assert shown(executed(tmp_path)) == stored
