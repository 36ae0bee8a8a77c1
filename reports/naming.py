"""Names for readers: what a method, a placement, an option or a data set is called in tables and sentences.

Ids are elsewhere and never change; these words may.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from benchmark.spec import Scalar

METHOD_TITLES = {
    "adapter_plus": "Adapter+",
    "adaptertune": "AdapterTune",
    "adaptformer": "AdaptFormer",
    "apla": "APLA",
    "bitfit": "BitFit",
    "convpass": "Convpass",
    "ether": "ETHER",
    "ether_plus": "ETHER+",
    "fact_tk": "FacT-TK",
    "fact_tt": "FacT-TT",
    "flora": "FLoRA (Tucker)",
    "full_finetune": "Full fine-tuning",
    "head_only": "Head only",
    "houlsby": "Houlsby adapters",
    "hydra": "Hydra",
    "lda_head": "LDA head",
    "lora": "LoRA",
    "peft": "Hugging Face PEFT",
    "pfeiffer": "Pfeiffer adapters",
    "ssf": "SSF",
    "vpt_deep": "VPT-deep",
    "vpt_shallow": "VPT-shallow",
}
"""The shipped methods' own titles: a report is made without the methods' files, which need torch."""

DATASET_TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "oxford_iiit_pet": "Pets",
    "food101": "Food-101",
    "flowers102": "Flowers-102",
    "fgvc_aircraft": "Aircraft",
    "tiny_imagenet": "Tiny-ImageNet",
    "imagenet_r": "ImageNet-R",
}

LABEL_SEPARATOR = " · "
"""Between the parts of a condition's label."""

_DEPTHS = {"nano": 6, "tiny": 12, "small": 12, "base": 12, "large": 24, "huge": 32}

ASSUMED_OPTIONS: dict[str, Scalar] = {"placement": "all", "init": "zero"}
"""Goes without saying where a method's conditions in a study all have it."""

_ORDINALS = {1: "st", 2: "nd", 3: "rd"}


def method_title(name: str) -> str:
    """Return a method's title; that of a plug-in is its name."""
    return METHOD_TITLES.get(name, name)


def dataset_title(name: str) -> str:
    """Return a data set as a table's column names it."""
    bare = name.removeprefix("vtab_")
    return DATASET_TITLES.get(bare, bare.replace("_", " "))


def placement_title(placement: str) -> str:
    """Return a placement in words: `every:2` as "every 2nd block", `blocks:0,7-11` as "blocks 0, 7–11"."""
    if placement == "all":
        return "all blocks"
    if match := re.fullmatch(r"(first|last|every):(\d+)", placement):
        kind, number = match[1], int(match[2])
        if kind == "every":
            return f"every {_ordinal(number)} block"
        return f"{kind} block" if number == 1 else f"{kind} {number} blocks"
    if match := re.fullmatch(r"blocks:([\d,-]+)", placement):
        listed = match[1].replace(",", ", ").replace("-", "–")
        return f"block {listed}" if match[1].isdigit() else f"blocks {listed}"
    return f"placement {placement}"


def num_blocks(backbone: str) -> int | None:
    """Return a Vision Transformer's number of blocks by the size in its name; none where the name says no size."""
    match = re.match(r"(?:vit|deit)_([a-z]+)(?:_|$)", backbone)
    return _DEPTHS.get(match[1]) if match else None


def _ordinal(number: int) -> str:
    teen = 10 <= number % 100 <= 20
    return f"{number}{'th' if teen else _ORDINALS.get(number % 10, 'th')}"


def label_of(method: str, options: Mapping[str, Scalar], told: Collection[str], others: Mapping[str, Scalar]) -> str:
    """Return a condition's label, such as "AdapterTune r16 · last 4 blocks · zero init".

    Args:
        method: The method's public name.
        options: Its options.
        told: Which of `ASSUMED_OPTIONS` must be said, since the study varies them.
        others: Further fields that tell the condition apart, by name.
    """
    head, rank = method_title(method), options.get("rank")
    parts = [head if rank is None else f"{head} r{rank}"]
    placement, init = options.get("placement"), options.get("init")
    if _is_said("placement", placement, told):
        parts.append(placement_title(str(placement)))
    if _is_said("init", init, told):
        parts.append(f"{init} init")
    return LABEL_SEPARATOR.join(
        [*parts, *(f"{name.replace('_', ' ')} {_written(value)}" for name, value in others.items())]
    )


def _is_said(name: str, value: Scalar, told: Collection[str]) -> bool:
    return value is not None and (name in told or value != ASSUMED_OPTIONS[name])


def _written(value: Scalar) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
