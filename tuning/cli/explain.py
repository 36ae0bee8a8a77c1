"""`adaptertune explain`: why two results differ, the likeliest cause first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from benchmark.errors import RequestError
from tuning.cli.output import (
    DEFAULT_OUTPUT,
    AsJson,
    OutputDirectory,
    TrackingUri,
    console,
    print_json,
    tracking_uri_or_default,
)

if TYPE_CHECKING:
    from benchmark.tracking import StudyRecord
    from reports.explain import Difference, Explanation

EXAMPLE = "Example: adaptertune explain 0123456789abcdef fedcba9876543210 --study demo"

LONGEST_VALUE = 40

_Id = "An MLflow run id, a trial id, or a condition's id as reports give it; a unique beginning will do."


def explain(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help=_Id)],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The same, for what it is compared with.")],
    study: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Look in this study alone; else in every tracked one.")
    ] = None,
    output: OutputDirectory = DEFAULT_OUTPUT,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> int:
    """Say what two runs, or two conditions, differ in, and which of it could explain the gap in score."""
    from reports.explain import as_document
    from reports.explain import explain as explain_sides
    from reports.sides import find_sides

    studies = _studies(tracking_uri_or_default(tracking_uri, output), study)
    explanation = explain_sides(*find_sides((run_a, run_b), studies))
    if as_json:
        print_json(as_document(explanation))
    else:
        _show(explanation)
    return 0


def _studies(uri: str, study: str | None) -> list[StudyRecord]:
    """Return the studies to look in.

    Raises:
        RequestError: The store has no such study, or none at all.
    """
    from benchmark.tracking import list_studies, read_study, without_password

    names = [study] if study else list_studies(uri)
    if not names:
        rule = "no study is tracked there"
        raise RequestError("tracking-uri", without_password(uri), rule, "Name the folder with --output.")
    return [read_study(uri, name) for name in names]


def _show(explanation: Explanation) -> None:
    from reports.explain import gap_text

    for letter, side in (("a", explanation.a), ("b", explanation.b)):
        console.print(f"{letter}: {side.label} ({side.study})", markup=False, soft_wrap=True)
    console.print(gap_text(explanation), soft_wrap=True, markup=False)
    console.print(explanation.verdict, soft_wrap=True, markup=False)
    causes = [one for one in explanation.differences if one.can_explain]
    rest = [one for one in explanation.differences if not one.can_explain]
    for title, found in (("Could explain a gap, the likeliest first", causes), ("Must not change a score", rest)):
        if found:
            console.print(f"\n{title}:")
            console.print(_table(found))


def _table(differences: list[Difference]) -> Table:
    from rich.markup import escape

    table = Table("field", "a", "b", "in the trial id", "how", box=None)
    for one in differences:
        in_id = "yes" if one.effect.name == "IDENTITY" else "no"
        table.add_row(*(escape(text) for text in (one.field, _short(one.a), _short(one.b), in_id, one.why)))
    return table


def _short(value: str) -> str:
    """Return a value cut to a column's width; checksums differ in their first characters already."""
    return value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 1]}…"
