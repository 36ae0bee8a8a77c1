"""What every backbone states, and how a pinned name becomes a frozen timm model.

A family file holds `BACKBONES`, its members' facts by name, and `build(info, image_size_pixels)`, which makes a model
without a head and without weights. Where weights come from and how they are checked is the same for all: here and in
`parts/`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmark.errors import MissingError, RequestError, nearest
from benchmark.registry import member, member_names

if TYPE_CHECKING:
    import torch
    from timm.models.vision_transformer import VisionTransformer

PAPER_BACKBONES: Mapping[str, str] = {
    "deit_tiny_patch16_224": "deit_tiny_patch16_224.fb_in1k",
    "vit_small_patch16_224": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
}
"""The paper's bare names with the tags that timm 1.0.31 gives them. What its authors' timm loaded is not stated, so
these tags are assumed. Only the protocol `paper` may use them; anywhere else a bare name is refused."""


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone's facts.

    Attributes:
        name: Architecture and pretrained tag.
        width: Embedding dimension d.
        depth: Number of blocks L.
        patch_size_pixels: Side of a patch.
        image_size_pixels: Side of the images it was pretrained on, and the default of a trial.
        num_parameters: Without a classification head, at `image_size_pixels`.
        mean: Channel means its pretraining normalised with, for pixels in [0, 1].
        std: Channel standard deviations, likewise.
        interpolation: Resampling filter for its inputs.
        licence: Terms of its weights.
        source: Where the weights come from.
        weights_sha256: Content hash of weights that ship with the package; none for the others.
        revision: Raised when the numbers obtained with it change.
        mlp_ratio: Hidden width of a block's MLP, in embedding dimensions.
        num_heads: Attention heads of a block.
        num_prefix_tokens: CLS and register tokens.
        has_layer_scale: Whether each branch of a block is scaled per channel before it is added.
        has_norm_before_blocks: Whether a LayerNorm stands before the first block; the patch embedding then has no bias.
        crop_fraction: Share of the image's side that its own evaluation crops from the centre.
        note: What a reader should know beyond this; empty when there is nothing.
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
    num_heads: int = 0
    num_prefix_tokens: int = 1
    has_layer_scale: bool = False
    has_norm_before_blocks: bool = False
    crop_fraction: float = 1.0
    note: str = ""

    @property
    def mlp_width(self) -> int:
        """Hidden width of a block's MLP, as timm rounds it."""
        return int(self.width * self.mlp_ratio)

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence of its weights forbids commercial use."""
        return "-nc" in self.licence.lower()

    @property
    def licence_line(self) -> str:
        """The licence as lists and reports show it."""
        return f"{self.licence} (non-commercial)" if self.is_non_commercial else self.licence

    @property
    def default_weights(self) -> str:
        """Where its weights come from when a request does not say: `bundled` or `pretrained`."""
        return "bundled" if self.weights_sha256 is not None else "pretrained"

    def resized(self, image_size_pixels: int) -> BackboneInfo:
        """Return the facts at another image size, whose position embeddings are more or fewer."""
        old, new = (size // self.patch_size_pixels for size in (self.image_size_pixels, image_size_pixels))
        num_parameters = self.num_parameters + (new * new - old * old) * self.width
        return replace(self, image_size_pixels=image_size_pixels, num_parameters=num_parameters)


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone with its weights.

    Attributes:
        model: Without a head, in evaluation mode, on the CPU.
        weights_sha256: Over the tensors that were loaded, before position embeddings were resampled; see
            `tensors_sha256`.
    """

    model: VisionTransformer
    weights_sha256: str


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
        tags = [known for known in families if known.partition(".")[0] == name]
        if tags:
            rule = "a bare name does not say which weights; give the full name with its tag"
            raise RequestError(where, name, rule, f"Its tags here: {', '.join(sorted(tags))}.")
        raise RequestError(where, name, "there is no such backbone", nearest(name, families))
    info: BackboneInfo = _family(name).BACKBONES[name]
    return info


def build_backbone(
    name: str, weights: str, image_size_pixels: int, seed: int = 0, weights_file: str | None = None
) -> VisionTransformer:
    """Build a backbone without a head, in evaluation mode, on the CPU; the arguments are `load_backbone`'s."""
    return load_backbone(name, weights, image_size_pixels, seed, weights_file).model


def load_backbone(
    name: str,
    weights: str,
    image_size_pixels: int,
    seed: int = 0,
    weights_file: str | None = None,
    file_sha256: str | None = None,
) -> LoadedBackbone:
    """Build a backbone, load its weights, and name what was loaded.

    Args:
        name: Pinned name.
        weights: `bundled`; `pretrained`: from the Hugging Face cache through timm; `file`; or `random`: drawn from
            `seed`.
        image_size_pixels: Side of the images it will see; position embeddings are resampled where it differs from the
            loaded ones.
        seed: Names the stream of random weights.
        weights_file: The local file, where `weights` is `file`.
        file_sha256: What the file's content must hash to; none: not checked.

    Raises:
        MissingError: The weights are not here.
        RequestError: They do not fit the backbone, or are not what was asked for.
    """
    info = find_backbone(name)
    if weights == "random":
        model = _random_model(info, image_size_pixels, seed)
        return LoadedBackbone(model.eval(), tensors_sha256(model.state_dict()))
    from benchmark.backbones.parts.loading import load_strictly, resize_input

    tensors, source = _read_weights(info, weights, weights_file, file_sha256)
    build = functools.partial(_family(name).build, info)
    model = load_strictly(build, tensors, name, source, info.image_size_pixels)
    weights_sha256 = tensors_sha256(model.state_dict())
    resize_input(model, image_size_pixels)
    return LoadedBackbone(model.eval(), weights_sha256)


def _random_model(info: BackboneInfo, image_size_pixels: int, seed: int) -> VisionTransformer:
    import torch

    from benchmark.streams import stream_key

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key(seed, "backbone/random"))
        model: VisionTransformer = _family(info.name).build(info, image_size_pixels)
    return model


def _read_weights(
    info: BackboneInfo, weights: str, weights_file: str | None, file_sha256: str | None
) -> tuple[dict[str, torch.Tensor], str]:
    """Return the tensors and, for errors, where they are from."""
    if weights == "bundled":
        return _family(info.name).read_bundled_tensors(), "the bundled weights"
    if weights == "pretrained":
        from benchmark.backbones.parts.timm_family import read_hub_tensors

        return read_hub_tensors(info), "the published weights"
    from benchmark.backbones.parts.weight_files import file_sha256 as hash_of
    from benchmark.backbones.parts.weight_files import read_tensors

    if weights != "file" or weights_file is None:
        raise RequestError("backbone.weights", weights, "must be bundled, pretrained, random, or a file with its path")
    if hash_of(Path(weights_file)) != file_sha256 and file_sha256 is not None:
        raise MissingError(
            f"the weight file {weights_file} is not the one this trial was planned with (SHA-256 {file_sha256}); put "
            "that one back, or plan the study anew."
        )
    return read_tensors(Path(weights_file)), weights_file


def build_without_values(name: str, image_size_pixels: int) -> VisionTransformer:
    """Build a backbone without a head on torch's device `meta`: shapes and types alone, at no cost of memory."""
    import torch

    with torch.device("meta"):
        model: VisionTransformer = _family(name).build(find_backbone(name), image_size_pixels)
    return model.eval()


def licence_of_weights(name: str, weights: str) -> str | None:
    """Return the terms of the weights that a trial loads; none for random ones, which nobody licenses."""
    if weights == "random":
        return None
    line = find_backbone(name).licence_line
    return f"{line} by its name; the weights are a local file" if weights == "file" else line


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over name, type, shape and bytes of tensors, by sorted name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _family(name: str) -> ModuleType:
    return member(__package__, _families_by_backbone()[name], "backbone")


@functools.cache
def _families_by_backbone() -> dict[str, str]:
    families: dict[str, str] = {}
    for family in member_names(__package__):
        backbones: Mapping[str, Any] = member(__package__, family, "backbone").BACKBONES
        for name in backbones:
            if name in families:
                rule = f"the family {families[name]} has a backbone of this name"
                raise RequestError(f"backbones of {family}", name, rule, "Rename it, or uninstall the plugin.")
            families[name] = family
    return families
