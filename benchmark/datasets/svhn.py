"""SVHN: digits cropped from photographs of house numbers, 32 x 32 pixels."""

from __future__ import annotations

import numpy as np

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.items import ArrayItems, StoredItems
from benchmark.datasets.reading.public import PublicDataset, numbered

_URL = "http://ufldl.stanford.edu/housenumbers/"


class Svhn(PublicDataset):
    """SVHN in format 2, without the `extra` part."""

    info = DatasetInfo(
        name="svhn",
        title="Street View House Numbers, cropped digits",
        class_names=tuple(str(digit) for digit in range(10)),
        licence="non-commercial use only, says the publisher; cite Netzer et al. (2011)",
        source="Netzer et al. (2011), http://ufldl.stanford.edu/housenumbers/",
        flips_keep_labels=False,
        files=(
            SourceFile(
                "train_32x32.mat",
                f"{_URL}train_32x32.mat",
                "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
                "torchvision.datasets.SVHN",
            ),
            SourceFile(
                "test_32x32.mat",
                f"{_URL}test_32x32.mat",
                "md5:eb5a983be6a315427106f1b164d9cef3",
                "torchvision.datasets.SVHN",
            ),
        ),
        published_images={"train": 73_257, "test": 26_032},
        counts_source="google-research/task_adaptation, svhn_test.py (trainval and test)",
        split_note="10 % of train held out by class, by the hash of each image's number",
    )

    def read_published(self) -> dict[str, StoredItems]:
        """Return `train` and `test`."""
        return {part: self._part(part) for part in ("train", "test")}

    def _part(self, part: str) -> StoredItems:
        from torchvision.datasets import SVHN

        # `data prepare` compared the checksums; torchvision would again at every start.
        reader = type("SVHN", (SVHN,), {"_check_integrity": lambda _: True})
        images = reader(self.root, split=part)
        pixels = np.ascontiguousarray(images.data.transpose(0, 2, 3, 1))
        return ArrayItems(numbered(part, len(pixels)), images.labels.astype(np.int64), "", pixels)


DATASET = Svhn()
