"""What a trial will take, counted on the model itself before anything trains."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from benchmark.datasets.contract import open_dataset
from benchmark.launch_plan import LaunchPlan
from benchmark.methods.contract import find_method
from benchmark.spec import TrialSpec
from benchmark.training.loop import count_steps_per_epoch
from benchmark.training.model import AdaptedClassifier, assemble
from benchmark.training.operations import flops_per_image

BYTES_PER_PARAMETER = 4
NUM_ADAM_MOMENTS = 2


@dataclass(frozen=True)
class Estimate:
    """A trial's size and work.

    Attributes:
        num_trainable_parameters: Adaptation and head.
        num_total_parameters: With the frozen backbone.
        forward_flops_per_image: Floating-point operations, a multiply-add counted as two.
        training_flops_per_image: Forward and backward.
        total_flops: Of the whole trial: training (one forward pass where the head is fitted in closed form), and
            evaluation after each epoch and at the end.
        memory_bytes: One rank's weights, gradients, optimiser state and saved activations.
        activation_bytes: The saved activations' part of it, for one micro-batch.
    """

    num_trainable_parameters: int
    num_total_parameters: int
    forward_flops_per_image: int
    training_flops_per_image: int
    total_flops: int
    memory_bytes: int
    activation_bytes: int


def estimate(spec: TrialSpec, plan: LaunchPlan) -> Estimate:
    """Count a trial's parameters, operations and memory on one image through the real model."""
    info = open_dataset(spec.dataset, spec.seed).info
    model = assemble(_with_random_weights(spec), info.num_classes)
    size = spec.backbone.image_size_pixels
    pixels, labels = torch.zeros(1, 3, size, size), torch.zeros(1, dtype=torch.int64)
    flops = flops_per_image(model, spec)
    activation_bytes = saved_bytes(model, pixels, labels) * plan.micro_batch_images
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
        memory_bytes=BYTES_PER_PARAMETER * (num_total + (1 + NUM_ADAM_MOMENTS) * num_trainable) + activation_bytes,
        activation_bytes=activation_bytes,
    )


def _with_random_weights(spec: TrialSpec) -> TrialSpec:
    """Return the spec without its pretrained weights: counts do not depend on them, and they may not be here yet."""
    random = {"weights": "random", "weights_sha256": None, "weights_file": None}
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update=random)})


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
