"""What a trial will take, counted on the model itself before anything trains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from benchmark.datasets.contract import Split, open_dataset
from benchmark.launch_plan import LaunchPlan
from benchmark.methods.contract import find_method
from benchmark.spec import TrialSpec
from benchmark.training.footprint import Footprint, step_footprint
from benchmark.training.loop import count_steps_per_epoch
from benchmark.training.model import AdaptedClassifier
from benchmark.training.operations import flops_per_image
from benchmark.training.prefix import frozen_depth
from benchmark.training.pretrained import autocast_dtype_of
from benchmark.training.valueless import valueless_model


@dataclass(frozen=True)
class Estimate:
    """A trial's size and work.

    Attributes:
        num_trainable_parameters: Adaptation and head.
        num_total_parameters: With the frozen backbone.
        forward_flops_per_image: Floating-point operations, a multiply-add counted as two.
        training_flops_per_image: Forward and backward.
        total_flops: Of the whole trial: training (one forward pass where the head is fitted in closed form), and
            evaluation after each epoch and at the end. Kept outputs of the frozen part and packs save some of it.
        memory_bytes: One rank's, at the peak of a training step, and what it keeps of the frozen part's outputs.
        memory: The same by part.
    """

    num_trainable_parameters: int
    num_total_parameters: int
    forward_flops_per_image: int
    training_flops_per_image: int
    total_flops: int
    memory_bytes: int
    memory: Footprint


def estimate(spec: TrialSpec, plan: LaunchPlan) -> Estimate:
    """Count a trial's parameters, operations and memory on its model without values: no weights, no computation."""
    info = open_dataset(spec.dataset, spec.seed).info
    with valueless_model(spec, info.num_classes) as model:
        flops = flops_per_image(model, spec)
        memory = traced(model, spec, plan).sharded(plan.zero_stage, plan.num_workers)
        memory = memory.with_cache(cache_bytes(model, spec, plan, info.num_images))
        num_trainable = sum(parameter.numel() for parameter in model.trainable().values())
        num_total = sum(parameter.numel() for parameter in model.parameters())
    trained = count_steps_per_epoch(info.num_images["train"], plan.global_batch_images) * plan.global_batch_images
    fits_head = find_method(spec.method.name).fits_head
    epochs = 1 if fits_head else spec.training.epochs
    evaluated = (epochs + 2) * info.num_images["validation"] + info.num_images["test"]
    num_trained_images = info.num_images["train"] if fits_head else epochs * trained
    return Estimate(
        num_trainable_parameters=num_trainable,
        num_total_parameters=num_total,
        forward_flops_per_image=flops.forward,
        training_flops_per_image=flops.training,
        total_flops=num_trained_images * flops.training + evaluated * flops.forward,
        memory_bytes=memory.total,
        memory=memory,
    )


_TRACED: dict[tuple[str, str], Footprint] = {}


def traced(model: AdaptedClassifier, spec: TrialSpec, plan: LaunchPlan) -> Footprint:
    """Return what a step takes without sharding, found out once a process for all seeds of a condition."""
    key = (spec.condition_id, plan.model_dump_json(exclude={"prefix_cache_bytes", "pack_bytes", "zero_stage"}))
    if key not in _TRACED:
        _TRACED[key] = step_footprint(model, spec.training.precision, plan, spec.backbone.image_size_pixels)
    return _TRACED[key]


def cache_bytes(model: AdaptedClassifier, spec: TrialSpec, plan: LaunchPlan, num_images: Mapping[Split, int]) -> int:
    """Return what a rank keeps of the frozen part's outputs, as `prefix.py` does: the splits that fit the budget."""
    depth = frozen_depth(model) if plan.prefix_cache_bytes else None
    if depth is None:
        return 0
    size, dtype = spec.backbone.image_size_pixels, autocast_dtype_of(spec.training.precision)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        image_bytes = model.prefix(torch.zeros(1, 3, size, size), depth).nbytes
    splits: dict[Split, bool] = {
        "train": spec.protocol.augmentation == "none",
        "validation": True,
        "test": spec.reads_test,
    }
    kept = [num_images[split] * image_bytes for split, is_kept in splits.items() if is_kept]
    return min(plan.prefix_cache_bytes, sum(one for one in kept if one <= plan.prefix_cache_bytes))


def measure_matmul_flops_per_second(size: int = 512, seconds: float = 0.2) -> float:
    """Return this device's rate of fp32 matrix products with one thread, measured now."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix = torch.ones(size, size)
    matrix @ matrix
    num_products, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        matrix @ matrix
        num_products += 1
    torch.set_num_threads(threads)
    return num_products * 2 * size**3 / elapsed


def saved_bytes(model: AdaptedClassifier, pixels: Tensor, labels: Tensor) -> int:
    """Return the bytes that autograd keeps for the backward pass, parameters and repeated storages left out."""
    kept = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    num_bytes = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal num_bytes
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in kept:
            kept.add(storage.data_ptr())
            num_bytes += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = functional.cross_entropy(model(pixels), labels)
    del loss
    return num_bytes
