"""Guards that lists show whole names and the licences that restrict use."""

from __future__ import annotations

import pytest

from benchmark.backbones.contract import backbone_names
from tuning.cli.catalogue import list_members
from tuning.cli.output import console


def test_names_and_restrictions_are_whole_when_backbones_are_listed() -> None:
    with console.capture() as captured:
        list_members("backbones")
    text = captured.get()
    assert [name for name in backbone_names() if name not in text] == []
    assert "non-commercial use only" in text


def test_restriction_is_a_field_when_backbones_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    list_members("backbones", as_json=True)
    assert '"licence": "CC-BY-NC-4.0 (non-commercial)"' in capsys.readouterr().out
