"""The only user of DeepSpeed: data-parallel training steps of a partly frozen model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.launch_plan import LaunchPlan

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1.0e-8


def adopt_process_group() -> None:
    """Make DeepSpeed use the process group that stands already."""
    from benchmark.training.quiet_deepspeed import deepspeed

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


@dataclass(frozen=True)
class ParameterGroup:
    """What one trial trains.

    Attributes:
        parameters: Its trainable parameters.
        weight_decay: AdamW's.
        clip_norm: Its gradients' largest global norm; none leaves them as they are.
    """

    parameters: Sequence[nn.Parameter]
    weight_decay: float
    clip_norm: float | None


class TrainingEngine:
    """A DeepSpeed engine around the trainable parameters of a model, with AdamW; a group for each trial in the model.

    The optimiser is torch's, since one named in the configuration would make DeepSpeed compile its own. Gradients are
    clipped group by group, which DeepSpeed's own clipping, over all parameters, cannot do.

    Attributes:
        optimizer: AdamW, with one parameter group a trial.
    """

    def __init__(self, model: nn.Module, groups: Sequence[ParameterGroup], precision: str, plan: LaunchPlan) -> None:
        """Wrap a model whose parameters are already marked.

        Args:
            model: On the plan's device; every rank holds the same values.
            groups: What trains; learning rates are set at each step.
            precision: `fp32` or `bf16`.
            plan: Workers, micro-batch, accumulation, ZeRO stage.
        """
        from benchmark.training.quiet_deepspeed import deepspeed

        self._groups = groups
        self.optimizer = torch.optim.AdamW(
            [{"params": list(group.parameters), "weight_decay": group.weight_decay} for group in groups],
            lr=0.0,
            betas=ADAM_BETAS,
            eps=ADAM_EPSILON,
            fused=True,
        )
        self._deepspeed_engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=self.optimizer,
            model_parameters=[parameter for group in groups for parameter in group.parameters],
            config=deepspeed_config(precision, plan),
            dist_init_required=False,
        )
        # Its own goes through all parameters of the model by name, at every step.
        self._deepspeed_engine.zero_grad = self._drop_gradients
        if plan.num_workers == 1:
            # Alone there is nothing to average, and the copy into a bucket and back would cost time and memory.
            self._deepspeed_engine.enable_backward_allreduce = False

    def accumulate(self, loss: Tensor) -> None:
        """Add a micro-batch's gradients: DeepSpeed divides by the accumulation and averages over the ranks."""
        self._deepspeed_engine.backward(loss)

    def step(self, learning_rates: Sequence[float]) -> None:
        """Close a micro-batch; on the last one of the global batch, clip and update.

        Args:
            learning_rates: One a group.
        """
        if self._deepspeed_engine.is_gradient_accumulation_boundary():
            for group in self._groups:
                for parameter in group.parameters:
                    if parameter.grad is None:  # as DeepSpeed's averaging leaves it: the update must not depend on that
                        parameter.grad = torch.zeros_like(parameter)
                if group.clip_norm is not None:
                    torch.nn.utils.clip_grad_norm_(group.parameters, group.clip_norm)
        for options, learning_rate in zip(self._deepspeed_engine.optimizer.param_groups, learning_rates, strict=True):
            options["lr"] = learning_rate
        self._deepspeed_engine.step()

    def _drop_gradients(self) -> None:
        for group in self._groups:
            for parameter in group.parameters:
                parameter.grad = None

    def __call__(self, *inputs: Any) -> list[Tensor]:
        """Return what the model returns: of a pack, each trial's loss or logits."""
        outputs: list[Tensor] = self._deepspeed_engine(*inputs)
        return outputs

    def close(self) -> None:
        """Free the engine's hooks and buffers, so that a warm process can hold the next trial's."""
        self._deepspeed_engine.destroy()


def deepspeed_config(precision: str, plan: LaunchPlan) -> dict[str, Any]:
    """Return DeepSpeed's configuration; that it does not clip is stated, since its default is 1.0."""
    config: dict[str, Any] = {
        "train_batch_size": plan.global_batch_images,
        "train_micro_batch_size_per_gpu": plan.micro_batch_images,
        "gradient_accumulation_steps": plan.accumulation_steps,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": plan.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31 - 1,
        # Its timer would wait for the GPU twice in every step.
        "timers": {"throughput": {"enabled": False}},
    }
    if precision == "bf16":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config


def named_moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return AdamW's moments and step counts of these parameters, by their names; empty before the first step."""
    return {
        f"{key}/{name}": value.detach().clone()
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], moments: Mapping[str, Tensor]
) -> None:
    """Put AdamW's moments and step counts back; the inverse of `named_moments`."""
    for name, parameter in parameters.items():
        keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in moments]
        own = {key: moments[f"{key}/{name}"].to(parameter.device, copy=True) for key in keys}
        optimizer.state[parameter] = own
