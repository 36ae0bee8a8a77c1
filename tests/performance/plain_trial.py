"""Arm (a) of the benchmark: one trial as the reference protocol's script runs it, in a process of its own.

    python -m tests.performance.plain_trial WORK.json TRIAL_INDEX

fp32, images read by PIL in a `DataLoader` with two workers, each epoch anew. Prints its seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

_STARTED = time.perf_counter()

import torch  # noqa: E402 -- its import is part of what is measured
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

from tests.performance.plain_model import build, optimizer_of, step  # noqa: E402


def loader(folder: Path, work: dict[str, Any], training: bool) -> DataLoader:
    size, mode = work["shape"]["img_size"], transforms.InterpolationMode.BICUBIC
    flips = [transforms.RandomHorizontalFlip()] if training and work["flip"] else []
    shown = [transforms.Resize((size, size), mode), *flips, transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
    images = ImageFolder(str(folder), transforms.Compose(shown))
    num_workers = work.get("num_loaders", 2)
    return DataLoader(images, work["batch_images"], shuffle=training, num_workers=num_workers, drop_last=training)


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    trial = work["trials"][int(sys.argv[2])]
    torch.manual_seed(trial["seed"])
    torch.set_num_threads(work["num_threads"])
    images = Path(work["images"])
    train, validation = loader(images / "train", work, True), loader(images / "val", work, False)
    model = build(work["shape"], Path(work["weights"]), work["num_classes"], trial["rank"], trial["adapted"])
    optimizer = optimizer_of(model)
    num_steps, done, train_seconds, evaluation_seconds = work["epochs"] * len(train), 0, 0.0, 0.0
    start_seconds = time.perf_counter() - _STARTED
    for _ in range(work["epochs"]):
        started = time.perf_counter()
        model.train()
        for pixels, labels in train:
            step(model, optimizer, pixels, labels, done / num_steps)
            done += 1
        train_seconds += time.perf_counter() - started
        started = time.perf_counter()
        model.eval()
        with torch.no_grad():
            correct = sum(int((model(pixels).argmax(1) == labels).sum()) for pixels, labels in validation)
        evaluation_seconds += time.perf_counter() - started
    top1 = correct / len(validation.dataset)  # type: ignore[arg-type]
    seconds = {"start": start_seconds, "train": train_seconds, "evaluation": evaluation_seconds}
    sys.stdout.write(json.dumps({**seconds, "top1": top1}))


if __name__ == "__main__":
    main()
