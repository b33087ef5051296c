"""State dicts: named tensors of a model, or of a part of one, in a file of PyTorch or safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.types import Float

from ..machine import real_array
from .arrays import BIASES, WEIGHTS, read_arrays
from .options import ReadConfig, Reading, from_bonds

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NESTED", "read_tensors"]

NESTED = ("state_dict", "model_state_dict", "model", "params", "rbm", "net", "weights")
# GraphRestrictedBoltzmannMachine since version 0.2 of D-Wave's plugin, and in 0.1.
GRAPH_RESTRICTED = (
    ("_linear", "_quadratic", "_edge_idx_i", "_edge_idx_j"),
    ("h", "J", "edge_idx_i", "edge_idx_j"),
)


def read_tensors(tensors: Mapping[str, Any], config: ReadConfig, format: str) -> Reading:
    """Return the machine of a state dict: of the one module in it, if there are several, that is a machine.

    Parameters
    ----------
    tensors : dict of tensors
        Names of modules with dots between them.  A module is a machine if it has W and biases, J and b, or is a
        GraphRestrictedBoltzmannMachine of D-Wave's plugin.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        prefix, _, last = str(name).rpartition(".")
        if hasattr(tensor, "untyped_storage"):
            modules.setdefault(prefix, {})[last] = tensor
    machines = [prefix for prefix, held in modules.items() if _is_machine(held)]
    if len(machines) != 1:
        names = ", ".join(sorted(map(str, tensors))[:8]) or "nothing"
        found = f"holds {len(machines)} machines" if machines else "holds no machine"
        raise DataError(f"{found} ({names[:200]}); save one, as W, b_left and b_right, or J and b")
    held = modules[machines[0]]
    graph_restricted = next((names for names in GRAPH_RESTRICTED if held.keys() >= set(names)), None)
    if graph_restricted:
        return _graph_restricted(held, graph_restricted, config, format)
    weights = next(name for name in (*WEIGHTS, "J") if name in held)
    dtype = str(held[weights].dtype).removeprefix("torch.")
    return read_arrays({name: _array(name, tensor) for name, tensor in held.items()}, config, format, dtype)


def _is_machine(held: Mapping[str, Any]) -> bool:
    """Say whether a module's tensors make a machine."""
    names = set(held)
    return (
        any(names.issuperset(needed) for needed in GRAPH_RESTRICTED)
        or bool(names.intersection(WEIGHTS) and len(names.intersection(BIASES)) > 1)
        or {"J", "b"} <= names
    )


def _graph_restricted(
    held: Mapping[str, Tensor], names: tuple[str, str, str, str], config: ReadConfig, format: str
) -> Reading:
    """Return the machine of p(s) ∝ exp(-β (h's + Σ_(i,j) J_ij s_i s_j)), s in {-1,+1}.

    The sign is that of its training: `quasi_objective` descends mean E(data) - mean E(model), and the mean of a
    hidden spin is -tanh of its field.  β is 1 unless the option says otherwise: samplers are handed the
    parameters divided by their own β, so that what they draw has β = 1.
    """
    config.reject_unused("D-Wave's plugin", "beta")
    h, J, i, j = (_array(name, held[name]) for name in names)
    if i.dtype.kind not in "iu" or j.dtype.kind not in "iu" or i.ndim != 1 or i.shape != j.shape:
        raise DataError(f"{names[2]} and {names[3]} are no lists of nodes; save the state dict anew")
    h, J = real_array(names[0], h), real_array(names[1], J)
    if "h_range" in held and "j_range" in held:  # version 0.1 clips before it evaluates
        h = np.clip(h, *_range(held["h_range"]))
        J = np.clip(J, *_range(held["j_range"]))
    description = {
        "format": f"D-Wave GraphRestrictedBoltzmannMachine ({format})",
        "units": "pm1",
        "dtype": str(held[names[1]].dtype).removeprefix("torch."),
        "beta": config.beta,
    }
    return from_bonds(np.column_stack((i, j)), -config.beta * J, -config.beta * h, 0.0, description)


def _range(tensor: Tensor) -> Float:
    """Return the least and the largest value of a parameter, which may be infinite."""
    limits: Float = _array("range", tensor).astype(np.float64)
    if limits.shape != (2,) or not limits[0] <= limits[1]:
        raise DataError("has a range of parameters that is none; save the state dict anew")
    return limits


def _array(name: str, tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array; types that NumPy lacks become float64."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise DataError(f"{name} is sparse, quantised or not on the CPU; save it with .to_dense().cpu()")
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    return tensor.resolve_conj().resolve_neg().numpy()
