"""The PEFT types that the bridge offers: their options by PEFT's own names, PEFT's defaults, and their counts.

Written out here, so that a study is expanded without importing PEFT and a trial's record is complete whatever version
is installed; a test compares names and defaults with the installed PEFT's.

Left out are the types and options that would break a promise of every trial: dropouts (drawn from the global random
state), biases freed beside the adapter, BOFT (compiles a CUDA extension when attached), IA3 (rescales keys and values,
which timm fuses with the queries), and prompt types (they belong to language models).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Options = Mapping[str, Any]

LINEARS = ("qkv", "proj", "fc1", "fc2")
NORMS = ("norm1", "norm2")


@dataclass(frozen=True)
class PeftType:
    """One PEFT type.

    Attributes:
        title: Name for people.
        source: The paper.
        defaults: Its options and their defaults.
        count: Parameters of one changed module, given options, inputs and outputs.
        modules: Which timm modules it can sit at.
        is_identity: Whether it starts at the pretrained function bit for bit.
    """

    title: str
    source: str
    defaults: Options
    count: Callable[[Options, int, int], int]
    modules: tuple[str, ...] = LINEARS
    is_identity: Callable[[Options], bool] = lambda options: True


def _count_lora(options: Options, inputs: int, outputs: int) -> int:
    return options["r"] * (inputs + outputs) + (outputs if options["use_dora"] else 0)


def _count_oft(options: Options, inputs: int, outputs: int) -> int:
    size = options["oft_block_size"]
    return inputs // size * (size * (size - 1) // 2)


def _count_lokr(options: Options, inputs: int, outputs: int) -> int:
    (out_small, out_large), (in_small, in_large) = (
        near_factors(n, options["decompose_factor"]) for n in (outputs, inputs)
    )
    rank = options["r"]
    is_first_split = options["decompose_both"] and rank < max(out_small, in_small) / 2
    first = rank * (out_small + in_small) if is_first_split else out_small * in_small
    is_second_split = rank < max(out_large, in_large) / 2
    return first + (rank * (out_large + in_large) if is_second_split else out_large * in_large)


def _count_randlora(options: Options, inputs: int, outputs: int) -> int:
    smaller = min(inputs, outputs)
    num_bases = -(-smaller // options["r"])
    return options["r"] * num_bases + num_bases * smaller


def near_factors(number: int, factor: int) -> tuple[int, int]:
    """Return two factors of a number, the smaller first, as LoKr splits a dimension.

    Args:
        number: What is split.
        factor: The wanted smaller factor, taken where it divides the number; else the largest divisor that does not
            exceed it; -1: the two nearest to the square root.
    """
    if factor > 0 and number % factor == 0:
        return factor, number // factor
    bound = number if factor == -1 else factor
    smaller = max(n for n in range(1, int(number**0.5) + 1) if number % n == 0 and n <= max(bound, 1))
    return smaller, number // smaller


PEFT_TYPES: Mapping[str, PeftType] = {
    "LORA": PeftType(
        "LoRA, and DoRA, PiSSA, OLoRA, EVA by its options",
        "arXiv 2106.09685; use_dora: 2402.09353; pissa: 2404.02948; olora: 2406.01775; eva: 2410.07170",
        {"r": 8, "lora_alpha": 8, "use_rslora": False, "use_dora": False, "init_lora_weights": True},
        _count_lora,
        is_identity=lambda options: options["init_lora_weights"] not in ("pissa", "olora"),
    ),
    "MISS": PeftType(
        "MiSS, and Bone by init_weights bat",
        "arXiv 2409.15371",
        {"r": 64, "init_weights": True},
        lambda options, inputs, outputs: options["r"] * outputs,
    ),
    "OFT": PeftType(
        "OFT",
        "arXiv 2306.07280",
        {"oft_block_size": 32, "use_cayley_neumann": True, "num_cayley_neumann_terms": 5},
        _count_oft,
    ),
    "LOHA": PeftType(
        "LoHa",
        "arXiv 2108.06098",
        {"r": 8, "alpha": 8},
        lambda options, inputs, outputs: 2 * options["r"] * (inputs + outputs),
    ),
    "LOKR": PeftType(
        "LoKr",
        "arXiv 2309.14859",
        {"r": 8, "alpha": 8, "decompose_both": False, "decompose_factor": -1},
        _count_lokr,
    ),
    "VERA": PeftType(
        "VeRA",
        "arXiv 2310.11454",
        {"r": 256, "projection_prng_key": 0, "d_initial": 0.1},
        lambda options, inputs, outputs: options["r"] + outputs,
    ),
    "RANDLORA": PeftType(
        "RandLoRA",
        "arXiv 2502.00987",
        {"r": 32, "randlora_alpha": 640, "projection_prng_key": 0},
        _count_randlora,
    ),
    "FOURIERFT": PeftType(
        "FourierFT",
        "arXiv 2405.03003",
        {"n_frequency": 1000, "scaling": 150.0, "random_loc_seed": 777, "init_weights": False},
        lambda options, inputs, outputs: options["n_frequency"],
        is_identity=lambda options: options["init_weights"],
    ),
    "HRA": PeftType(
        "HRA",
        "arXiv 2405.17484",
        {"r": 8, "apply_GS": False},
        lambda options, inputs, outputs: options["r"] * inputs,
        is_identity=lambda options: False,  # pairs of equal reflections: the identity up to rounding
    ),
    "LN_TUNING": PeftType(
        "LayerNorm tuning", "arXiv 2312.11420", {}, lambda options, inputs, outputs: 2 * inputs, modules=NORMS
    ),
}
