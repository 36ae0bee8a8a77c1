"""What every backbone states, and how a pinned name becomes a frozen timm model."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.errors import RequestError, nearest
from benchmark.registry import member, member_names

if TYPE_CHECKING:
    import torch
    from timm.models.vision_transformer import VisionTransformer


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone's facts.

    Attributes:
        name: Architecture and pretrained tag.
        width: Embedding dimension d.
        depth: Number of blocks L.
        patch_size_pixels: Side of a patch.
        image_size_pixels: Side of the images it was pretrained on.
        num_parameters: Without a classification head.
        mean: Channel means its pretraining normalised with, for pixels in [0, 1].
        std: Channel standard deviations, likewise.
        interpolation: Resampling filter for its inputs.
        licence: Terms of its weights.
        source: Where the weights come from.
        weights_sha256: Content hash of weights that ship with the package; none for the others.
        revision: Raised when the numbers obtained with it change.
        mlp_ratio: Hidden width of a block's MLP, in embedding dimensions.
    """

    name: str
    width: int
    depth: int
    patch_size_pixels: int
    image_size_pixels: int
    num_parameters: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    licence: str
    source: str
    weights_sha256: str | None = None
    revision: int = 1
    mlp_ratio: float = 4.0

    @property
    def mlp_width(self) -> int:
        """Hidden width of a block's MLP, as timm rounds it."""
        return int(self.width * self.mlp_ratio)


def backbone_names() -> tuple[str, ...]:
    """Return the pinned names of all backbones."""
    return tuple(sorted(_families_by_backbone()))


def find_backbone(name: str, where: str = "backbone") -> BackboneInfo:
    """Return the facts of a backbone.

    Raises:
        RequestError: There is no such backbone; the nearest names are given.
    """
    families = _families_by_backbone()
    if name not in families:
        raise RequestError(where, name, "there is no such backbone", nearest(name, families))
    info: BackboneInfo = member(__package__, families[name], where).BACKBONES[name]
    return info


def build_backbone(name: str, weights: str, image_size_pixels: int, seed: int = 0) -> VisionTransformer:
    """Build a backbone without a head, in evaluation mode, on the CPU.

    Args:
        name: Pinned name.
        weights: `bundled`, or `random` for weights drawn from `seed`.
        image_size_pixels: Side of the images it will see.
        seed: Names the stream of random weights.
    """
    info = find_backbone(name)
    family = member(__package__, _families_by_backbone()[name], "backbone")
    model: VisionTransformer = family.build(info, weights, image_size_pixels, seed)
    return model.eval()


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over name, type, shape and bytes of tensors, by sorted name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@functools.cache
def _families_by_backbone() -> dict[str, str]:
    families: dict[str, str] = {}
    for family in member_names(__package__):
        backbones: Mapping[str, Any] = member(__package__, family, "backbone").BACKBONES
        families.update(dict.fromkeys(backbones, family))
    return families
