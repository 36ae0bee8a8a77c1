"""The options of prompt methods."""

from __future__ import annotations

from pydantic import Field

from benchmark.spec import Frozen


class PromptOptions(Frozen):
    """How many prompts, and their dropout."""

    num_prompts: int = Field(default=10, ge=1, description="prompt tokens a layer")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of the prompts' elements")
