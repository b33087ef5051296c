"""Module names of earlier versions: importing one gives the present module, with a warning."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Former module: (present module, {name: present location, if it is elsewhere or has another name}).
MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "dvae_core.checkpoint": ("dvae_core.training.checkpoint", {}),
    "dvae_core.presets": ("dvae_core.training.presets", {}),
    "dvae_core.rbm": ("dvae_core.model.rbm", {}),
    "dvae_core.train": ("dvae_core.training.trainer", {}),
    "dvae_eval.likelihood.estimator": (
        "dvae_eval.likelihood.estimate_log_likelihood",
        {name: f"dvae_eval.trained:{name}" for name in ("machine_of", "model_description")},
    ),
    "dvae_eval.likelihood.resources": ("dvae_eval.runtime.compute", {}),
    "dvae_eval.likelihood.shards": (
        "dvae_eval.runtime.resume",
        {"Shards": "dvae_eval.runtime.resume:ResumeDirectory"},
    ),
    "dvae_eval.log_z.bridge": ("dvae_eval.log_z.with_pymbar", {}),
    "dvae_eval.log_z.routes": ("dvae_eval.log_z.estimate_log_z", {}),
    "dvae_eval.pool": ("dvae_eval.runtime.dask_cluster", {}),
    "dvae_eval.sampling.ladder": (
        "dvae_eval.sampling.schedule",
        {"Ladder": "dvae_eval.sampling.schedule:Schedule"},
    ),
    "dvae_eval.writers": ("dvae_eval.readers.write", {}),
}


class _Finder(MetaPathFinder, Loader):
    """Finds former modules, and fills them with the names of the present ones."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        home, names = MODULES[module.__name__]
        warnings.warn(f"{module.__name__} is now {home}", DeprecationWarning, stacklevel=2)
        found = vars(import_module(home))
        vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})
        for name, today in names.items():
            where, _, attribute = today.partition(":")
            setattr(module, name, getattr(import_module(where), attribute))


def follow_former_names() -> None:
    """Make imports of former modules succeed."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
