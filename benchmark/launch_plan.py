"""How a trial is spread over workers: everything that must not change its score."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from benchmark.errors import RequestError
from benchmark.spec import Frozen

DEFAULT_PREFIX_CACHE_BYTES = 2 * 2**30
"""What a rank keeps of the frozen part's outputs."""
DEFAULT_PREFIX_FILE_BYTES = 16 * 2**30
"""What a node keeps of one split's, in the cache folder, whose own cap holds too."""


class ComputeOptions(Frozen):
    """What changes the time or the memory of a trial, never its result beyond rounding; each can be turned off."""

    prefix_cache_bytes: int = Field(
        default=DEFAULT_PREFIX_CACHE_BYTES,
        ge=0,
        description="of the frozen part's outputs, kept by each worker from trial to trial; 0: none",
    )
    prefix_file_bytes: int = Field(
        default=DEFAULT_PREFIX_FILE_BYTES,
        ge=0,
        description="of one split's frozen outputs that a node may keep in a file: where memory does not do, and, on "
        "CPUs, where they take long to compute; 0: none",
    )
    cast_frozen_weights: bool = Field(
        default=True, description="whether frozen weights are held in the compute type, not cast again at each step"
    )
    explicit_attention: bool = Field(
        default=True, description="whether attention avoids torch's fused kernel where that is slower: bf16 on a CPU"
    )
    compile_blocks: bool = Field(
        default=False,
        description="whether blocks, and adapters around them, are compiled (torch.compile); costs a minute at first",
    )
    cuda_graphs: bool = Field(
        default=True,
        description="whether a GPU replays a step's passes where batches are small; not with masks or accumulation, "
        "nor for methods that do not pack",
    )
    checkpoint_activations: bool = Field(
        default=False, description="whether blocks are run again in the backward pass instead of keeping activations"
    )
    pack_bytes: int | None = Field(
        default=None, ge=0, description="that trials trained in one pass may take; none: 4 GiB, or 70 % of a GPU"
    )

    def compute_options(self) -> ComputeOptions:
        """Return these fields alone, where the object has more."""
        return ComputeOptions(**{name: getattr(self, name) for name in ComputeOptions.model_fields})


class LaunchPlan(ComputeOptions):
    """Workers, micro-batch and accumulation whose product is the global batch."""

    num_workers: int = Field(default=1, ge=1, description="data-parallel ranks of one trial")
    num_workers_asked: int | None = Field(
        default=None, ge=1, description="workers that were asked for, where the cluster held only fewer; else none"
    )
    micro_batch_images: int = Field(ge=1, description="images a rank pushes through at once")
    accumulation_steps: int = Field(ge=1, description="micro-batches per optimiser step")
    zero_stage: Literal[0] = Field(default=0, description="DeepSpeed ZeRO stage")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="what the ranks compute on")
    threads_per_worker: int = Field(default=1, ge=1, description="CPU threads of a rank's torch operations")

    num_reductions: int = Field(
        default=0, ge=0, description="how often the micro-batch was made smaller after memory had run out"
    )

    @property
    def global_batch_images(self) -> int:
        """Images per optimiser step: workers x accumulation x micro-batch."""
        return self.num_workers * self.accumulation_steps * self.micro_batch_images


def reduced(plan: LaunchPlan) -> LaunchPlan | None:
    """Return a plan of the same global batch that takes less memory; none where the micro-batch is one image.

    The micro-batch is halved (divided by its smallest factor where it is odd), and as many more of them make a step.
    What a rank keeps of frozen outputs is halved too.
    """
    micro_batch = plan.micro_batch_images
    factor = next((divisor for divisor in range(2, micro_batch + 1) if micro_batch % divisor == 0), None)
    if factor is None:
        return None
    return plan.model_copy(
        update={
            "micro_batch_images": micro_batch // factor,
            "accumulation_steps": plan.accumulation_steps * factor,
            "prefix_cache_bytes": plan.prefix_cache_bytes // 2,
            "num_reductions": plan.num_reductions + 1,
        }
    )


def plan_launch(
    global_batch_images: int,
    num_workers: int = 1,
    accumulation_steps: int = 1,
    zero_stage: Literal[0] = 0,
    device: Literal["cpu", "cuda"] = "cpu",
    threads_per_worker: int = 1,
    compute: ComputeOptions = ComputeOptions(),  # noqa: B008 -- frozen
) -> LaunchPlan:
    """Share a global batch among workers and accumulation steps.

    Raises:
        RequestError: The batch is not a multiple of workers x accumulation.
    """
    shares = num_workers * accumulation_steps
    if global_batch_images % shares:
        whole = [size for size in range(1, global_batch_images + 1) if global_batch_images % size == 0]
        around = [max(size for size in whole if size <= shares), *(size for size in whole if size > shares)][:2]
        raise RequestError(
            "training.global_batch_images",
            global_batch_images,
            f"the global batch must be a multiple of workers x accumulation = {num_workers} x {accumulation_steps}",
            f"The nearest that fits: {max(shares, round(global_batch_images / shares) * shares)}. "
            f"Or leave it as it is, and let workers x accumulation be {' or '.join(map(str, around))}.",
        )
    return LaunchPlan(
        num_workers=num_workers,
        micro_batch_images=global_batch_images // shares,
        accumulation_steps=accumulation_steps,
        zero_stage=zero_stage,
        device=device,
        threads_per_worker=threads_per_worker,
        **compute.compute_options().model_dump(),
    )


def with_fewer_workers(plan: LaunchPlan, num_workers: int) -> LaunchPlan | None:
    """Return a plan of the same global batch for fewer workers, with more accumulation; none where it cannot be.

    No worker gets a larger micro-batch than it had, so that it fits into the same memory.
    """
    images_per_worker, rest = divmod(plan.global_batch_images, num_workers)
    if rest:
        return None
    micro_batch_images = next(size for size in range(plan.micro_batch_images, 0, -1) if images_per_worker % size == 0)
    return plan.model_copy(
        update={
            "num_workers": num_workers,
            "num_workers_asked": plan.num_workers_asked or plan.num_workers,
            "micro_batch_images": micro_batch_images,
            "accumulation_steps": images_per_worker // micro_batch_images,
        }
    )
