"""The only importer of DeepSpeed: data-parallel training steps of a partly frozen model."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.launch_plan import LaunchPlan
from benchmark.methods.parts.masks import MaskSource
from benchmark.spec import TrainingSpec

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1.0e-8


def adopt_process_group() -> None:
    """Make DeepSpeed use the process group that stands already."""
    deepspeed = _import_deepspeed()
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)


def release_process_group() -> None:
    """Make DeepSpeed forget the group it adopted, which it keeps in module globals, so that it can adopt another."""
    deepspeed = sys.modules.get("deepspeed")
    if deepspeed is None:
        return
    deepspeed.comm.comm.cdb = None
    groups = deepspeed.utils.groups
    for name in [name for name in vars(groups) if name.startswith("_") and name.endswith(("_GROUP", "_GROUPS"))]:
        setattr(groups, name, {} if isinstance(getattr(groups, name), dict) else None)


class TrainingEngine:
    """A DeepSpeed engine around the trainable parameters of a model, with AdamW.

    The optimiser is torch's, since one named in the configuration would make DeepSpeed compile its own.

    Attributes:
        optimizer: AdamW over the trainable parameters.
        masks: The model's random masks.
    """

    def __init__(self, model: nn.Module, training: TrainingSpec, plan: LaunchPlan) -> None:
        """Wrap a model whose parameters are already marked.

        Args:
            model: On the plan's device; every rank holds the same values.
            training: Optimisation settings; the learning rate is set at each step.
            plan: Workers, micro-batch, accumulation, ZeRO stage.
        """
        self.masks = MaskSource(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=training.learning_rate,
            betas=ADAM_BETAS,
            eps=ADAM_EPSILON,
            weight_decay=training.weight_decay,
            fused=True,
        )
        self._deepspeed_engine, *_ = _import_deepspeed().initialize(
            model=model,
            optimizer=self.optimizer,
            model_parameters=parameters,
            config=deepspeed_config(training, plan),
            dist_init_required=False,
        )

    def accumulate(self, loss: Tensor) -> None:
        """Add a micro-batch's gradients: DeepSpeed divides by the accumulation and averages over the ranks."""
        self._deepspeed_engine.backward(loss)

    def step(self, learning_rate: float) -> None:
        """Close a micro-batch; on the last one of the global batch, clip and update with this learning rate."""
        for group in self._deepspeed_engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._deepspeed_engine.step()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the model's logits [batch, classes] for pixels [batch, 3, size, size]."""
        logits: Tensor = self._deepspeed_engine(pixels)
        return logits

    def close(self) -> None:
        """Free the engine's hooks and buffers, so that a warm process can hold the next trial's."""
        self._deepspeed_engine.destroy()


def deepspeed_config(training: TrainingSpec, plan: LaunchPlan) -> dict[str, Any]:
    """Return DeepSpeed's configuration; clipping is always stated, since its default is 1.0."""
    config: dict[str, Any] = {
        "train_batch_size": plan.global_batch_images,
        "train_micro_batch_size_per_gpu": plan.micro_batch_images,
        "gradient_accumulation_steps": plan.accumulation_steps,
        "gradient_clipping": training.gradient_clip_norm or 0.0,
        "zero_optimization": {"stage": plan.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31 - 1,
    }
    if training.precision == "bf16":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config


def named_moments(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> dict[str, Tensor]:
    """Return AdamW's moments and step counts by parameter name; empty before the first step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[str, Tensor] = {}
    for name, parameter in zip(names, parameters, strict=True):
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{key}/{name}"] = value.detach().clone()
    return moments


def restore_moments(optimizer: torch.optim.Optimizer, names: Sequence[str], moments: dict[str, Tensor]) -> None:
    """Put AdamW's moments and step counts back; the inverse of `named_moments`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, parameter in zip(names, parameters, strict=True):
        keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in moments]
        optimizer.state[parameter] = {key: moments[f"{key}/{name}"].clone() for key in keys}


def _import_deepspeed() -> Any:
    """Import DeepSpeed quietly and without what a trial never uses.

    Its autotuner would import MLflow (a second and 100 MB a rank), and its shared-memory operator would compile for
    half a minute and leave files in /dev/shm.
    """
    if "deepspeed" not in sys.modules:
        logging.getLogger("torch.distributed.elastic.multiprocessing.redirects").setLevel(logging.ERROR)
        mlflow_is_hidden = "mlflow" not in sys.modules
        if mlflow_is_hidden:
            sys.modules["mlflow"] = None  # type: ignore[assignment]
        try:
            import deepspeed
        finally:
            if mlflow_is_hidden:
                del sys.modules["mlflow"]
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return sys.modules["deepspeed"]
