"""Estimators of log Z of Boltzmann machines and of log-likelihoods of models, each with its error and a verdict.

The names below and `dvae_eval.test_machines` are the package's interface; everything else is private by
convention.  They are imported when first used, so that `dvae-eval --help` needs neither torch nor scipy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvae_core.lazy import lazy_names

__all__ = [
    "BenchmarkConfig",
    "BipartiteMachine",
    "Check",
    "CompareConfig",
    "GeneralMachine",
    "LikelihoodConfig",
    "LogZConfig",
    "ObservablesConfig",
    "ReadConfig",
    "StatesConfig",
    "cluster",
    "compare_samples",
    "estimate_log_likelihood",
    "estimate_log_z",
    "estimate_observables",
    "load_result",
    "load_states",
    "machine_from_bqm",
    "machine_from_couplings",
    "machine_from_networkx",
    "machine_from_spins",
    "machine_of",
    "read_machine",
    "read_samples",
    "read_trajectory",
    "run_benchmark",
    "sample_states",
    "to_arviz",
]

if TYPE_CHECKING:
    from .benchmark.config import BenchmarkConfig
    from .benchmark.run_benchmark import run_benchmark
    from .comparison.compare_samples import compare_samples
    from .comparison.config import CompareConfig
    from .config import LikelihoodConfig, LogZConfig, ObservablesConfig
    from .likelihood.estimate_log_likelihood import estimate_log_likelihood
    from .log_z.estimate_log_z import estimate_log_z
    from .machine import BipartiteMachine, GeneralMachine, machine_from_couplings
    from .objects import machine_from_bqm, machine_from_networkx, machine_from_spins
    from .observables.estimate_observables import estimate_observables
    from .readers import ReadConfig, read_machine, read_trajectory
    from .readers.samples import read_samples
    from .results import load_result
    from .runtime.dask_cluster import cluster
    from .states.chains import to_arviz
    from .states.config import StatesConfig
    from .states.sample_states import sample_states
    from .states.sampled import load_states
    from .trained import machine_of
    from .verdict import Check
else:  # hidden from type checkers, which would otherwise accept any name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "BenchmarkConfig": "benchmark.config:BenchmarkConfig",
            "BipartiteMachine": "machine:BipartiteMachine",
            "Check": "verdict:Check",
            "CompareConfig": "comparison.config:CompareConfig",
            "GeneralMachine": "machine:GeneralMachine",
            "LikelihoodConfig": "config:LikelihoodConfig",
            "LogZConfig": "config:LogZConfig",
            "ObservablesConfig": "config:ObservablesConfig",
            "ReadConfig": "readers:ReadConfig",
            "StatesConfig": "states.config:StatesConfig",
            "cluster": "runtime.dask_cluster:cluster",
            "compare_samples": "comparison.compare_samples:compare_samples",
            "estimate_log_likelihood": "likelihood.estimate_log_likelihood:estimate_log_likelihood",
            "estimate_log_z": "log_z.estimate_log_z:estimate_log_z",
            "estimate_observables": "observables.estimate_observables:estimate_observables",
            "load_result": "results:load_result",
            "load_states": "states.sampled:load_states",
            "machine_from_bqm": "objects:machine_from_bqm",
            "machine_from_couplings": "machine:machine_from_couplings",
            "machine_from_networkx": "objects:machine_from_networkx",
            "machine_from_spins": "objects:machine_from_spins",
            "machine_of": "trained:machine_of",
            "read_machine": "readers:read_machine",
            "read_samples": "readers.samples:read_samples",
            "read_trajectory": "readers:read_trajectory",
            "run_benchmark": "benchmark.run_benchmark:run_benchmark",
            "sample_states": "states.sample_states:sample_states",
            "test_machines": "test_machines",
            "to_arviz": "states.chains:to_arviz",
        },
    )
