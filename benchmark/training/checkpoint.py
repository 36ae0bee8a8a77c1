"""The state a trial resumes from, and the weights it leaves, as safetensors bytes: no code is ever loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor

from benchmark.result import EpochRecord, Scores

_MODEL, _SELECTED, _MOMENTS = "model/", "selected/", "moments/"


@dataclass
class TrialState:
    """Where a trial stands after an epoch.

    Attributes:
        trial_id: Whose state it is.
        records: One a finished epoch, epoch 0 included.
        first_step_losses: Of the first 100 optimiser steps.
        selected_epoch: Whose weights would be tested now; none before the first epoch.
        selected_scores: Validation scores at that epoch.
        selected: Trainable tensors at that epoch, by name.
        model: Trainable tensors now, by name.
        moments: The optimiser's state, by parameter name.
    """

    trial_id: str
    records: list[EpochRecord] = field(default_factory=list)
    first_step_losses: list[float] = field(default_factory=list)
    selected_epoch: int | None = None
    selected_scores: Scores | None = None
    selected: dict[str, Tensor] = field(default_factory=dict)
    model: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)

    @property
    def num_finished_epochs(self) -> int:
        """Epochs of training that are behind; 0 also when only epoch 0 was measured."""
        return self.records[-1].epoch if self.records else 0

    def to_bytes(self) -> bytes:
        """Return the state as safetensors."""
        groups = ((_MODEL, self.model), (_SELECTED, self.selected), (_MOMENTS, self.moments))
        tensors = {prefix + name: tensor for prefix, group in groups for name, tensor in group.items()}
        facts = {
            "trial_id": self.trial_id,
            "records": [record.model_dump() for record in self.records],
            "first_step_losses": self.first_step_losses,
            "selected_epoch": self.selected_epoch,
            "selected_scores": self.selected_scores.model_dump() if self.selected_scores else None,
        }
        return weights_to_bytes(tensors, {"state": json.dumps(facts)})

    @classmethod
    def from_bytes(cls, content: bytes) -> TrialState:
        """Return the state from safetensors."""
        tensors = safetensors.torch.load(content)
        facts = json.loads(read_metadata(content)["state"])
        groups = {
            prefix: {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            for prefix in (_MODEL, _SELECTED, _MOMENTS)
        }
        return cls(
            trial_id=facts["trial_id"],
            records=[EpochRecord.model_validate(record) for record in facts["records"]],
            first_step_losses=facts["first_step_losses"],
            selected_epoch=facts["selected_epoch"],
            selected_scores=Scores.model_validate(facts["selected_scores"]) if facts["selected_scores"] else None,
            selected=groups[_SELECTED],
            model=groups[_MODEL],
            moments=groups[_MOMENTS],
        )


def weights_to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return tensors as safetensors, copied to the CPU."""
    # By way of numpy: safetensors' torch writer searches for shared storage at every call, which trained parameters
    # do not have, and that takes longer than an epoch's evaluation of a small model.
    arrays = {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}
    return safetensors.numpy.save(arrays, metadata)


def read_metadata(content: bytes) -> dict[str, str]:
    """Return the metadata of safetensors bytes: an 8-byte little-endian length, then a JSON header."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata


def snapshot(tensors: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """Return copies of parameters that later steps do not change."""
    return {name: parameter.detach().cpu().clone() for name, parameter in tensors.items()}


@torch.no_grad()
def restore(parameters: dict[str, torch.nn.Parameter], tensors: dict[str, Tensor]) -> None:
    """Copy saved tensors into parameters of the same names.

    Raises:
        ValueError: The names differ.
    """
    if parameters.keys() != tensors.keys():
        difference = sorted(parameters.keys() ^ tensors.keys())
        raise ValueError(f"the checkpoint holds other parameters than the model: {', '.join(difference[:5])}")
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
