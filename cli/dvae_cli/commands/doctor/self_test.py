"""Checks of the installation: a tiny RBM against brute force, and a tiny run from data to log-likelihood."""

from __future__ import annotations

import importlib
import math
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dvae_core import __version__
from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import describe, load
from dvae_eval.config import LikelihoodConfig, LogZConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine
from dvae_eval.test_machines.rbms import random_rbm
from dvae_eval.trained import machine_of, model_description
from dvae_eval.verdict import Check

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pymbar",
    "numba",
    "matplotlib",
    "jinja2",
    "rich",
    "click",
    "joblib",
)
REINSTALL = "reinstall with the pinned versions: pip install -c constraints.txt ."
# A larger |z| has a probability of 6 in 100 000; the seed is fixed, so that a sound installation always passes.
MAX_Z = 4.0


def environment() -> dict[str, Any]:
    """Return versions, devices, threads and the places of the data sets, as JSON values."""
    versions = {"dvae-toolkit": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "system": platform.platform(),
        "versions": versions,
        "devices": [
            "cpu",
            *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())),
        ],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "variables": {
            name: os.environ[name] for name in ("OMP_NUM_THREADS", "DVAE_DATA_DIR") if name in os.environ
        },
        "data": {listing.name: listing.place for listing in describe()},
    }


def run_checks(say: Callable[[str], None]) -> list[Check]:
    """Run all checks and return them; `say` is called with the name of each step.

    Each check compares with a number that is known in another way, so that it detects a wrong build of a
    library, a broken device or a damaged file.
    """
    checks: list[Check] = []
    for step, run in STEPS.items():
        say(step)
        try:
            checks += run()
        except Exception as error:  # the other checks continue
            text = " ".join(f"{type(error).__name__}: {error}".split())
            checks.append(Check(f"{step}: failed ({text})", 1.0, 0.0, False, REINSTALL))
    return checks


def _tiny() -> tuple[BipartiteMachine, float]:
    """Return an RBM of 4 + 3 units with couplings of order one, and its log Z by brute force."""
    return random_rbm(0, (4, 3), math.sqrt(3))


def _exact() -> list[Check]:
    """Compare the enumerated log Z with brute force."""
    machine, exact = _tiny()
    gap = abs(estimate_log_z(machine).log_z - exact)
    return [Check("difference of exact log Z from brute force, nats", gap, 1e-9, gap < 1e-9, REINSTALL)]


def _tempered() -> list[Check]:
    """Compare parallel tempering on every device with brute force."""
    (machine, exact), checks = _tiny(), []
    for device in ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]:
        config = LogZConfig(method="pt-bar", n_sweeps=1000, seed=1)
        found = [estimate_log_z(machine, config, device=device) for _ in range(2)]
        z = abs(found[0].log_z - exact) / found[0].std_err
        name = f"difference of estimated log Z from brute force on {device}, standard errors"
        checks.append(Check(name, z, MAX_Z, z < MAX_Z, REINSTALL))
        gap = abs(found[0].log_z - found[1].log_z)
        name = f"difference of two estimates with the same seed on {device}, nats"
        checks.append(Check(name, gap, 0.0, gap == 0, "set OMP_NUM_THREADS=1 and run again"))
    return checks


def _end_to_end() -> list[Check]:
    """Train and measure a tiny model, and check that the bound is not above the log-likelihood."""
    from dvae_core.training.checkpoint import load_model
    from dvae_core.training.trainer import Trainer

    data = load("bars-and-stripes-2x2")
    model = ModelConfig(n_left=3, n_right=3, n_groups=2, n_layers=1, n_continuous=2, encoder_hidden=(8,))
    config = RunConfig("bars-and-stripes-2x2", model, replace(TrainConfig(), epochs=1, n_chains=20, n_sweeps=2))
    with tempfile.TemporaryDirectory() as folder:
        Trainer(Path(folder), config, data).train(_Silent())
        trained = load_model(Path(folder) / "model.pt")
    log_z = estimate_log_z(machine_of(trained), description=model_description(trained))
    images = data.fixed("test")
    found = estimate_log_likelihood(
        trained, images, log_z, LikelihoodConfig(n_samples=100, limit=100, n_simulated=0)
    )
    gap = found.elbo - found.log_likelihood
    name = "excess of the one-sample bound over the log-likelihood of a trained model, nats"
    return [Check(name, gap, 0.0, gap <= 0, REINSTALL)]


class _Silent:
    """Progress of training that shows nothing."""

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Do nothing."""

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Do nothing."""


def _figure() -> list[Check]:
    """Draw a figure, which needs matplotlib and its fonts."""
    drawing = importlib.import_module("dvae_reports.figures.registry")
    n_bytes = len(drawing.figure_bytes(drawing.draw("smoothing", []), "png"))
    return [Check("size of a figure, bytes", float(n_bytes), 1000.0, n_bytes > 1000, REINSTALL)]


def _data_folder() -> list[Check]:
    """Check that data sets can be stored in their folder, or in the one in which it would be created."""
    from dvae_core.data.fetch import data_folder

    existing = next(_up(data_folder()))
    usable = os.access(existing, os.W_OK) or "DVAE_DATA_DIR" in os.environ
    remedy = f"make {existing} writable, or set DVAE_DATA_DIR"
    return [Check(f"data sets can be stored in {data_folder()}", float(usable), 1.0, usable, remedy)]


def _up(path: Path) -> Iterator[Path]:
    """Yield a path and its parents, those that exist."""
    yield from (folder for folder in (path, *path.parents) if folder.exists())


STEPS: dict[str, Callable[[], list[Check]]] = {
    "enumerating a tiny RBM": _exact,
    "estimating its log Z by parallel tempering": _tempered,
    "training and measuring a tiny model": _end_to_end,
    "drawing a figure": _figure,
    "checking the data folder": _data_folder,
}
