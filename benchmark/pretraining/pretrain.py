"""Pretrain a backbone on procedurally generated images, and write its weights; the same bytes for the same recipe.

The same bytes hold on one machine and one PyTorch version: the work runs on one thread, and every random number comes
from a generator seeded by the recipe. Another processor may round sums otherwise.
"""

import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.pretraining.images import draw_batch, draw_prototypes
from benchmark.pretraining.recipe import Optimisation, PretrainingRecipe

logger = logging.getLogger(__name__)

NUM_STEPS_PER_REPORT = 100
ProgressCallback = Callable[[int, int, float], None]


def build_backbone(recipe: PretrainingRecipe) -> VisionTransformer:
    """Build the recipe's Vision Transformer without a classifier, its initial weights from the global generator."""
    return VisionTransformer(**recipe.architecture.timm_arguments())


def pretrain(recipe: PretrainingRecipe, on_progress: ProgressCallback | None = None) -> dict[str, Tensor]:
    """Train the backbone and a linear classifier over the generator's labels, and drop the classifier.

    Args:
        recipe: all that decides the weights.
        on_progress: called after every hundredth step and the last with the steps done, the steps in all, and the
            mean loss (nats) of the steps since the call before.

    Returns:
        dict[str, Tensor]: the backbone's state, float32, by the names of the timm model with `num_classes=0`.
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        generator = torch.Generator().manual_seed(recipe.seed)
        prototypes = draw_prototypes(recipe.classes, generator)
        backbone = build_backbone(recipe)
        classifier = nn.Linear(recipe.architecture.width, prototypes.num_classes)
        model = nn.Sequential(backbone, classifier).train()

        def next_batch() -> tuple[Tensor, Tensor]:
            side = recipe.architecture.image_size_pixels
            return draw_batch(prototypes, recipe.variation, recipe.optimisation.batch_size, side, generator)

        _train(model, next_batch, recipe.optimisation, on_progress)
    return {name: tensor.detach().clone() for name, tensor in sorted(backbone.state_dict().items())}


def _train(
    model: nn.Module,
    next_batch: Callable[[], tuple[Tensor, Tensor]],
    optimisation: Optimisation,
    on_progress: ProgressCallback | None,
) -> None:
    """Run the steps; `next_batch` gives images in [0, 1], which the model sees in [-1, 1]."""
    optimiser = torch.optim.AdamW(_parameter_groups(model, optimisation.weight_decay), lr=optimisation.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_factor(step, optimisation))
    losses: list[float] = []
    for step in range(1, optimisation.num_steps + 1):
        images, labels = next_batch()
        loss = nn.functional.cross_entropy(model(images * 2.0 - 1.0), labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optimisation.max_gradient_norm)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % NUM_STEPS_PER_REPORT == 0 or step == optimisation.num_steps:
            _report(step, optimisation.num_steps, sum(losses) / len(losses), on_progress)
            losses.clear()


def _report(step: int, num_steps: int, mean_loss: float, on_progress: ProgressCallback | None) -> None:
    """Log the progress and tell the caller."""
    logger.info("pretraining step %d of %d: loss %.3f", step, num_steps, mean_loss)
    if on_progress is not None:
        on_progress(step, num_steps, mean_loss)


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split the parameters: matrices decay; biases, norms and the (1, tokens, width) embeddings do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim in (2, 4)]
    others = [parameter for parameter in model.parameters() if parameter.ndim not in (2, 4)]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def learning_rate_factor(step: int, optimisation: Optimisation) -> float:
    """Return the learning rate at a step (from 0) as a fraction of its peak: linear warm-up, then cosine to zero."""
    if step < optimisation.num_warmup_steps:
        return (step + 1) / optimisation.num_warmup_steps
    num_decay_steps = max(1, optimisation.num_steps - optimisation.num_warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * (step - optimisation.num_warmup_steps) / num_decay_steps))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run the body on one thread, since sums split over threads round otherwise; the count is restored after."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def write_weights(state: dict[str, Tensor], path: Path, recipe: PretrainingRecipe | None = None) -> None:
    """Write a state as safetensors, its keys sorted, the recipe's name and hash in its metadata.

    The file appears whole or not at all: it is written beside its place under a temporary name and then moved there.

    Args:
        state: the backbone's tensors by name.
        path: where the file goes; its folder exists.
        recipe: the recipe that gave the state, for the metadata; none is written without one.

    Raises:
        OSError: where the folder is missing or cannot be written.
    """
    metadata = {} if recipe is None else {"recipe": f"{recipe.name} sha256:{recipe.hash()}"}
    content = save({name: state[name].contiguous() for name in sorted(state)}, metadata=metadata)
    descriptor, temporary_name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary_path = Path(temporary_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        # `mkstemp` makes files for their owner alone; weights are for whoever may read the package.
        temporary_path.chmod(0o644)
        temporary_path.replace(path)
    except BaseException:
        temporary_path.unlink(missing_ok=True)
        raise
