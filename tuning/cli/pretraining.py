"""`adaptertune pretrain`: makes the bundled backbone's weights."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn

from tuning.cli.output import AsJson, console, errors, print_json

EXAMPLE = "Example: adaptertune pretrain vit_nano --output vit_nano.safetensors"


def pretrain(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, such as vit_nano.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the weights go (safetensors).")],
    as_json: AsJson = False,
) -> int:
    """Pretrain the small bundled backbone on generated images, with one thread, reproducibly."""
    from benchmark.folders import require_writable_file
    from benchmark.pretraining.pretrain import pretrain as run_recipe
    from benchmark.pretraining.pretrain import write_weights
    from benchmark.pretraining.recipe import load_recipe, recipe_path

    loaded = load_recipe(recipe_path(recipe))
    require_writable_file(output, "--output")
    started = time.monotonic()
    columns = (*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns, console=errors) as progress:
        task = progress.add_task(recipe, total=None, loss=float("nan"))

        def show(step: int, num_steps: int, loss: float) -> None:
            progress.update(task, completed=step, total=num_steps, loss=loss)

        weights = run_recipe(loaded, show)
    write_weights(weights, output, loaded)
    sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
    minutes = (time.monotonic() - started) / 60
    if as_json:
        print_json({"file": str(output), "sha256": sha256, "minutes": minutes})
    else:
        console.print(f"{output}: SHA-256 {sha256}, {minutes:.1f} min", soft_wrap=True)
    return 0
