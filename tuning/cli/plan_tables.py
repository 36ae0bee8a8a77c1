"""How `adaptertune plan` shows its document to people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from tuning.cli.output import console

_SHARED = {
    "backbone": "backbone",
    "dataset": "data",
    "precision": "precision",
    "seeds": "seeds",
    "num_workers": "workers",
}
"""Fields that most studies hold constant, with their headings."""

_PARTS = {
    "weights": "weights",
    "activations": "activ.",
    "gradients": "grad.",
    "optimiser": "optim.",
    "temporary": "temp.",
    "communication": "comm.",
    "cache": "cache",
}
"""Parts of a worker's memory, with their headings."""


def show(document: dict[str, Any]) -> None:
    """Print what all conditions share once, then tables of what varies."""
    rows, device = document["conditions"], document["device"]
    varying = [field for field in _SHARED if any(row[field] != rows[0][field] for row in rows)]
    shared = [f"{_SHARED[field]} {_as_text(rows[0][field])}" for field in _SHARED if field not in varying]
    console.print("; ".join([f"{document['num_conditions']} conditions", *shared]), soft_wrap=True)
    console.print(_sizes(rows, varying))
    if device is not None:
        console.print(f"\nMemory of a worker on {device} at the peak of a training step, MB:")
        console.print(_memory(rows, device))
        console.print(f"\nEach trial on {device}:")
        console.print(_on_device(rows, device))
        console.print("\nThe whole study:")
        console.print(_devices(document["devices"]))
        _explain_devices(document)
    _explain_totals(document)


def _sizes(rows: list[dict[str, Any]], varying: list[str]) -> Table:
    table = _table(*(_SHARED[field] for field in varying), numbers=("trained", "GFLOP/image", "MB", "worker s"))
    for row in rows:
        table.add_row(
            row["condition"],
            *(_as_text(row[field]) for field in varying),
            f"{row['num_trainable_parameters']:,}",
            f"{row['training_flops_per_image'] / 1e9:.3f}",
            f"{row['memory_bytes'] / 1e6:.0f}",
            f"{row['worker_seconds']:.0f}",
        )
    return table


def _memory(rows: list[dict[str, Any]], device: str) -> Table:
    memories = [row["devices"][device]["memory"] for row in rows]
    parts = [part for part in _PARTS if any(memory[part] for memory in memories)]
    table = _table(numbers=(*(_PARTS[part] for part in parts), "all"))
    for row, memory in zip(rows, memories, strict=True):
        table.add_row(_name(row, rows), *(_megabytes(memory[part]) for part in parts), _megabytes(sum(memory.values())))
    return table


def _on_device(rows: list[dict[str, Any]], device: str) -> Table:
    table = _table(numbers=("micro-batch", "accumulation", "ZeRO", "hours", "USD"))
    for row in rows:
        planned = row["devices"][device]
        table.add_row(
            _name(row, rows) + ("" if planned["fits"] else " (does not fit)"),
            str(planned["micro_batch_images"]),
            str(planned["accumulation_steps"]),
            str(planned["zero_stage"]),
            f"{planned['hours_per_trial']:.2f}",
            f"{planned['usd_per_trial']:.2f}",
        )
    return table


def _devices(devices: list[dict[str, Any]]) -> Table:
    table = _table(first="device", numbers=("GB", "bf16 TFLOPS", "fp32", "USD/h", "fits", "GPU hours", "USD"))
    for one in devices:
        table.add_row(
            one["title"],
            f"{one['memory_bytes'] / 1e9:.0f}",
            f"{one['bf16_flops_per_second'] / 1e12:.0f}",
            f"{one['fp32_flops_per_second'] / 1e12:.0f}",
            f"{one['usd_per_hour']:.2f}",
            "yes" if one["fits"] else "no",
            f"{one['gpu_hours']:.1f}",
            f"{one['usd']:.2f}",
        )
    return table


def _explain_devices(document: dict[str, Any]) -> None:
    (chosen,) = [one for one in document["devices"] if one["name"] == document["device"]]
    stages = ", ".join(map(str, document["zero_stages"]))
    planned = [(row, row["devices"][document["device"]]) for row in document["conditions"]]
    console.print(
        f"{chosen['title']}: {chosen['source']}; price: {chosen['price_source']} (--price replaces it). "
        f"{chosen['usable_bytes'] / 1e9:.0f} GB of its memory are planned with. ZeRO stages to choose from: {stages}."
    )
    if any(one["accumulation_steps"] != row["accumulation_steps"] for row, one in planned):
        console.print(f"To run it so: --set resources.memory_bytes_per_worker={chosen['usable_bytes']}", soft_wrap=True)
    for row, one in planned:
        if not one["fits"]:
            name, size = _name(row, document["conditions"]), _megabytes(one["memory_bytes"])
            console.print(f"{name} does not fit: {size} MB a worker even so. Take a GPU with more memory.")


def _explain_totals(document: dict[str, Any]) -> None:
    to_come = document["num_trials_not_chosen_yet"]
    if to_come:
        known = f"{to_come} of {document['num_trials']} trials are known only when others have ended; the rest:"
        console.print(known)
    console.print(
        f"{document['num_trials'] - to_come} trials, roughly {document['worker_hours']:.2f} worker hours, assuming "
        f"{document['assumption']}."
    )


def _table(*others: str, first: str = "condition", numbers: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _name(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return a condition's name, with its backbone and data set where the study has several."""
    parts = [row[field] for field in ("backbone", "dataset") if any(one[field] != row[field] for one in rows)]
    return " · ".join([row["condition"], *parts])


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f}" if num_bytes >= 10**6 or num_bytes == 0 else f"{num_bytes / 1e6:.1f}"


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
