"""Arm (b) of the benchmark: all trials in one process, by a loop that a careful person would write.

    python -m tests.performance.tuned_loop WORK.json

Images are decoded once into memory, batches are made on tensors, and bf16 autocast is on where `precision` says so.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

_STARTED = time.perf_counter()

import numpy as np  # noqa: E402 -- the imports are part of what is measured
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from tests.performance.plain_model import build, optimizer_of, step  # noqa: E402


def decoded(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """Return all images of a folder, [N, 3, size, size] in uint8, with their classes [N]."""
    samples = ImageFolder(str(folder)).samples
    shown = [Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC) for path, _ in samples]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in shown])).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor([label for _, label in samples])


def normalised(pixels: Tensor) -> Tensor:
    return pixels.float().div_(127.5).sub_(1.0)


def run(trial: dict[str, Any], work: dict[str, Any], train: Any, validation: Any) -> dict[str, float]:
    started = time.perf_counter()
    torch.manual_seed(trial["seed"])
    model = build(work["shape"], Path(work["weights"]), work["num_classes"], trial["rank"], trial["adapted"])
    optimizer = optimizer_of(model)
    seconds = {"start": time.perf_counter() - started, "train": 0.0, "evaluation": 0.0}
    batch, autocast = work["batch_images"], torch.autocast("cpu", torch.bfloat16, enabled=work["precision"] == "bf16")
    num_steps, done = work["epochs"] * (len(train[0]) // batch), 0
    for _ in range(work["epochs"]):
        started = time.perf_counter()
        model.train()
        for rows in torch.randperm(len(train[0])).split(batch)[: len(train[0]) // batch]:
            pixels = normalised(train[0][rows])
            if work["flip"]:
                mirrored = torch.rand(len(rows)) < 0.5
                pixels[mirrored] = pixels[mirrored].flip(-1)
            with autocast:
                step(model, optimizer, pixels, train[1][rows], done / num_steps)
            done += 1
        seconds["train"] += time.perf_counter() - started
        started = time.perf_counter()
        model.eval()
        with torch.no_grad(), autocast:
            parts = zip(validation[0].split(batch), validation[1].split(batch), strict=True)
            correct = sum(int((model(normalised(pixels)).argmax(1) == labels).sum()) for pixels, labels in parts)
        seconds["evaluation"] += time.perf_counter() - started
    return {**seconds, "top1": correct / len(validation[0])}


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(work["num_threads"])
    size = work["shape"]["img_size"]
    train, validation = (decoded(Path(work["images"]) / split, size) for split in ("train", "val"))
    start_seconds = time.perf_counter() - _STARTED
    results = [run(trial, work, train, validation) for trial in work["trials"]]
    total = {key: sum(result[key] for result in results) for key in ("start", "train", "evaluation")}
    top1 = sum(result["top1"] for result in results) / len(results)
    sys.stdout.write(json.dumps({**total, "start": total["start"] + start_seconds, "top1": top1}))


if __name__ == "__main__":
    main()
