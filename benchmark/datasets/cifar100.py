"""CIFAR-100: 32 x 32 photographs of a hundred kinds of things."""

from __future__ import annotations

from typing import Any

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.cifar import CifarDataset


class Cifar100(CifarDataset):
    """CIFAR-100 in its python version, with its fine labels."""

    info = DatasetInfo(
        name="cifar100",
        title="CIFAR-100",
        class_names=(),
        num_classes=100,
        licence="none stated by the publisher; cite Krizhevsky (2009)",
        source="Krizhevsky (2009), https://www.cs.toronto.edu/~kriz/cifar.html",
        flips_keep_labels=True,
        files=(
            SourceFile(
                "cifar-100-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "md5:eb9058c3a382ffc7106e4002c42a8d85",
                "torchvision.datasets.CIFAR100",
            ),
        ),
        published_images={"train": 50_000, "test": 10_000},
        counts_source="google-research/task_adaptation, cifar_test.py (trainval and test)",
        split_note="10 % of train held out by class, by the hash of each image's number",
    )

    def torchvision_class(self) -> Any:
        """Return torchvision's reader."""
        from torchvision.datasets import CIFAR100

        return CIFAR100


DATASET = Cifar100()
