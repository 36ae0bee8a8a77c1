"""What trials read that must be on the machine before they start: the files of their data sets and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.backbones.contract import find_backbone
from benchmark.datasets.contract import open_dataset
from benchmark.errors import AdapterTuneError
from benchmark.spec import BackboneSpec, DatasetSpec, TrialSpec


def missing_files(specs: Sequence[TrialSpec]) -> list[str]:
    """Return what is not on this machine of what trials read, with what to do; files are looked for, not read."""
    datasets = {spec.dataset.name + str(spec.dataset.root): spec.dataset for spec in specs}
    backbones = {spec.backbone.name + str(spec.backbone.weights_file): spec.backbone for spec in specs}
    found = [*map(_missing_images, datasets.values()), *map(_missing_weights, backbones.values())]
    return [missing for missing in found if missing]


def _missing_images(spec: DatasetSpec) -> str:
    from benchmark.datasets.storage.prepare import has_files

    if spec.name.startswith("hf:"):  # the library that reads it keeps a cache of its own
        return ""
    try:
        is_here = has_files(open_dataset(spec))
    except AdapterTuneError as error:
        return str(error)
    return "" if is_here else f"images of {spec.name}: adaptertune data prepare {spec.name}"


def _missing_weights(spec: BackboneSpec) -> str:
    from benchmark.backbones.parts.timm_family import is_cached

    if spec.weights == "file" and not Path(spec.weights_file or "").is_file():
        return f"weights of {spec.name}: copy {spec.weights_file} there"
    if spec.weights != "pretrained" or is_cached(find_backbone(spec.name).name):
        return ""
    fill = f'python -c "import timm; timm.create_model({spec.name!r}, pretrained=True)"'
    return f"weights of {spec.name}: {fill}, or copy the folder $HF_HOME of a machine that has them"
