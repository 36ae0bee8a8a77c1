"""Builds the models that timm defines, under their pinned names, and finds their published weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from benchmark.errors import MissingError

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor

    from benchmark.backbones.contract import BackboneInfo


_WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""What weights are called on the hub (`timm.models._hub`)."""


def build_timm(info: BackboneInfo, image_size_pixels: int) -> VisionTransformer:
    """Build timm's model of that name, without a head and without weights."""
    import timm
    from timm.models.vision_transformer import VisionTransformer

    model = timm.create_model(
        info.name, pretrained=False, num_classes=0, img_size=image_size_pixels, weight_init=initialisation()
    )
    assert isinstance(model, VisionTransformer)
    return model


def initialisation() -> Literal["skip", ""]:
    """Return timm's scheme for the default device: none on `meta`, which holds no values to draw."""
    import torch

    return "skip" if torch.get_default_device().type == "meta" else ""


def read_hub_tensors(info: BackboneInfo) -> dict[str, Tensor]:
    """Read the published weights from the Hugging Face cache, which timm fills where there is a network.

    `timm.create_model(pretrained=True)` is not used: without a head it loads with `strict=False`, and what the file
    lacks would stay random.

    Raises:
        MissingError: They are neither in the cache nor reachable.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from timm.models import get_pretrained_cfg, load_state_dict_from_hf

    config = get_pretrained_cfg(info.name)
    if config is None or not config.hf_hub_id:
        raise MissingError(f"this timm knows no published weights of {info.name}. {ways_to_mend(info.name)}")
    file_name = {"filename": config.hf_hub_filename} if config.hf_hub_filename else {}
    try:
        tensors: dict[str, Tensor] = load_state_dict_from_hf(config.hf_hub_id, weights_only=True, **file_name)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise MissingError(
            f"the weights of {info.name} are neither in the Hugging Face cache nor reachable "
            f"({config.hf_hub_id}: {reason[:300]}). {ways_to_mend(info.name)}"
        ) from error
    return tensors


def is_cached(name: str) -> bool:
    """Return whether a backbone's published weights are in the Hugging Face cache, by a name that timm tries."""
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return False
    names = (config.hf_hub_filename, *_WEIGHT_FILES)
    found = [try_to_load_from_cache(config.hf_hub_id, file) for file in names if file]
    return any(isinstance(path, str) for path in found)


def ways_to_mend(name: str) -> str:
    """Return the three ways to go on where weights cannot be loaded."""
    return (
        "Either let timm fill the cache, here or on a machine with a network whose HF_HOME folder is then copied: "
        f'python -c "import timm; timm.create_model({name!r}, pretrained=True)"; '
        f"or name a local file: backbone: {{name: {name}, weights: FILE.safetensors (or .pth, .npz)}}; "
        "or ask for random weights, which every table will say: weights: random."
    )
