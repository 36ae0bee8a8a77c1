"""Guards `adaptertune certify`: one verdict an item, and exit statuses."""

from __future__ import annotations

import json

import pytest

from tuning.cli.app import run


def test_certificate_is_one_document_when_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certify", "bitfit", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (certificate,) = document["certificates"]
    assert (document["backbone"], certificate["method"], certificate["holds"]) == ("vit_nano", "bitfit", True)
    verdicts = {item["item"]: item["verdict"] for item in certificate["items"]}
    assert set(verdicts.values()) == {"pass"}
    assert len(verdicts) == 8


@pytest.mark.parametrize("arguments", [[], ["bitfit", "--all"], ["bitfti"], ["bitfit", "--backbone", "vit_nan"]])
def test_request_is_refused_when_it_names_nothing_to_examine(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["certify", *arguments]) == 2
    assert "error" in capsys.readouterr().err
