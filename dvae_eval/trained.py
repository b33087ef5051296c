"""A trained model for the estimators: the Boltzmann machine in its prior, and its description in results."""

from __future__ import annotations

from typing import Any

import torch

from dvae_core.model.rbm import RBM
from dvae_core.training.checkpoint import TrainedModel
from dvae_core.types import Float

from .machine import BipartiteMachine, Machine, machine_from_couplings


def machine_of(trained: TrainedModel) -> Machine:
    """Return the prior of a trained model as arrays."""
    prior = trained.model.prior
    if isinstance(prior, RBM):
        return BipartiteMachine.from_arrays(*map(_array, (prior.W, prior.b_left, prior.b_right)))
    return machine_from_couplings(_array(prior.couplings()), _array(prior.biases()))


def _array(tensor: torch.Tensor) -> Float:
    """Return a tensor as a float64 array."""
    array: Float = tensor.detach().cpu().double().numpy()
    return array


def model_description(trained: TrainedModel) -> dict[str, Any]:
    """Return the description of a trained model in a result: file, digests and sizes."""
    return {
        "file": str(trained.path),
        "sha256": trained.sha256,
        "dataset": trained.config.dataset,
        **machine_of(trained).description(),
    }
