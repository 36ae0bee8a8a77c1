"""How adapters are put into timm's blocks: behind a block, or at its attention and MLP branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block, ResPostBlock
from torch import Tensor, nn

from benchmark.errors import RequestError

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer

Join = Literal["before", "after", "parallel", "parallel_normed"]


class AdaptedBlock(nn.Module):
    """A frozen block with a residual adapter: `y + adapter(y)` with `y = block(x)`, or `y + adapter(x)` in parallel."""

    def __init__(self, block: nn.Module, adapter: nn.Module, is_parallel: bool = False) -> None:
        """Keep the block as it is and put the adapter behind or beside it."""
        super().__init__()
        self.block = block
        self.adapter = adapter
        self.is_parallel = is_parallel

    def forward(self, x: Float[Tensor, "batch tokens width"], **options: Any) -> Float[Tensor, "batch tokens width"]:
        """Return the adapted output of the block."""
        return self.joined(x, self.block(x, **options))

    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the adapted output, given the block's input `x` and output `y`, both [batch, tokens, width]."""
        return y + self.adapter(x if self.is_parallel else y)


class AdaptedBranches(nn.Module):
    """A frozen block whose attention or MLP branch has an adapter.

    With `b` the branch's output (after LayerScale) and `x` its input: `before`: x + (b + A(b)); `after`: u + A(u) with
    u = x + b; `parallel`: (x + b) + A(x); `parallel_normed`: (x + b) + A(LN x).
    """

    def __init__(self, block: nn.Module, adapters: dict[str, nn.Module], join: Join) -> None:
        """Keep the block as it is.

        Args:
            block: A pre-norm or residual-post-norm block of timm.
            adapters: By branch: `attention`, `mlp`.
            join: How each adapter meets its branch.
        """
        super().__init__()
        self.block = block
        self.adapters = nn.ModuleDict(adapters)
        self.join = join

    def forward(self, x: Float[Tensor, "batch tokens width"], **options: Any) -> Float[Tensor, "batch tokens width"]:
        """Return the adapted output of the block."""
        block: Any = self.block
        x = self.joined("attention", x, attention_branch(block, x, **options), block.norm1)
        return self.joined("mlp", x, mlp_branch(block, x), block.norm2)

    def joined(self, site: str, x: Tensor, branch: Tensor, norm: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what follows a branch, given its input and output, both [batch, tokens, width].

        Args:
            site: `attention` or `mlp`.
            x: The branch's input.
            branch: Its output, after LayerScale.
            norm: The LayerNorm in front of the branch.
        """
        if site not in self.adapters:
            return x + branch
        adapter = self.adapters[site]
        if self.join == "before":
            return x + (branch + adapter(branch))
        y = x + branch
        if self.join == "after":
            return y + adapter(y)
        return y + adapter(norm(x) if self.join == "parallel_normed" else x)


def attention_branch(block: Any, x: Tensor, **options: Any) -> Tensor:
    """Return the attention branch's output after LayerScale, for tokens [batch, tokens, width]."""
    if isinstance(block, ResPostBlock):
        return block.drop_path1(block.norm1(block.attn(x, **options)))
    return block.drop_path1(block.ls1(block.attn(block.norm1(x), **options)))


def mlp_branch(block: Any, x: Tensor) -> Tensor:
    """Return the MLP branch's output after LayerScale, for tokens [batch, tokens, width]."""
    if isinstance(block, ResPostBlock):
        return block.drop_path2(block.norm2(block.mlp(x)))
    return block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def require_standard_blocks(backbone: VisionTransformer, method: str, pre_norm_only: bool = False) -> None:
    """Refuse a backbone whose blocks a method's definition does not cover.

    Args:
        backbone: Before anything is attached.
        method: The method's public name.
        pre_norm_only: Whether residual-post-norm blocks are refused too.

    Raises:
        RequestError: A block is of another kind, or its attention or MLP is.
    """
    kinds: tuple[type, ...] = (Block,) if pre_norm_only else (Block, ResPostBlock)
    for number, block in enumerate(backbone.blocks):
        _require(method, f"block {number}", block, kinds)
        _require(method, f"the attention of block {number}", block.attn, (Attention,))
        _require(method, f"the MLP of block {number}", block.mlp, (Mlp,))


def _require(method: str, part: str, module: object, kinds: tuple[type, ...]) -> None:
    if type(module) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        rule = f"it is defined for timm's {names}; {part} of this backbone is {type(module).__name__}"
        raise RequestError("method.name", method, rule, "Choose another backbone or method.")
