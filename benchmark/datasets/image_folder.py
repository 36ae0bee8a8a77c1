"""A user's own images: a folder `train/CLASS/IMAGE`, `[val/...]`, `test/...`, or an uncompressed tar of it."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.contract import DatasetInfo
from benchmark.datasets.reading.folders import read_tree
from benchmark.datasets.reading.local import LocalDataset, LocalParts


class ImageFolder(LocalDataset):
    """Images in folders of classes; an image's identity is its path below the folder that holds `train`."""

    def read_parts(self) -> LocalParts:
        """Find and hash the images of the folder or tar.

        Raises:
            MissingError: There is no such folder or tar.
            RequestError: A split is missing, a class is empty, classes differ, or the tar is refused.
        """
        tree = read_tree(Path(str(self.place)))
        contents = {image.identity: image.content_sha256 for images in tree.images.values() for image in images}
        return LocalParts(tree.class_names, {split: tree.items(split) for split in tree.images}, contents)


DATASET = ImageFolder(
    DatasetInfo(
        name="image_folder",
        title="Your own images in folders of classes, or a tar of them",
        class_names=(),
        licence="as the images'",
        source="named by you: image_folder:DIR or image_folder:FILE.tar",
        flips_keep_labels=None,
        split_note="val/ where there is one, else 10 % of train by class, by the hash of each image's path",
    )
)
