"""The bundled backbone: small enough for two CPU cores, pretrained by this project on generated images."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import MissingError

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor

NUM_HEADS = 4
MLP_RATIO = 2.0

_INFO = BackboneInfo(
    name="vit_nano",
    width=64,
    depth=6,
    patch_size_pixels=6,
    image_size_pixels=18,
    num_parameters=208_640,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bicubic",
    licence="Apache-2.0",
    source="this project: `adaptertune pretrain vit_nano`, procedurally generated images",
    weights_sha256="3acb4ae7e47315d91cc231f40a0dc053987bfecef0b7a9d4e5b7670983fa79bc",
    mlp_ratio=MLP_RATIO,
    num_heads=NUM_HEADS,
)

BACKBONES = {_INFO.name: _INFO}


def build(info: BackboneInfo, image_size_pixels: int) -> VisionTransformer:
    """Build the backbone without a head and without weights.

    Args:
        info: Its facts.
        image_size_pixels: Side of the images it will see.
    """
    from timm.models.vision_transformer import VisionTransformer

    from benchmark.backbones.parts.timm_family import initialisation

    return VisionTransformer(
        img_size=image_size_pixels,
        patch_size=info.patch_size_pixels,
        embed_dim=info.width,
        depth=info.depth,
        num_heads=NUM_HEADS,
        mlp_ratio=MLP_RATIO,
        num_classes=0,
        weight_init=initialisation(),
    )


def read_bundled_tensors() -> dict[str, Tensor]:
    """Read the weights that come with the package.

    Raises:
        MissingError: It was installed without them.
    """
    from safetensors.torch import load_file

    resource = files(__package__) / "weights" / "vit_nano.safetensors"
    if not resource.is_file():
        raise MissingError(
            "the weights of vit_nano are not in the installed package; make them: adaptertune pretrain vit_nano "
            "--output benchmark/backbones/weights/vit_nano.safetensors"
        )
    with as_file(resource) as path:
        return load_file(path)
