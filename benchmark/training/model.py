"""A frozen backbone, an adaptation and a head, as one module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from benchmark.backbones.contract import LoadedBackbone, load_backbone, tensors_sha256
from benchmark.methods.contract import Method, find_method
from benchmark.spec import BackboneSpec, HeadInit, TrialSpec
from benchmark.streams import generator

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer

    from benchmark.methods.parts.blocks import AdaptedBlock

NUM_PIXEL_DIMENSIONS = 4

TRUNC_NORMAL_STD = 0.02
"""Of timm's Vision Transformers, heads included (`timm.models.vision_transformer.init_weights_vit_timm`)."""


@dataclass(frozen=True)
class Depth:
    """A place inside a Vision Transformer.

    Attributes:
        num_blocks: Whole blocks in front of it.
        with_next_block: Whether the pretrained block inside the next, adapted one is in front of it too.
        is_pooled: Whether everything but the head is.
    """

    num_blocks: int
    with_next_block: bool = False
    is_pooled: bool = False


class AdaptedClassifier(nn.Module):
    """A linear head on the pooled features of an adapted backbone.

    Attributes:
        frozen: The pretrained tensors that must not change, by their name before anything was attached.
        weights_sha256: Hash of the tensors that were loaded, before position embeddings were resampled.
        untouched: Identities of the backbone's modules before anything was attached.
        starts_at: Where `forward` starts when it is given what `prefix` returned instead of pixels.
    """

    def __init__(self, backbone: nn.Module, num_features: int, num_classes: int) -> None:
        """Put a head with torch's default law on a backbone without one."""
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(num_features, num_classes)
        self.frozen: dict[str, Tensor] = {}
        self.weights_sha256 = ""
        self.untouched: frozenset[int] = frozenset()
        self.starts_at: Depth | None = None

    def forward(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """Return logits for pixels [batch, 3, size, size], or for what `prefix` returned at `starts_at`."""
        logits: Tensor = self.head(self.features(inputs))
        return logits

    def features(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch width"]:
        """Return pooled features for pixels [batch, 3, size, size], or for what `prefix` returned at `starts_at`."""
        if inputs.dim() == NUM_PIXEL_DIMENSIONS:
            features: Tensor = self.backbone(inputs)
            return features
        if self.starts_at is None:
            raise AssertionError("the model was not told where these inputs come from")
        return self.rest(inputs, self.starts_at)

    def prefix(self, pixels: Float[Tensor, "batch 3 size size"], depth: Depth) -> Float[Tensor, "batch ..."]:
        """Return the tokens [batch, tokens, width] at a depth, or the pooled features [batch, width].

        The order of operations is that of timm's `VisionTransformer.forward_features`.
        """
        backbone = cast("VisionTransformer", self.backbone)
        if depth.is_pooled:
            pooled: Tensor = backbone(pixels)
            return pooled
        tokens: Tensor = backbone.norm_pre(backbone.patch_drop(backbone._pos_embed(backbone.patch_embed(pixels))))
        blocks = list(backbone.blocks.children())
        for block in blocks[: depth.num_blocks]:
            tokens = block(tokens)
        if depth.with_next_block:
            tokens = cast("AdaptedBlock", blocks[depth.num_blocks]).block(tokens)
        return tokens

    def rest(self, tokens: Float[Tensor, "batch ..."], depth: Depth) -> Float[Tensor, "batch width"]:
        """Return pooled features for what `prefix` returned at a depth."""
        if depth.is_pooled:
            return tokens
        backbone = cast("VisionTransformer", self.backbone)
        blocks = list(backbone.blocks.children())[depth.num_blocks :]
        if depth.with_next_block:
            tokens = tokens + cast("AdaptedBlock", blocks.pop(0)).adapter(tokens)
        for block in blocks:
            tokens = block(tokens)
        features: Tensor = backbone.forward_head(backbone.norm(tokens))
        return features

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that train, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def frozen_sha256(self) -> str:
        """Return the hash of the tensors that must not change."""
        return tensors_sha256(self.frozen)


def assemble(spec: TrialSpec, num_classes: int) -> AdaptedClassifier:
    """Build the model of a trial: load, freeze, attach, and give it a head.

    Raises:
        MissingError: The weights are not here.
        RequestError: The weights do not fit the backbone, or the method does not fit its blocks.
    """
    loaded = load_pinned(spec.backbone, spec.seed)
    method = find_method(spec.method.name)
    options = method.Options.model_validate(spec.method.options)
    head_init, weights_sha256 = spec.training.head_init, loaded.weights_sha256
    return adapt(loaded.model, method, options, spec.seed, num_classes, head_init, weights_sha256)


def adapt(
    backbone: VisionTransformer,
    method: Method,
    options: Any,
    seed: int,
    num_classes: int,
    head_init: HeadInit = "trunc_normal",
    weights_sha256: str | None = None,
) -> AdaptedClassifier:
    """Freeze a backbone, attach a method to it and give it a head.

    Args:
        backbone: Without a head; changed in place. One on torch's device `meta` has no values, and so no hash.
        method: What to attach.
        options: An instance of the method's `Options`.
        seed: Names the streams of the new weights.
        num_classes: Of the head.
        head_init: How the head starts.
        weights_sha256: Hash of the tensors that were loaded, where it is known; none: it is computed.
    """
    backbone.requires_grad_(False)
    pretrained = dict(backbone.state_dict(keep_vars=True))
    if weights_sha256 is None:
        weights_sha256 = "" if _is_valueless(backbone) else tensors_sha256(pretrained)
    width = int(backbone.num_features)
    untouched = frozenset(id(module) for module in backbone.modules())
    method.attach(backbone, options, seed)
    model = AdaptedClassifier(backbone, width, num_classes)
    _initialise_head(model.head, seed, head_init)
    model.frozen = {name: tensor for name, tensor in pretrained.items() if not tensor.requires_grad}
    model.weights_sha256 = weights_sha256
    model.untouched = frozenset() if method.rewrites_frozen_weights(options) else untouched
    return model


def _is_valueless(backbone: VisionTransformer) -> bool:
    return any(parameter.is_meta for parameter in backbone.parameters())


def load_pinned(backbone: BackboneSpec, seed: int) -> LoadedBackbone:
    """Load the backbone of a trial as its spec pins it; `seed` names the stream of random weights."""
    return load_backbone(
        backbone.name,
        backbone.weights,
        backbone.image_size_pixels,
        seed,
        weights_file=backbone.weights_file,
        file_sha256=backbone.weights_sha256 if backbone.weights == "file" else None,
    )


@torch.no_grad()
def _initialise_head(head: nn.Linear, seed: int, law: HeadInit) -> None:
    """Draw the head from a stream of its own, by the laws of `HeadInit`; one made of images is still zero."""
    draws = generator(seed, "head")
    bound = head.in_features**-0.5 if law == "uniform" else 0.0
    if law == "trunc_normal":
        nn.init.trunc_normal_(head.weight, std=TRUNC_NORMAL_STD, generator=draws)
    else:
        nn.init.uniform_(head.weight, -bound, bound, generator=draws)
    nn.init.uniform_(head.bias, -bound, bound, generator=draws)
