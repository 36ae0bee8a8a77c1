"""`adaptertune certify`: measures what a method must keep, and prints its certificate."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tuning.cli.output import AsJson, console, print_json

if TYPE_CHECKING:
    from benchmark.certificate import Certificate

EXAMPLE = "Example: adaptertune certify lora   (or: adaptertune certify --all --json)"

FAILED = 1

_MARKS = {"pass": "[green]pass[/]", "fail": "[red]FAIL[/]", "not_applicable": "–"}


def certify(
    methods: Annotated[list[str] | None, typer.Argument(metavar="METHOD…", help="The methods to examine.")] = None,
    all_methods: Annotated[bool, typer.Option("--all", help="Examine every method.")] = False,
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="B", help="The backbone to examine them on, with its own weights.")
    ] = "vit_nano",
    as_json: AsJson = False,
) -> int:
    """Examine methods: identity at the start, gradients, frozen bytes, counts, seeds, checkpoints, merging."""
    certificates = [certificate for name in _names(methods, all_methods) for certificate in _examined(name, backbone)]
    if as_json:
        print_json({"backbone": backbone, "certificates": [_as_json(certificate) for certificate in certificates]})
    else:
        for certificate in certificates:
            _show(certificate)
    return 0 if all(certificate.holds for certificate in certificates) else FAILED


def _names(methods: list[str] | None, all_methods: bool) -> tuple[str, ...]:
    from benchmark.errors import RequestError
    from benchmark.methods.contract import find_method, method_names

    if bool(methods) == all_methods:
        raise RequestError("METHOD", methods or None, "name methods, or ask for --all", EXAMPLE)
    return method_names() if all_methods else tuple(find_method(name, "METHOD").name for name in methods or ())


def _examined(name: str, backbone: str) -> list[Certificate]:
    """Return a certificate for each of the option sets that the method names."""
    import torch

    from benchmark.certificate import certify, registered_subject
    from benchmark.methods.contract import find_method

    torch.set_num_threads(1)
    method = find_method(name)
    return [certify(method, options, registered_subject(backbone)) for options in method.certified]


def _as_json(certificate: Certificate) -> dict[str, Any]:
    return {
        "method": certificate.method,
        "options": dict(certificate.options),
        "holds": certificate.holds,
        "items": [asdict(finding) for finding in certificate.findings],
    }


def _show(certificate: Certificate) -> None:
    written = [f"{name} {value}" for name, value in certificate.options.items() if value is not None]
    options = f" ({', '.join(written)})" if written else ""
    console.print(f"[bold]{certificate.method}[/]{options} on {certificate.backbone}", soft_wrap=True)
    table = Table("item", "verdict", "measured", box=None)
    for finding in certificate.findings:
        table.add_row(finding.item, _MARKS[finding.verdict], finding.measured)
    console.print(table)
