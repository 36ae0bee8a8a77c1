"""The recipe of a pretraining: architecture, images and optimisation, read from YAML."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.errors import RequestError, nearest

RECIPES_FOLDER = Path(__file__).parent / "recipes"


class _Frozen(BaseModel):
    """A part of a recipe: immutable, and no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Frozen):
    """The arguments of the timm `VisionTransformer` that is pretrained (CLS token, no classifier)."""

    image_size_pixels: int = Field(gt=0, description="Side of the square input images, in pixels.")
    patch_size_pixels: int = Field(gt=0, description="Side of a patch, in pixels; divides the image size.")
    width: int = Field(gt=0, description="Width of the tokens.")
    num_blocks: int = Field(gt=0, description="Number of transformer blocks.")
    num_heads: int = Field(gt=0, description="Number of attention heads; divides the width.")
    mlp_ratio: float = Field(gt=0, description="Hidden width of a block's perceptron, as a multiple of the width.")

    @model_validator(mode="after")
    def _check_divisors(self) -> "Architecture":
        if self.image_size_pixels % self.patch_size_pixels:
            raise ValueError("patch_size_pixels must divide image_size_pixels")
        if self.width % self.num_heads:
            raise ValueError("num_heads must divide width")
        return self

    def timm_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of timm's `VisionTransformer`: `Any`, since each has a type of its own."""
        return {
            "img_size": self.image_size_pixels,
            "patch_size": self.patch_size_pixels,
            "in_chans": 3,
            "num_classes": 0,
            "global_pool": "token",
            "class_token": True,
            "embed_dim": self.width,
            "depth": self.num_blocks,
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
        }


class PrototypeCounts(_Frozen):
    """How many classes each family of images has."""

    num_stroke_classes: int = Field(ge=0, description="Classes made of random pen strokes (quadratic Bezier curves).")
    num_fractal_classes: int = Field(ge=0, description="Classes made of random iterated function systems.")
    num_blob_classes: int = Field(ge=0, description="Classes made of filled random outlines.")
    num_grating_classes: int = Field(ge=0, description="Classes made of sine gratings (orientation and frequency).")


class ImageVariation(_Frozen):
    """How far an image may be from its class's prototype; lengths where the image's half side is 1."""

    max_rotation_degrees: float = Field(ge=0, description="Largest rotation either way, in degrees.")
    min_scale: float = Field(gt=0, description="Smallest scale of the prototype, for each axis alone.")
    max_scale: float = Field(gt=0, description="Largest scale of the prototype, for each axis alone.")
    max_shear: float = Field(ge=0, description="Largest horizontal shear either way.")
    max_shift: float = Field(ge=0, description="Largest shift either way, for each axis.")
    jitter: float = Field(ge=0, description="Standard deviation of the control points' noise; relative for the rest.")
    min_stroke_radius: float = Field(gt=0, description="Smallest half width of a stroke.")
    max_stroke_radius: float = Field(gt=0, description="Largest half width of a stroke.")
    min_edge_softness: float = Field(gt=0, description="Sharpest edge of strokes and outlines.")
    max_edge_softness: float = Field(gt=0, description="Softest edge of strokes and outlines.")
    inverted_fraction: float = Field(ge=0, le=1, description="Fraction of the images drawn dark on light.")
    tint: float = Field(ge=0, description="Standard deviation of a colour's distance from grey, per channel.")
    noise: float = Field(ge=0, description="Standard deviation of the pixel noise, on values from 0 to 1.")


class Optimisation(_Frozen):
    """AdamW with a linear warm-up and a cosine decay to zero, on the cross-entropy of the generator's labels."""

    num_steps: int = Field(gt=0, description="Number of optimiser steps, one batch of fresh images each.")
    batch_size: int = Field(gt=0, description="Images in a batch.")
    learning_rate: float = Field(gt=0, description="Peak learning rate.")
    num_warmup_steps: int = Field(ge=0, description="Steps over which the learning rate rises to its peak.")
    weight_decay: float = Field(ge=0, description="Decoupled weight decay, on matrices only.")
    max_gradient_norm: float = Field(gt=0, description="Norm to which the gradient is clipped.")


class PretrainingRecipe(_Frozen):
    """All that decides a pretrained backbone's weights."""

    name: str = Field(min_length=1, description="The backbone's name.")
    seed: int = Field(ge=0, description="Seed of the prototypes, the images and the initial weights.")
    architecture: Architecture = Field(description="What is pretrained.")
    classes: PrototypeCounts = Field(description="What the images' classes are.")
    variation: ImageVariation = Field(description="How images of one class differ.")
    optimisation: Optimisation = Field(description="How the weights are trained.")

    def hash(self) -> str:
        """Return the SHA-256 of the recipe's canonical JSON, in hexadecimal."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def recipe_path(name: str) -> Path:
    """Return the file of a bundled recipe.

    Raises:
        RequestError: where no recipe has this name.
    """
    known = sorted(path.stem for path in RECIPES_FOLDER.glob("*.yaml"))
    if name not in known:
        raise RequestError("recipe", name, "a bundled recipe is needed", nearest(name, known))
    return RECIPES_FOLDER / f"{name}.yaml"


def load_recipe(path: Path) -> PretrainingRecipe:
    """Read a recipe from a YAML file.

    Raises:
        RequestError: where the file is no YAML mapping, or a key is missing, unknown or out of its range.
    """
    try:
        return PretrainingRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise RequestError(str(path), "text that is no YAML", "a recipe is a YAML mapping") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise RequestError(f"{path.name}: {where}", first["input"], first["msg"]) from error
