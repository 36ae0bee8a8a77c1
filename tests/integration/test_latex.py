"""Compiles every table of a report with a real TeX, as an author would take it in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.tracking import StudyRecord
from reports.build import build_report
from tests.unit.reports.synthetic import completed, curves_of, full_study, make_spec, make_study, paper_study

pytestmark = [
    pytest.mark.tex,
    pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: install texlive-science"),
]

SPECIALS = r"a_b & 50% #1 {x} ~ ^ \ $y$ <z> [q] ± − × é"


def awkward_study() -> StudyRecord:
    options = {"rank": 4, "placement": SPECIALS}
    specs = [
        make_spec("lora", seed, f"back {SPECIALS}", name, **options) for name in (SPECIALS, "svhn") for seed in (0, 1)
    ]
    return make_study([completed(spec, 0.9 + spec["seed"] / 100, 0.9) for spec in specs], name="awkward")


def compile_tables(folder: Path) -> subprocess.CompletedProcess[str]:
    """Take every table of a report's folder into one document, with the packages that the tables ask for."""
    tables = sorted((folder / "tables").glob("*.tex"))
    needs = [line.removeprefix("% ") for line in tables[0].read_text().splitlines() if line.startswith("% \\")]
    body = [rf"\input{{tables/{table.stem}}}\clearpage" for table in tables]
    document = [r"\documentclass{article}", r"\usepackage[utf8]{inputenc}", r"\usepackage[T1]{fontenc}", *needs]
    text = "\n".join([*document, r"\begin{document}", *body, r"\end{document}", ""])
    (folder / "all.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)


@pytest.mark.parametrize(
    "study", [full_study(num_seeds=2), paper_study(), awkward_study()], ids=lambda study: study.name
)
def test_tables_compile_when_taken_in_as_they_are(study: StudyRecord, tmp_path: Path) -> None:
    build_report(study, curves_of(study), tmp_path)
    done = compile_tables(tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
