"""Samples for ArviZ: a DataTree with its standard groups, with every replicate of a run as a chain."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dvae_core.errors import ConfigError
from dvae_core.extras import extra_module
from dvae_core.versions import __version__

from ..results import LogZResult, Result
from .sampled import SampledStates

# Number of chains for independent states: ArviZ compares several.
EXACT_CHAINS = 4
Group = dict[str, tuple[tuple[str, ...], Any]]


def to_arviz(found: SampledStates | Result) -> Any:
    """Return samples of a machine, or the replicates of an estimate of log Z, in the format of ArviZ.

    For samples, the group `posterior` has `x`, the units' values, with the dimensions (chain, draw, unit).  The
    group `sample_stats` has the log-probability `lp` of every state, nats, and its `energy`: minus the log of its
    unnormalised probability, divided by β.  A chain is a replicate of the tempered run; the last draws are left
    out if some replicates lack them.  Independent states, drawn exactly, are divided into four chains.

    For an estimate of log Z, chains are replicates as well, with one draw each: `log_z` in `posterior`, and the
    replicate's round trips in `sample_stats`.

    The root's attributes describe the origin of the numbers: verdict, method, seed, log Z with its error, and the
    digest of the machine.

    Parameters
    ----------
    found : SampledStates or LogZResult
        From `sample_states` or `load_states`, or from `estimate_log_z` with replicates.

    Returns
    -------
    xarray.DataTree
        For `arviz.ess`, `arviz.summary` and `arviz.plot_rank` since ArviZ 1.0; for earlier versions, convert it by
        `arviz.from_datatree` first.

    Raises
    ------
    ConfigError
        If xarray is not installed, or the result has no replicates.

    Examples
    --------
    >>> import numpy as np
    >>> from dvae_eval import sample_states
    >>> states = sample_states((np.ones((3, 2)), np.zeros(3), np.zeros(2)), 100)
    >>> to_arviz(states)["posterior"]["x"].sizes["chain"]
    4
    """
    xarray = extra_module("xarray", "arviz", "to_arviz")
    if isinstance(found, SampledStates):
        posterior, stats, coords = _of_states(found)
    elif isinstance(found, LogZResult):
        posterior, stats, coords = _of_replicates(found)
    else:
        raise ConfigError(
            f"to_arviz: a {type(found).__name__} contains no samples; give states or an estimate of log Z"
        )
    library = {"inference_library": "dvae-toolkit", "inference_library_version": __version__}
    groups = {
        f"/{name}": _numbered(xarray.Dataset(group, coords=of_group, attrs=library))
        for name, group, of_group in (("posterior", posterior, coords), ("sample_stats", stats, {}))
        if group
    }
    tree = xarray.DataTree.from_dict(groups)
    tree.attrs.update({**library, **_provenance(found)})
    return tree


def netcdf_bytes(tree: Any) -> bytes:
    """Return the content of a netCDF file for a tree from `to_arviz`; ConfigError without h5netcdf."""
    extra_module("h5netcdf", "arviz", "netCDF")
    packed = {f"/{name}": {v: {"zlib": True} for v in group.data_vars} for name, group in tree.children.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree.nc"
        tree.to_netcdf(path, engine="h5netcdf", encoding=packed)
        return path.read_bytes()


def _numbered(group: Any) -> Any:
    """Return a group with numbered chains and draws as coordinates, as ArviZ expects."""
    return group.assign_coords({name: np.arange(group.sizes[name]) for name in ("chain", "draw")})


def _of_states(found: SampledStates) -> tuple[Group, Group, dict[str, Any]]:
    """Return posterior, statistics and names of units of samples."""
    n_chains = min(int(found.diagnostics.get("states", {}).get("n_replicates", EXACT_CHAINS)), found.n_states)
    n_draws = found.n_states // n_chains

    def chains(values: Any) -> Any:
        """Return values of all states as (chain, draw, ...); they are stored draw by draw, replicates in turn."""
        return np.swapaxes(values[: n_draws * n_chains].reshape(n_draws, n_chains, *values.shape[1:]), 0, 1)

    energy = -(found.log_p + found.log_z) / found.energy_scale
    stats: Group = {"lp": (("chain", "draw"), chains(found.log_p)), "energy": (("chain", "draw"), chains(energy))}
    return {"x": (("chain", "draw", "unit"), chains(found.states))}, stats, {"unit": found.names}


def _of_replicates(found: LogZResult) -> tuple[Group, Group, dict[str, Any]]:
    """Return the estimate and the round trips of every replicate."""
    if not found.repeats:
        raise ConfigError("to_arviz: an exact log Z has no replicates; give one with method='pt-bar', or samples")
    values = np.array(found.repeats, np.float64)[:, None]
    trips = np.array(found.diagnostics.get("round_trips", []))
    stats: Group = {"round_trips": (("chain", "draw"), trips[:, None])} if len(trips) == len(values) else {}
    return {"log_z": (("chain", "draw"), values)}, stats, {}


def _provenance(found: SampledStates | LogZResult) -> dict[str, Any]:
    """Return the origin of the numbers as attributes of netCDF: texts and numbers."""
    attributes = {
        "verdict": found.verdict,
        "method": found.method,
        "seed": str(found.seed),  # it may exceed a signed integer
        "log_z": found.log_z,
        "log_z_std_err": found.std_err,
        "command": " ".join(found.command),
        "machine": str(found.model.get("file", "")),
        "machine_sha256": str(found.model.get("prior_sha256", "")),
        "effective_states": found.diagnostics.get("states", {}).get("effective_states"),
    }
    return {name: value for name, value in attributes.items() if value not in (None, "")}
