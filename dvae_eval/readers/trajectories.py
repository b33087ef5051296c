"""Machines along a training, from a run of this project, an archive of updates, or a list of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import ConfigError, DataError
from dvae_core.io.containers import read_npz, reading
from dvae_core.training.run_directory import TRAJECTORY

from ..machine import BipartiteMachine
from ..trajectory import Trajectory
from . import hdf5
from .clamping import with_clamped
from .options import ReadConfig, Reading
from .registry import named_errors, read_machine

ARRAYS = ("steps", "steps_per_epoch", "W", "b_left", "b_right")


def read_trajectory(
    paths: Sequence[str | os.PathLike[str]], config: ReadConfig | None = None
) -> tuple[Reading, Trajectory]:
    """Return the final machine of a training, and the trajectory that leads to it and includes it.

    Parameters
    ----------
    paths : sequence of str or path
        The model.pt of a run, with `prior-trajectory.npz` in the same directory; or an archive of the rbms package
        or of CaloQuVAE, of which all updates up to the requested one are read; or several files, oldest first.
    config : ReadConfig, optional
        Options for what the files do not determine.

    Raises
    ------
    DataError, ConfigError
        If a file cannot be read, the machines are not RBMs of one shape, or a single file contains no training.
    """
    files, config = [Path(path) for path in paths], config or ReadConfig()
    if len(files) > 1:
        return _of_files(files, config)
    (path,) = files
    last = read_machine(path, config)
    if last.description.get("format") == "dvae-model":
        return last, _of_run(path, last)
    if "update" in last.description:
        return last, _of_archive(path, config)
    raise ConfigError(
        f"--path: {path} contains no training; give a run, an archive of updates, or several files, oldest first"
    )


def _of_files(paths: Sequence[Path], config: ReadConfig) -> tuple[Reading, Trajectory]:
    """Return the last machine of several files, and the trajectory of all of them."""
    found = [read_machine(path, config) for path in paths]
    last = found[-1]
    last.description["trajectory"] = [str(path) for path in paths[:-1]]
    return last, Trajectory.of([one.machine for one in found], constants=[one.constant for one in found])


def _of_archive(path: Path, config: ReadConfig) -> Trajectory:
    """Return the trajectory of an archive up to the requested update."""
    found = read_updates(path, config)
    steps = [int(one.description["update"]) for one in found]
    return Trajectory.of([one.machine for one in found], steps, [one.constant for one in found])


def read_updates(path: str | os.PathLike[str], config: ReadConfig | None = None) -> list[Reading]:
    """Return the machines of an archive at all its updates or epochs, up to the requested one, in order.

    Raises
    ------
    DataError, ConfigError
        As `read_machine`, and if the file is not an archive of updates.
    """
    path, config = Path(path), config or ReadConfig()
    last = read_machine(path, config)
    if "update" not in last.description:
        raise ConfigError(f"--all-updates: {path} is not an archive of updates; leave the option out")
    with named_errors(path), reading(path, "HDF5"), np.errstate(all="ignore"):
        found = hdf5.read_updates(path, config)
        found = [with_clamped(one, Path(config.clamp)) for one in found] if config.clamp else found
    for one in found:
        one.description.update(file=str(path), sha256=last.description["sha256"], constant=one.constant)
    return found


def _of_run(path: Path, last: Reading) -> Trajectory:
    """Return the trajectory of a run's priors, up to the epoch of its model, with the model's own prior last."""
    file = path.parent / TRAJECTORY
    if not isinstance(last.machine, BipartiteMachine):
        raise ConfigError("--path: the prior is a general machine, but a trajectory needs RBMs; leave --path out")
    if not file.exists():
        raise DataError(
            f"{file}: no such file; runs of earlier versions and those with --no-trajectory kept no priors; leave "
            "--path out, or train again"
        )
    return read_priors(file, last.machine, _epoch(path))


def read_priors(file: Path, machine: BipartiteMachine, epoch: int) -> Trajectory:
    """Return the trajectory of the priors in a `prior-trajectory.npz` before the end of an epoch, and `machine`.

    Raises
    ------
    DataError
        If the file is damaged, or its priors have another shape than the machine.
    """
    arrays = read_npz(file, ARRAYS)
    _check(file, arrays, machine)
    step = epoch * int(arrays["steps_per_epoch"])
    earlier = np.flatnonzero(arrays["steps"] < step)
    with named_errors(file):
        machines = [BipartiteMachine.from_arrays(*(arrays[name][i] for name in ARRAYS[2:])) for i in earlier]
    return Trajectory.of([*machines, machine], [*arrays["steps"][earlier].tolist(), step])


def _epoch(path: Path) -> int:
    """Return the epoch after which a run's model was saved."""
    from dvae_core.training.checkpoint import load_model

    epoch = load_model(path).provenance.get("epoch")
    if not isinstance(epoch, int) or epoch < 1:
        raise DataError(f"{path}: does not record its epoch; give a model.pt of dvae-train")
    return epoch


def _check(file: Path, arrays: dict[str, NDArray[Any]], machine: BipartiteMachine) -> None:
    """Raise DataError unless the arrays are those of priors of the machine's shape."""
    n = arrays["steps"].size
    wanted = {
        "steps": (n,),
        "steps_per_epoch": (),
        "W": (n, *machine.W.shape),
        "b_left": (n, machine.n_left),
        "b_right": (n, machine.n_right),
    }
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise DataError(
                f"{file}: {name} has shape {arrays[name].shape} instead of {shape}; it is damaged or of another "
                "run, leave --path out"
            )
    steps, per_epoch = arrays["steps"], arrays["steps_per_epoch"]
    if not n or steps.dtype.kind not in "iu" or (steps[1:] <= steps[:-1]).any() or steps[0] < 0:
        raise DataError(f"{file}: damaged, its steps do not increase from 0; leave --path out")
    if per_epoch.dtype.kind not in "iu" or not 0 < int(per_epoch) < 10**9:
        raise DataError(f"{file}: damaged, steps_per_epoch is not a number of steps; leave --path out")
