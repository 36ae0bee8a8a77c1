"""Guards the speed-ups on frozen parts: they change the time and the memory, never an output or a gradient.

Every method is tried because it exists, as in `test_methods.py`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from benchmark.certificate import small_subject
from benchmark.launch_plan import ComputeOptions, plan_launch
from benchmark.methods.contract import find_method, method_names
from benchmark.request import resolve_trial
from benchmark.standalone import run_trial
from benchmark.training import packed_model
from benchmark.training.estimate import saved_bytes
from benchmark.training.frozen_weights import cast_frozen_weights
from benchmark.training.model import AdaptedClassifier, adapt
from benchmark.training.packed_model import PackedClassifier, can_be_packed, share_frozen

WIDTH, DEPTH = 64, 2


def _options(case: Any) -> Any:
    name, options = case.values
    return find_method(name).Options.model_validate(options)


CASES = [
    pytest.param(name, dict(options), id=f"{name}-{index}")
    for name in method_names()
    for index, options in enumerate(find_method(name).certified)
    if not find_method(name).fits_head
]


PACKING = [case for case in CASES if find_method(str(case.values[0])).packs(_options(case))]


def adapted(name: str, depth: int = DEPTH, **values: Any) -> AdaptedClassifier:
    method = find_method(name)
    options = method.Options.model_validate(values)
    return adapt(small_subject(WIDTH, depth).build(), method, options, seed=0, num_classes=5)


def images(number: int = 8) -> Tensor:
    return torch.randn(number, 3, 18, 18, generator=torch.Generator().manual_seed(0))


def outputs_and_gradients(model: AdaptedClassifier) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images())
        loss = functional.cross_entropy(logits.float(), torch.arange(8) % 5)
    trained = {name: tensor for name, tensor in model.trainable().items() if tensor.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    found = {name: gradient for name, gradient in zip(trained, gradients, strict=True) if gradient is not None}
    return {"logits": logits.detach(), **found}


def jittered(model: AdaptedClassifier) -> AdaptedClassifier:
    """Move what trains away from its start, where half of the gradients are zero."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
    return model


@pytest.mark.parametrize(("name", "options"), CASES)
def test_outputs_and_gradients_are_equal_to_the_bit_when_frozen_weights_are_cast(
    name: str, options: dict[str, Any]
) -> None:
    model = jittered(adapted(name, **options)).eval()
    expected = outputs_and_gradients(model)
    cast_frozen_weights(model, torch.bfloat16)
    found = outputs_and_gradients(model)
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def test_only_layers_that_autocast_reads_are_cast() -> None:
    frozen, lora = adapted("head_only"), adapted("lora", rank=2)
    assert len(cast_frozen_weights(frozen, torch.bfloat16)) == 1 + 4 * DEPTH
    cast = cast_frozen_weights(lora, torch.bfloat16)
    assert "patch_embed.proj" in cast and not any("qkv" in name for name in cast)
    assert {parameter.dtype for parameter in lora.trainable().values()} == {torch.float32}
    assert frozen.backbone.get_parameter("norm.weight").dtype is torch.float32
    assert frozen.head.weight.dtype is torch.float32


def test_nothing_is_cast_where_a_method_rewrites_the_weights() -> None:
    assert cast_frozen_weights(adapted("ssf"), torch.bfloat16) != []
    rewritten = adapted("peft", r=2, init_lora_weights="pissa")
    assert cast_frozen_weights(rewritten, torch.bfloat16) == []


@pytest.mark.parametrize(("name", "options"), CASES)
def test_method_packs_exactly_where_nothing_but_adapters_at_blocks_trains(name: str, options: dict[str, Any]) -> None:
    method = find_method(name)
    assert method.packs(method.Options.model_validate(options)) is can_be_packed(adapted(name, **options))


@pytest.mark.parametrize(("name", "options"), PACKING)
def test_outputs_and_gradients_are_the_same_when_frozen_blocks_run_on_the_stacked_batch(
    name: str, options: dict[str, Any]
) -> None:
    both = [jittered(adapted(name, **options)).eval(), jittered(adapted(name, **options)).eval()]
    shown = [images(), images(4) + 1.0]
    alone = [gradients_of(model, model(given)) for model, given in zip(both, shown, strict=True)]
    share_frozen(*both)
    logits = PackedClassifier(both)(shown)
    packed = [gradients_of(model, own) for model, own in zip(both, logits, strict=True)]
    # fp32: products of more rows may be summed in another order.
    for found, expected in zip(packed, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_shared", [True, False], ids=["the same images", "other images"])
@pytest.mark.parametrize(("name", "options"), PACKING)
def test_losses_and_gradients_are_those_of_members_alone_when_each_is_done_with_before_the_next_begins(
    name: str, options: dict[str, Any], is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_model, "LEAST_APART_VALUES", 1)
    both = [jittered(adapted(name, **options)).eval(), jittered(adapted(name, **options)).eval()]
    first = images()
    shown = [first, first if is_shared else images() + 1.0]
    alone = [loss_and_gradients(model, criterion(model(given))) for model, given in zip(both, shown, strict=True)]
    share_frozen(*both)
    losses = PackedClassifier(both)(shown, [criterion, criterion])
    (2 * torch.stack(losses).sum()).backward()
    for model, loss, expected in zip(both, losses, alone, strict=True):
        found = [loss, *(parameter.grad / 2 for parameter in model.trainable().values())]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"site": "mlp"}], ids=["behind blocks", "inside blocks"])
def test_activations_of_a_member_are_gone_before_the_next_begins(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def most_kept(num_members: int, least_apart: int) -> int:
        monkeypatch.setattr(packed_model, "LEAST_APART_VALUES", least_apart)
        members = [adapted("adaptertune", depth=6, rank=4, **options) for _ in range(num_members)]
        for other in members[1:]:
            share_frozen(members[0], other)
        shown = [images(8)] * num_members
        return most_kept_bytes(lambda: torch.stack(PackedClassifier(members)(shown, [criterion] * num_members)).sum())

    apart, stacked = most_kept(4, 1), most_kept(4, 2**40)
    assert apart < 1.2 * most_kept(2, 1)
    assert stacked > 2 * apart


def most_kept_bytes(compute: Callable[[], Tensor]) -> int:
    """Return the most bytes that autograd keeps at one time while a loss and its gradients are computed."""
    kept = most = 0

    def let_go(num_bytes: int) -> None:
        nonlocal kept
        kept -= num_bytes

    def keep(tensor: Tensor) -> list[Tensor]:
        nonlocal kept, most
        kept += tensor.nbytes
        most = max(most, kept)
        holder = Held([tensor])
        weakref.finalize(holder, let_go, tensor.nbytes)
        return holder

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder[0]):
        compute().backward()
    return most


class Held(list[Tensor]):
    """A list that can be watched."""


def criterion(logits: Tensor) -> Tensor:
    return functional.cross_entropy(logits, torch.arange(len(logits)) % 5)


def loss_and_gradients(model: AdaptedClassifier, loss: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, list(model.trainable().values()))]


def gradients_of(model: AdaptedClassifier, logits: Tensor) -> list[Tensor]:
    loss = functional.cross_entropy(logits, torch.arange(len(logits)) % 5)
    return [logits.detach(), *torch.autograd.grad(loss, list(model.trainable().values()), retain_graph=True)]


def kept_bytes(model: AdaptedClassifier) -> int:
    """Return the bytes of activations that a forward pass keeps for the backward pass."""
    return saved_bytes(model, images(), torch.arange(8) % 5)


def test_nothing_is_saved_for_backward_in_front_of_the_first_adapter() -> None:
    at_the_end, everywhere = (adapted("adaptertune", rank=4, placement=where) for where in ("last:1", "all"))
    head_alone = adapted("head_only")
    # The head's input, which lies in the last tokens [8, 10, WIDTH], and the loss's: log-probabilities, labels, a sum.
    assert kept_bytes(head_alone) <= 8 * 10 * WIDTH * 4 + 8 * 5 * 4 + 8 * 8 + 4
    deeper = adapted("adaptertune", depth=4, rank=4, placement="last:1")
    assert kept_bytes(deeper) == kept_bytes(at_the_end) < kept_bytes(everywhere) / 2


def test_frozen_tensors_get_no_gradient() -> None:
    model = jittered(adapted("adaptertune", rank=4))
    functional.cross_entropy(model(images()), torch.arange(8) % 5).backward()
    assert [name for name, tensor in model.frozen.items() if tensor.grad is not None] == []


def test_result_of_a_trial_is_equal_to_the_bit_when_the_switch_is_off() -> None:
    request = {"backbone": "vit_nano", "dataset": "digits", "method": {"name": "adaptertune", "rank": 4}, "seed": 1}
    training = {"epochs": 1, "warmup_epochs": 0, "global_batch_images": 256, "precision": "bf16"}
    spec = resolve_trial({**request, "training": training})
    on, off = (
        run_trial(spec, plan_launch(256, compute=ComputeOptions(cast_frozen_weights=switch)))
        for switch in (True, False)
    )
    assert on.predictions == off.predictions
    assert on.checkpoint == off.checkpoint
    assert on.result.first_step_losses == off.result.first_step_losses
