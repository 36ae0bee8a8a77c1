"""What commands share: where results go, and how they speak: people on the terminal, programs in JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tuning.files import DEFAULT_OUTPUT, OUTPUT_VARIABLE

__all__ = [
    "DEFAULT_OUTPUT",
    "AsJson",
    "OutputDirectory",
    "Settings",
    "StudyArgument",
    "TrackingUri",
    "as_percent",
    "console",
    "errors",
    "print_json",
    "tracking_uri_or_default",
]

console = Console(highlight=False)
errors = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A shipped study's name or a YAML file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a field, such as training.epochs=3. Repeatable."),
]
OutputDirectory = Annotated[
    Path,
    typer.Option("--output", metavar="DIR", envvar=OUTPUT_VARIABLE, help="Where results are kept, and found again."),
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="The MLflow store. Default: sqlite in the output folder."),
]


def tracking_uri_or_default(tracking_uri: str | None, output: Path) -> str:
    """Return the tracking store that was asked for, or the one in the output folder."""
    from benchmark.tracking import default_tracking_uri

    return tracking_uri or default_tracking_uri(output)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    # At once: json.dump writes every bracket by itself, which for 10,000 trials takes longer than to read them.
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def as_percent(fraction: float | None) -> str:
    """Return a fraction as a percentage with one decimal, or a dash."""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"
