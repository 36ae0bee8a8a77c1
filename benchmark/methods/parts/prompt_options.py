"""The options of prompt methods."""

from __future__ import annotations

from pydantic import Field

from benchmark.spec import Frozen

MATCHED_PROMPTS = range(1, 1025)
"""How many prompts a parameter budget may choose; attention's cost grows with their square."""


class PromptOptions(Frozen):
    """How many prompts, and their dropout."""

    num_prompts: int = Field(default=10, ge=1, description="prompt tokens a layer")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of the prompts' elements")
