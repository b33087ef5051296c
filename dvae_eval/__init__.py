"""Estimators: log Z, importance-weighted log-likelihoods and their diagnostics.

`dvae_eval.estimate_log_z` takes NumPy arrays; everything else is imported from its own module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .log_z.estimate_log_z import estimate_log_z as estimate_log_z

__all__ = ["estimate_log_z"]


def __getattr__(name: str) -> Any:
    """Import torch and scipy when an estimator is asked for, and no sooner: `dvae-eval --help` needs neither."""
    if name in __all__:
        from .log_z import estimate_log_z as routes

        return getattr(routes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
