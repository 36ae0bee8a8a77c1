"""Several adapted classifiers over one frozen backbone, as one module: frozen blocks run on the stacked batch.

On a CPU streams of many tokens are not stacked: what a block writes would not stay in its cache. Nor do several wait
for their gradients: each such member's are computed as soon as its loss is, and its activations make room for the next.

Members whose images are the same share their tokens up to the first adapter that either of them has; from there on each
has its own. So nothing is computed twice, and what a member computes is what it would compute alone, up to the rounding
of matrix products with more rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from benchmark.errors import TrialError
from benchmark.methods.parts.blocks import AdaptedBlock, AdaptedBranches, attention_branch, mlp_branch
from benchmark.training.early_loss import early_loss
from benchmark.training.model import NUM_PIXEL_DIMENSIONS, AdaptedClassifier, Depth
from benchmark.training.prefix import is_frozen

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer

POOLED_DIMENSIONS = 2

LEAST_APART_VALUES = 2**20
"""Of a stream's tokens on a CPU, 4 MiB, from which on it runs by itself (`python -m tests.performance.stacking`)."""


Criterion = Callable[[Tensor], Tensor]
"""From logits [batch, classes] to a loss []."""


@dataclass(frozen=True)
class _Stream:
    """Tokens that several members share.

    Attributes:
        tokens: [batch, tokens, width].
        members: Their indices.
    """

    tokens: Tensor
    members: tuple[int, ...]


class PackedClassifier(nn.Module):
    """Classifiers that are trained side by side; one alone is called as it is."""

    def __init__(self, members: Sequence[AdaptedClassifier]) -> None:
        """Take the members up.

        Args:
            members: Of equal backbones. Several must share their frozen tensors (`share_frozen`).
        """
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Sequence[Tensor], criteria: Sequence[Criterion] | None = None) -> list[Tensor]:
        """Return each member's loss; its logits [batch, classes] where there are no criteria.

        Args:
            inputs: One a member, as `AdaptedClassifier.forward` takes them; the same object where images are the same.
            criteria: One a member.
        """
        members = [cast("AdaptedClassifier", member) for member in self.members]
        if len(members) == 1:
            logits = [members[0](inputs[0])]
            return logits if criteria is None else [criteria[0](logits[0])]
        one_pass = _Pass(members, inputs, criteria)
        features = one_pass.features()
        outputs = {index: members[index].head(own) for index, own in features.items()}
        if criteria is not None:
            outputs = {index: criteria[index](logits) for index, logits in outputs.items()} | one_pass.early_losses
        return [outputs[index] for index in range(len(members))]


class _Pass:
    """One forward pass through all members."""

    def __init__(
        self, members: Sequence[AdaptedClassifier], inputs: Sequence[Tensor], criteria: Sequence[Criterion] | None
    ) -> None:
        self._members, self._criteria = members, criteria
        self.early_losses: dict[int, Tensor] = {}
        self._backbone = cast("VisionTransformer", members[0].backbone)
        self._blocks = [list(cast("VisionTransformer", member.backbone).blocks.children()) for member in members]
        self._features: dict[int, Tensor] = {}
        self._entering: dict[Depth, list[_Stream]] = {}
        for tokens, depth, indices in _distinct(members, inputs):
            if depth.is_pooled:
                self._features |= dict.fromkeys(indices, tokens)
            else:
                self._entering.setdefault(depth, []).append(_Stream(tokens, indices))

    def features(self) -> dict[int, Float[Tensor, "batch width"]]:
        """Return the pooled features of each member that has no early loss."""
        streams: list[_Stream] = []
        for number in range(len(self._blocks[0])):
            streams = self._through(number, streams + self._entering.get(Depth(number), []))
            for entering in self._entering.get(Depth(number, with_next_block=True), []):
                streams += self._behind(number, entering, entering.tokens)
        streams += self._entering.get(Depth(len(self._blocks[0])), [])
        for part in _alike(streams, _way):
            pooled = self._backbone.forward_head(self._backbone.norm(_stacked(part)))
            for stream, features in zip(part, _split(pooled, part), strict=True):
                self._features |= dict.fromkeys(stream.members, features)
        return self._features

    def _through(self, number: int, streams: Sequence[_Stream]) -> list[_Stream]:
        """Run a block. What needs no gradient runs apart, so that no graph is kept for it."""
        arrived: list[_Stream] = []
        by_kind = [part for stream in streams for part in self._by_kind(number, stream)]
        by_kind = [part for part in by_kind if not self._end_early_inside(number, part)]
        for part in _alike(by_kind, lambda stream: (*_way(stream), self._has_branches(number, stream))):
            if self._has_branches(number, part[0]):
                arrived += self._through_branches(number, part)
            else:
                outputs = _split(_inner(self._module(number, part[0]))(_stacked(part)), part)
                for stream, output in zip(part, outputs, strict=True):
                    arrived += self._behind(number, stream, output)
        return arrived

    def _by_kind(self, number: int, stream: _Stream) -> list[_Stream]:
        """Divide a stream where some members have adapters inside the block and others around it."""
        inside = tuple(m for m in stream.members if isinstance(self._blocks[m][number], AdaptedBranches))
        outside = tuple(m for m in stream.members if m not in inside)
        return [_Stream(stream.tokens, members) for members in (inside, outside) if members]

    def _behind(self, number: int, stream: _Stream, output: Tensor) -> list[_Stream]:
        """Let the members that have an adapter around this block go on by themselves."""
        adapted = {m: block for m in stream.members if isinstance(block := self._blocks[m][number], AdaptedBlock)}
        own = []
        for m, block in adapted.items():
            joined = functools.partial(block.joined, stream.tokens, output)
            if self._can_end_early(stream):
                self._end_early(m, number + 1, joined)
            else:
                own.append(_Stream(joined(), (m,)))
        rest = tuple(m for m in stream.members if m not in adapted)
        return own + ([_Stream(output, rest)] if rest else [])

    def _can_end_early(self, stream: _Stream) -> bool:
        """Whether nothing was trained in front of a stream, and what comes behind it would run apart in any case."""
        is_trained = stream.tokens.requires_grad or not torch.is_grad_enabled()
        return self._criteria is not None and not is_trained and _is_apart(stream)

    def _end_early_inside(self, number: int, stream: _Stream) -> bool:
        """Compute the losses of members that have adapters inside this block; each runs all of it by itself."""
        if not (self._has_branches(number, stream) and self._can_end_early(stream)):
            return False
        for m in stream.members:
            self._end_early(m, number, lambda: stream.tokens)
        return True

    def _end_early(self, m: int, number: int, entering: Callable[[], Tensor]) -> None:
        """Compute a member's loss, and its gradients, from what enters a block of its own."""
        assert self._criteria is not None
        member, criterion = self._members[m], self._criteria[m]

        def loss() -> Tensor:
            return criterion(member.head(member.rest(entering(), Depth(number))))

        self.early_losses[m] = early_loss(loss, [p for p in member.parameters() if p.requires_grad])

    def _through_branches(self, number: int, streams: Sequence[_Stream]) -> list[_Stream]:
        block: Any = _inner(self._module(number, streams[0]))
        for site, branch, norm in (("attention", attention_branch, block.norm1), ("mlp", mlp_branch, block.norm2)):
            outputs = _split(branch(block, _stacked(streams)), streams)
            pairs = list(zip(streams, outputs, strict=True))
            streams = [part for stream, output in pairs for part in self._joined(number, site, stream, output, norm)]
        return list(streams)

    def _joined(
        self, number: int, site: str, stream: _Stream, output: Tensor, norm: Callable[[Tensor], Tensor]
    ) -> list[_Stream]:
        blocks = {m: cast("AdaptedBranches", self._blocks[m][number]) for m in stream.members}
        adapted = {m: block for m, block in blocks.items() if site in block.adapters}
        own = [_Stream(block.joined(site, stream.tokens, output, norm), (m,)) for m, block in adapted.items()]
        rest = tuple(m for m in stream.members if m not in adapted)
        return own + ([_Stream(stream.tokens + output, rest)] if rest else [])

    def _has_branches(self, number: int, stream: _Stream) -> bool:
        return isinstance(self._module(number, stream), AdaptedBranches)

    def _module(self, number: int, stream: _Stream) -> nn.Module:
        return self._blocks[stream.members[0]][number]


def _distinct(
    members: Sequence[AdaptedClassifier], inputs: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Depth, tuple[int, ...]]]:
    """Yield each distinct input as tokens, with where it enters and whose it is."""
    owners: dict[tuple[int, Depth], list[int]] = {}
    for index, (member, given) in enumerate(zip(members, inputs, strict=True)):
        is_pixels = given.dim() == NUM_PIXEL_DIMENSIONS
        depth = Depth(0) if is_pixels else member.starts_at
        if depth is None:
            raise AssertionError("the model was not told where these inputs come from")
        owners.setdefault((id(given), depth), []).append(index)
    for (_, depth), indices in owners.items():
        given = inputs[indices[0]]
        is_pixels = given.dim() == NUM_PIXEL_DIMENSIONS
        yield (members[0].prefix(given, Depth(0)) if is_pixels else given), depth, tuple(indices)


def _way(stream: _Stream) -> tuple[bool, int | None]:
    """Return what is equal for streams that run as one: whether they need gradients; a large one has its own."""
    return stream.tokens.requires_grad, id(stream) if _is_apart(stream) else None


def _is_apart(stream: _Stream) -> bool:
    return runs_apart(stream.tokens.numel(), stream.tokens.device.type)


def runs_apart(num_values: int, device: str) -> bool:
    """Return whether a stream of so many tokens times width runs by itself, so that a pack keeps one's activations."""
    return device == "cpu" and num_values >= LEAST_APART_VALUES


def _alike(streams: Sequence[_Stream], key: Callable[[_Stream], Any]) -> list[list[_Stream]]:
    groups: dict[Any, list[_Stream]] = {}
    for stream in streams:
        groups.setdefault(key(stream), []).append(stream)
    return list(groups.values())


def _stacked(streams: Sequence[_Stream]) -> Tensor:
    return torch.cat([stream.tokens for stream in streams]) if len(streams) > 1 else streams[0].tokens


def _split(outputs: Tensor, streams: Sequence[_Stream]) -> tuple[Tensor, ...]:
    return outputs.split([len(stream.tokens) for stream in streams])


def _inner(block: nn.Module) -> nn.Module:
    """Return the pretrained block inside an adapted one."""
    return block.block if isinstance(block, AdaptedBlock | AdaptedBranches) else block


def can_be_packed(model: AdaptedClassifier) -> bool:
    """Return whether nothing but adapters around or inside its blocks tells a model from the pretrained one."""
    backbone, untouched = cast("VisionTransformer", model.backbone), model.untouched
    if type(backbone).__name__ != "VisionTransformer" or "forward" in vars(backbone):
        return False
    others = [module for name, module in backbone.named_children() if name != "blocks"]
    blocks = [_inner(block) for block in backbone.blocks.children()]
    own = backbone.named_parameters(recurse=False)
    return all(is_frozen(part, untouched) for part in (*others, *blocks)) and not any(p.requires_grad for _, p in own)


def share_frozen(first: AdaptedClassifier, other: AdaptedClassifier) -> None:
    """Let a model use another's frozen tensors instead of its own, which the caller knows to be equal.

    Raises:
        TrialError: More than adapters tells one of them from the pretrained model.
    """
    if not (can_be_packed(first) and can_be_packed(other)):
        raise TrialError("trials of one pack may differ from the pretrained model by adapters at its blocks alone")
    names = {id(tensor): name for name, tensor in other.frozen.items()}
    for module in other.backbone.modules():
        for key, parameter in module._parameters.items():
            if id(parameter) in names:
                module._parameters[key] = cast("nn.Parameter", first.frozen[names[id(parameter)]])
    other.frozen = dict(first.frozen)
