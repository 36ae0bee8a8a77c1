"""Guards the report against names from a store that others write to: quotes, markup, line ends, paths."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmark.tracking import TrackedTrial
from reports.build import build_report
from tests.unit.reports.synthetic import completed, curves_of, make_spec, make_study

AWKWARD = [
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script><script>alert(1)</script>",
    "../../../outside",
    "two\nlines\r\n| and | cells |",
    "javascript:alert(1)",
]


class Harms(HTMLParser):
    """Collects what a page must not hold: images and scripts of others, handlers, links that run code."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.num_scripts = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.num_scripts += tag == "script"
        for name, value in attributes:
            is_remote = name == "src" and not (value or "").startswith("data:")
            is_code = name == "href" and (value or "").lower().startswith("javascript:")
            if name.startswith("on") or is_remote or is_code:
                self.found.append(f"<{tag} {name}={value}>")


def awkward_trial(name: str, method: str, seed: int, top1: float) -> TrackedTrial:
    spec = make_spec(method, seed, f"back{name}", f"data{name}", rank=4, placement=name, init=name)
    trial = completed(spec, top1, top1)
    result = trial.result
    assert result.provenance is not None
    who = {"host": name, "user": name, "device": name, "git_commit": name, "packages": {name: name}}
    provenance = result.provenance.model_copy(update=who)
    changed = {"provenance": provenance, "class_names": [name, "b"], "confusion": [[3, 1], [0, 4]]}
    return dataclasses.replace(trial, run_id=f"run{name}{seed}", result=result.model_copy(update=changed))


@pytest.mark.parametrize("name", AWKWARD)
def test_report_is_harmless_and_stays_in_its_folder_when_names_are_awkward(name: str, tmp_path: Path) -> None:
    trials = [
        awkward_trial(name, method, seed, 0.9 + seed / 100) for seed in range(2) for method in (f"a{name}", "head_only")
    ]
    study = make_study(trials, name=f"study{name}", tracking_uri="https://host/mlflow")
    before = set(tmp_path.parent.iterdir())
    report = build_report(study, curves_of(study), tmp_path / "report")
    harms = Harms(report.index.read_text())
    assert harms.found == []
    assert harms.num_scripts == 2, "the suite's own: the runs' ids as JSON, and the program"
    assert set(tmp_path.parent.iterdir()) == before
    written = [path for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert all(path.name.isprintable() and not set(path.name) & set("<>'\"\\|") for path in written)


@pytest.mark.parametrize("name", AWKWARD)
def test_markdown_tables_keep_their_columns_when_names_are_awkward(name: str, tmp_path: Path) -> None:
    trials = [awkward_trial(name, f"a{name}", seed, 0.9 + seed / 100) for seed in range(2)]
    study = make_study(trials, name=f"study{name}")
    build_report(study, curves_of(study), tmp_path)
    for table in (tmp_path / "tables").glob("*.md"):
        rows = [line.replace("\\|", "") for line in table.read_text().splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, table.name
