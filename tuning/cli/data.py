"""`adaptertune data`: lists data sets, downloads and checks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn

from tuning.cli.output import AsJson, console, errors, print_json

if TYPE_CHECKING:
    from benchmark.datasets.contract import Dataset

EXAMPLE = "Example: adaptertune data prepare cifar100"
LIST_EXAMPLE = "Example: adaptertune data list"
VERIFY_EXAMPLE = "Example: adaptertune data verify image_folder:path/to/images"

Names = Annotated[
    list[str], typer.Argument(metavar="NAME…", help="Data sets: public names, image_folder:PLACE, hf:NAME.")
]
Root = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Folder of one data set. Default: $ADAPTERTUNE_DATA/NAME."),
]

app = typer.Typer(help="List, download and check data sets.", no_args_is_help=True)


@app.command("list", epilog=LIST_EXAMPLE)
def list_datasets(as_json: AsJson = False) -> int:
    """List the data sets with counts, checksums, licences, and whether they are here."""
    from benchmark.datasets.contract import dataset_names, find_dataset
    from benchmark.datasets.storage.listing import as_row
    from benchmark.datasets.storage.prepare import has_files, place_of

    datasets = [find_dataset(name) for name in dataset_names()]
    rows = [{**as_row(dataset), "root": place_of(dataset), "has_files": has_files(dataset)} for dataset in datasets]
    if as_json:
        print_json({"datasets": rows})
        return 0
    for row in rows:
        counts = ", ".join(f"{split} {count:,}" for split, count in row["num_images"].items()) or "your data"
        state = "here" if row["has_files"] else "not here"
        console.print(f"{row['name']:27} {state:9} {counts}", soft_wrap=True)
    return 0


@app.command("prepare", epilog=EXAMPLE)
def prepare_datasets(names: Names, root: Root = None, as_json: AsJson = False) -> int:
    """Download, compare and unpack data sets. Run again, it goes on where it stopped."""
    from benchmark.datasets.storage.prepare import prepare

    prepared = []
    for dataset in _named(names, root):
        with _transfer_bar() as progress:
            prepared.append(prepare(dataset, progress))
        if not as_json:
            counts = ", ".join(f"{split} {count:,}" for split, count in prepared[-1]["num_images"].items())
            console.print(
                f"{prepared[-1]['name']}: {counts}; in {prepared[-1]['root'] or 'the package'}", soft_wrap=True
            )
    if as_json:
        print_json({"datasets": prepared})
    return 0


@app.command("verify", epilog=VERIFY_EXAMPLE)
def verify_datasets(names: Names, root: Root = None, as_json: AsJson = False) -> int:
    """Compare checksums, count and decode every image; list images that are in the test split and outside of it."""
    from benchmark.datasets.storage.prepare import verify

    results = []
    for dataset in _named(names, root):
        with _image_bar(dataset.info.name) as on_image:
            results.append(verify(dataset, on_image))
    if as_json:
        print_json({"datasets": [result.as_row() for result in results]})
    for result in results:
        _show(result, as_json)
    return 0 if all(result.is_sound for result in results) else 1


def _show(result: Any, as_json: bool) -> None:
    """Show a check's outcome: bad images always on stderr, the rest for people only."""
    for message in result.bad_images:
        errors.print(f"error: {message}", highlight=False, soft_wrap=True, markup=False)
    if as_json:
        return
    counts = ", ".join(f"{split} {count:,}" for split, count in result.num_images.items())
    console.print(
        f"{result.name}: {counts}; {result.num_decoded:,} decoded, {result.num_bad_images:,} bad", soft_wrap=True
    )
    if result.shared_images:
        console.print(f"warning: {len(result.shared_images):,} test images are also trained or selected on:")
    for outside, tested in result.shared_images:
        console.print(f"  {outside} = {tested}", soft_wrap=True)


def _named(names: list[str], root: Path | None) -> list[Dataset]:
    """Return the data sets of these names.

    Raises:
        RequestError: There is no such one, or one folder is given for several.
    """
    from benchmark.datasets.contract import find_dataset
    from benchmark.errors import RequestError

    if root is not None and len(names) > 1:
        raise RequestError("--root", str(root), "one folder cannot hold several data sets", "Name one data set.")
    return [find_dataset(name, "NAME", str(root) if root else None) for name in names]


@contextmanager
def _transfer_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show bytes of each file on stderr while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(name: str, here: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=here, total=total)

        yield show


@contextmanager
def _image_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show the images done on stderr while the block runs."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=errors, transient=True
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
