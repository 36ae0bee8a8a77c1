"""`adaptertune cache`: what the caches hold, and making room in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tuning.cli.output import AsJson, console, print_json

if TYPE_CHECKING:
    from benchmark.cache_folder import CachedEntry

LIST_EXAMPLE = "Example: adaptertune cache list"
PRUNE_EXAMPLE = "Example: adaptertune cache prune --max-gb 20   (everything: --max-gb 0)"

cache = typer.Typer(help="List or prune what was computed once and kept: decoded images.", no_args_is_help=True)


@cache.command("list", epilog=LIST_EXAMPLE)
def list_cache(as_json: AsJson = False) -> int:
    """List the caches' entries, the one used longest ago first, and the size cap."""
    from benchmark.cache_folder import cache_root, cap_bytes, list_entries

    rows = [_row(entry) for entry in list_entries()]
    total, cap = sum(row["num_bytes"] for row in rows), cap_bytes()
    if as_json:
        print_json({"root": str(cache_root()), "num_bytes": total, "cap_bytes": cap, "entries": rows})
        return 0
    if rows:
        console.print(_table(rows))
    console.print(f"{_as_gb(total)} of at most {_as_gb(cap)} in {cache_root()}", soft_wrap=True)
    return 0


@cache.command("prune", epilog=PRUNE_EXAMPLE)
def prune_cache(
    max_gb: Annotated[
        float | None,
        typer.Option("--max-gb", metavar="GB", help="Keep at most this much. Default: the size cap."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Remove the entries used longest ago until the rest fit, and what killed processes left; spare those in use."""
    from benchmark.cache_folder import BYTES_PER_GB, cache_root, cap_bytes, prune
    from benchmark.errors import RequestError

    if max_gb is not None and not 0 <= max_gb < float("inf"):
        raise RequestError("--max-gb", max_gb, "must be a size in GB, a number from 0", "For example: 50.")
    pruned = prune(cap_bytes() if max_gb is None else int(max_gb * BYTES_PER_GB))
    removed, in_use = ([_row(entry) for entry in entries] for entries in (pruned.removed, pruned.in_use))
    if as_json:
        document = {"removed": removed, "in_use": in_use, "num_bytes": pruned.num_bytes}
        print_json({"root": str(cache_root()), **document})
        return 0
    freed = _as_gb(sum(row["num_bytes"] for row in removed))
    kept = f"; {len(in_use)} kept because they are in use" if in_use else ""
    console.print(f"removed {len(removed)} entries, {freed}{kept}; {_as_gb(pruned.num_bytes)} remain in {cache_root()}")
    return 0


def _row(entry: CachedEntry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "key": entry.key,
        "name": entry.description.get("name", ""),
        "num_bytes": entry.num_bytes,
        "used_at": datetime.fromtimestamp(entry.used_at, UTC).isoformat(timespec="seconds"),
        "description": entry.description,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("kind", "name", "key", "size", "last used", box=None)
    for row in rows:
        table.add_row(row["kind"], row["name"], row["key"][:12], _as_gb(row["num_bytes"]), row["used_at"])
    return table


def _as_gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
