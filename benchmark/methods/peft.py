"""The methods of Hugging Face's PEFT library through one bridge; `peft_type` and all options have PEFT's own names.

PEFT's modules are injected into the backbone's blocks; `parts/peft_types.py` lists the types and options. As timm
fuses queries, keys and values, a change at `qkv` is one change of the fused matrix: one A shared by the three in LoRA,
where `lora` here gives each its own. Start values come from the trial's streams.

`init_lora_weights: eva` (arXiv 2410.07170) takes A from the leading right singular vectors of each map's inputs,
computed by PEFT on training images. Ranks are not redistributed (its rho is 1), so all maps keep rank r.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import Problem, nearest
from benchmark.methods.contract import Method
from benchmark.methods.parts.peft_types import PEFT_TYPES, PeftType
from benchmark.spec import Frozen

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor

MAX_FREQUENCIES = 10_000
"""The most frequencies of a map that a parameter budget may choose for FourierFT."""


class PeftOptions(Frozen):
    """Options of all offered types; each type takes its own, and PEFT's defaults for those not given."""

    peft_type: Literal["LORA", "MISS", "OFT", "LOHA", "LOKR", "VERA", "RANDLORA", "FOURIERFT", "HRA", "LN_TUNING"] = (
        Field(default="LORA", description="PEFT's name of the method")
    )
    target_modules: str | None = Field(
        default=None, description="some of qkv, proj, fc1, fc2 (LN_TUNING: norm1, norm2), comma-separated; default: all"
    )
    r: int | None = Field(default=None, ge=1, description="rank")
    lora_alpha: int | None = Field(default=None, ge=1, description="LORA: the change is scaled by lora_alpha / r")
    use_rslora: bool | None = Field(default=None, description="LORA: scale by lora_alpha / sqrt(r) instead")
    use_dora: bool | None = Field(default=None, description="LORA: train each row's magnitude apart (DoRA)")
    init_lora_weights: Literal[True, "gaussian", "pissa", "olora", "eva"] | None = Field(
        default=None, description="LORA: how A and B start"
    )
    init_weights: Literal[True, False, "bat"] | None = Field(
        default=None, description="MISS: true, or bat for Bone; FOURIERFT: true starts at zero"
    )
    oft_block_size: int | None = Field(default=None, ge=2, description="OFT: side of the rotated blocks")
    use_cayley_neumann: bool | None = Field(default=None, description="OFT: a truncated series in place of an inverse")
    num_cayley_neumann_terms: int | None = Field(default=None, ge=1, description="OFT: terms of that series")
    alpha: int | None = Field(default=None, ge=1, description="LOHA, LOKR: the change is scaled by alpha / r")
    decompose_both: bool | None = Field(default=None, description="LOKR: split the left factor into low rank too")
    decompose_factor: int | None = Field(
        default=None, ge=-1, description="LOKR: wanted smaller factor; -1: square root"
    )
    projection_prng_key: int | None = Field(
        default=None, ge=0, description="VERA, RANDLORA: seed of frozen projections"
    )
    d_initial: float | None = Field(default=None, description="VERA: start of the vector behind A")
    randlora_alpha: int | None = Field(default=None, ge=1, description="RANDLORA: the change is scaled by this / r")
    n_frequency: int | None = Field(default=None, ge=1, description="FOURIERFT: trained frequencies of each map")
    scaling: float | None = Field(default=None, gt=0, description="FOURIERFT: factor of the change")
    random_loc_seed: int | None = Field(default=None, ge=0, description="FOURIERFT: seed of the frequencies' places")
    apply_GS: bool | None = Field(default=None, description="HRA: orthogonalise the reflections")  # noqa: N815

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        chosen = values.get("peft_type", "LORA")
        if chosen not in PEFT_TYPES:
            return values
        defaults = {"target_modules": ",".join(PEFT_TYPES[chosen].modules), **PEFT_TYPES[chosen].defaults}
        for name, value in values.items():
            if name in cls.model_fields and name not in {"peft_type", *defaults} and value is not None:
                raise ValueError(f"{chosen} has no option {name} here; it has {', '.join(defaults)}")
        return {**defaults, **{name: value for name, value in values.items() if value is not None}}

    @model_validator(mode="after")
    def _modules_are_known(self) -> PeftOptions:
        known = PEFT_TYPES[self.peft_type].modules
        for module in self.modules:
            if module not in known:
                raise ValueError(f"target_modules: {module!r} is none of {', '.join(known)}. {nearest(module, known)}")
        return self

    @model_serializer(mode="wrap")
    def _only_its_own(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of a block that change."""
        return tuple(module.strip() for module in (self.target_modules or "").split(","))

    @property
    def type(self) -> PeftType:
        """Facts of the type."""
        return PEFT_TYPES[self.peft_type]

    @property
    def config(self) -> Mapping[str, Any]:
        """The type's own options."""
        return {name: getattr(self, name) for name in self.type.defaults}


class Peft(Method):
    """Any offered method of the PEFT library."""

    name = "peft"
    title = "Hugging Face PEFT"
    source = "the PEFT library; each type's paper is in benchmark/methods/parts/peft_types.py"
    Options = PeftOptions
    not_mergeable = ""
    certified = (
        {"r": 4},
        {"r": 4, "use_dora": True},
        {"r": 4, "init_lora_weights": "pissa"},
        {"peft_type": "MISS", "r": 4, "init_weights": "bat"},
        {"peft_type": "VERA", "r": 16},
        {"peft_type": "LN_TUNING"},
    )

    def size_option(self, options: Mapping[str, Any]) -> str | None:
        """Return the type's rank, or FourierFT's number of frequencies; OFT and LN tuning have neither."""
        known = PEFT_TYPES.get(options.get("peft_type", "LORA"))
        return next((name for name in ("r", "n_frequency") if known is not None and name in known.defaults), None)

    def sizes(self, name: str, backbone: BackboneInfo) -> range:
        """Return ranks up to the width, or numbers of frequencies; `MAX_FREQUENCIES` bounds how long solving takes."""
        return range(1, min(backbone.width**2, MAX_FREQUENCIES) + 1 if name == "n_frequency" else backbone.width + 1)

    def check(self, options: PeftOptions, backbone: BackboneInfo) -> list[Problem]:
        """Return what PEFT would refuse or quietly change on this backbone."""
        shapes, width = self._shapes(options, backbone), backbone.width
        problems = []
        if options.r is not None and options.r > width and options.peft_type not in ("VERA", "LOHA", "LOKR"):
            problems.append(Problem("r", options.r, f"the rank is at most the backbone's width {width}"))
        if options.peft_type == "HRA" and options.config["r"] % 2:
            problems.append(Problem("r", options.r, "HRA starts at the identity with an even rank only"))
        if options.peft_type == "OFT" and any(inputs % options.config["oft_block_size"] for inputs, _ in shapes):
            rule = f"the block must divide every changed map's inputs: {sorted({inputs for inputs, _ in shapes})}"
            problems.append(Problem("oft_block_size", options.oft_block_size, rule))
        sides = {side for shape in shapes for side in shape}
        if options.init_weights == "bat" and any(side % (options.r or 1) for side in sides):
            problems.append(
                Problem("r", options.r, f"Bone's rank must divide every changed map's sides: {sorted(sides)}")
            )
        allowed = {"MISS": (True, "bat"), "FOURIERFT": (True, False)}.get(options.peft_type, (None,))
        if options.init_weights not in allowed:
            problems.append(Problem("init_weights", options.init_weights, f"{options.peft_type} allows {allowed}"))
        return problems

    def is_identity_at_start(self, options: PeftOptions) -> bool:
        """Return what the type claims."""
        return options.type.is_identity(options.config)

    def rewrites_frozen_weights(self, options: PeftOptions) -> bool:
        """Return whether the start takes its part out of the frozen weights."""
        return options.init_lora_weights in ("pissa", "olora")

    def attach(self, backbone: VisionTransformer, options: PeftOptions, seed: int) -> None:
        """Inject PEFT's modules into the blocks.

        Raises:
            MissingError: PEFT is not installed.
        """
        from benchmark.methods.parts.blocks import require_standard_blocks
        from benchmark.methods.parts.peft_bridge import inject

        require_standard_blocks(backbone, self.name)
        inject(backbone, options.peft_type, options.modules, options.config, seed)

    def uses_images_at_start(self, options: PeftOptions) -> bool:
        """Return whether A comes from the layers' inputs (EVA)."""
        return options.init_lora_weights == "eva"

    def start_from_images(self, backbone: VisionTransformer, options: PeftOptions, batches: Sequence[Tensor]) -> None:
        """Set each A to the leading right singular vectors of its map's inputs (EVA)."""
        from benchmark.methods.parts.peft_bridge import start_at_singular_vectors

        if self.uses_images_at_start(options):
            start_at_singular_vectors(backbone, options.config["r"], batches)

    def merge(self, backbone: VisionTransformer, options: PeftOptions) -> None:
        """Write the trained changes into the weights, by PEFT's own merging."""
        from benchmark.methods.parts.peft_bridge import merge

        merge(backbone)

    def count_parameters(self, options: PeftOptions, backbone: BackboneInfo) -> int:
        """Return the type's formula summed over the changed modules."""
        shapes = self._shapes(options, backbone)
        return backbone.depth * sum(options.type.count(options.config, *shape) for shape in shapes)

    def _shapes(self, options: PeftOptions, backbone: BackboneInfo) -> list[tuple[int, int]]:
        width, hidden = backbone.width, backbone.mlp_width
        shapes = {"qkv": (width, 3 * width), "fc1": (width, hidden), "fc2": (hidden, width)}
        return [shapes.get(module, (width, width)) for module in options.modules]


METHOD = Peft()
