"""The axes of the bottleneck family as options; each was added after the first release, so a default leaves ids alone.

A method of the family redeclares the axes whose default is its own, and narrows those it fixes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from benchmark.backbones.contract import BackboneInfo
from benchmark.errors import Problem
from benchmark.methods.contract import BottleneckOptions
from benchmark.spec import ADDED_LATER

Activation = Literal["gelu", "relu", "quick_gelu", "none"]
Scale = Annotated[float, Field(gt=0)] | Literal["learned", "channel"]
LayerNormPosition = Literal["none", "in", "out"]
Site = Literal["block", "attention", "mlp"]

NONLINEAR = "a nonlinearity stands between its projections"
"""Why a bottleneck is not mergeable."""

IDENTITY_AT_START = {
    "zero": True,
    "lora": True,
    "small": False,
    "houlsby": False,
    "bert": False,
    "xavier": False,
}
"""Whether an initialisation starts exactly at the pretrained function."""


class BottleneckAxes(BottleneckOptions):
    """What may vary inside a bottleneck."""

    activation: Activation = Field(
        default="gelu", description="nonlinearity between the projections", json_schema_extra=dict(ADDED_LATER)
    )
    scale: Scale = Field(
        default=1.0,
        description="factor on the correction: a number, or learned from 1, one for all or one a channel",
        json_schema_extra=dict(ADDED_LATER),
    )
    layer_norm: LayerNormPosition = Field(
        default="none",
        description="the adapter's own LayerNorm, before or behind it",
        json_schema_extra=dict(ADDED_LATER),
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="of the bottleneck's activations", json_schema_extra=dict(ADDED_LATER)
    )
    drop_path: float = Field(
        default=0.0, ge=0, lt=1, description="of an image's whole correction", json_schema_extra=dict(ADDED_LATER)
    )

    @property
    def starts_at_identity(self) -> bool:
        """Whether the correction is exactly zero at the start."""
        return IDENTITY_AT_START[self.init]

    def count_bottleneck(self, width: int) -> int:
        """Return a bottleneck's parameters: `2dr + r + d`, its scale, its LayerNorm."""
        scale = {"learned": 1, "channel": width}.get(str(self.scale), 0)
        return 2 * width * self.rank + self.rank + width + scale + (0 if self.layer_norm == "none" else 2 * width)


class SitedBottleneckOptions(BottleneckAxes):
    """The axes of AdapterTune: those of a bottleneck, and where in the block it sits."""

    site: Site = Field(
        default="block", description="behind which part of a block it sits", json_schema_extra=dict(ADDED_LATER)
    )
    form: Literal["sequential", "parallel"] = Field(
        default="sequential",
        description="reads the part's output, or the part's input and adds to its output",
        json_schema_extra=dict(ADDED_LATER),
    )
    residual_add: Literal["before", "after"] = Field(
        default="after",
        description="a sequential one sits before or after the residual add",
        json_schema_extra=dict(ADDED_LATER),
    )

    def check(self, backbone: BackboneInfo) -> list[Problem]:
        """Return what does not fit the backbone, and combinations that mean nothing or that another name has."""
        return [*super().check(backbone), *self._check_site()]

    def _check_site(self) -> Iterable[Problem]:
        if self.residual_add == "before" and self.form == "parallel":
            rule = "a parallel adapter is added at the residual add itself, neither before nor after it"
            yield Problem("residual_add", "before", rule, "Leave it out, or use form: sequential.")
        elif self.residual_add == "before" and self.site == "block":
            rule = "a whole block has no residual add behind it"
            yield Problem("residual_add", "before", rule, "Use site: attention or site: mlp.")
        elif (self.site, self.form, self.residual_add) == ("mlp", "sequential", "after"):
            yield Problem("site", "mlp", "behind the MLP's residual add is behind the block", "Use site: block.")
