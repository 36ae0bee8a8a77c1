"""The only importer of Hugging Face's PEFT: injects its modules into timm's blocks."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.errors import MissingError
from benchmark.streams import stream_key

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

ADAPTER = "default"


def inject(
    backbone: VisionTransformer, peft_type: str, modules: tuple[str, ...], options: Mapping[str, Any], seed: int
) -> None:
    """Inject a PEFT type's modules into the blocks; only they train.

    Into the blocks alone, since PEFT matches modules by the end of their name, and the patch embedding ends in `proj`
    as well. PEFT draws from the global random state, so the stream's key seeds a fork of it.

    Raises:
        MissingError: PEFT is not installed.
    """
    peft, mapping = _import_peft(), importlib.import_module("peft.mapping")
    eva = {"eva_config": peft.EvaConfig(rho=1.0)} if options.get("init_lora_weights") == "eva" else {}
    config = mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft_type](target_modules=list(modules), **options, **eva)
    tuner = mapping.PEFT_TYPE_TO_TUNER_MAPPING[peft_type]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unsupported layer type")  # timm's LayerNorm is a subclass of torch's
        torch.manual_seed(stream_key(seed, "peft"))
        if tuner.uses_shared_state:
            peft.get_peft_model(backbone.blocks, config)  # changes the blocks in place too; what it returns wraps them
        else:
            peft.inject_adapter_in_model(config, backbone.blocks, adapter_name=ADAPTER)


def start_at_singular_vectors(backbone: VisionTransformer, rank: int, batches: Sequence[Tensor]) -> None:
    """Set every A to the leading right singular vectors of its map's inputs (EVA, arXiv 2410.07170, section 3).

    PEFT's incremental SVD subtracts the inputs' mean.

    Args:
        backbone: With LoRA injected, at its start: B is zero, so the maps' inputs are the frozen model's.
        rank: Of every map.
        batches: Images; gone through in order, and again, until the vectors have converged.
    """
    peft, eva = _import_peft(), importlib.import_module("peft.tuners.lora.eva")
    maps = {f"{name}.base_layer": m for name, m in backbone.named_modules() if isinstance(m, eva.LoraLayer)}
    config = peft.LoraConfig(
        r=rank,
        target_modules="|".join(map(re.escape, maps)),
        init_lora_weights="eva",
        eva_config=peft.EvaConfig(rho=1.0),
    )
    vectors = eva.get_eva_state_dict(
        backbone,
        batches,
        config,
        forward_fn=lambda model, pixels: model(pixels),
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None,
        gather_distributed_inputs=False,  # every rank sees the same images
        show_progress_bar=False,
    )
    with torch.no_grad():
        for name, module in maps.items():
            module.lora_A[ADAPTER].weight.copy_(vectors[name])


def merge(backbone: nn.Module) -> None:
    """Write every injected module into the weight below it and put that plain module back in its place."""
    _import_peft()
    layer_type = importlib.import_module("peft.tuners.tuners_utils").BaseTunerLayer
    for name, module in [(n, m) for n, m in backbone.named_modules() if isinstance(m, layer_type)]:
        module.merge()
        owner, _, attribute = name.rpartition(".")
        setattr(backbone.get_submodule(owner), attribute, module.get_base_layer())


def _import_peft() -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        rule = "the method `peft` needs Hugging Face's PEFT, which is not installed"
        raise MissingError(f"{rule}: pip install 'adaptertune-bench[peft]' ({error})") from error
