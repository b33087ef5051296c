"""The memory that an estimate of log Z will take, computed before it starts.

It consists of tables of couplings, states of chains and their sums, and the processes themselves.  The constants
are measured; a slow test compares them with real runs.  For likelihoods see `likelihood.image_tasks`.
"""

from __future__ import annotations

from dvae_core.io.memory import require_memory

from ..config import LogZConfig
from ..couplings import n_bytes, n_entries
from ..machine import BipartiteMachine, Machine
from .compute import process_memory

# Bytes of compiled kernels and libraries when a process uses them for the first time.
LOADED = 110_000_000
# Number of simultaneous tables of couplings; bytes per bond, for its ends twice; starts of the search for basins.
TABLES, PER_BOND, BASINS = 4, 24, 1200
# Bytes per chain: works of a chunk of a run and sums over its blocks; and per unit: fields, bits and first draws.
PER_CHAIN, PER_CHAIN_UNIT = 6_000, 30
FIRST_RUNGS = 13
# Bytes per annealed chain: weights; and per kept unit: first and last states.
PER_ANNEALED, PER_ANNEALED_UNIT = 100, 6


def machine_bytes(machine: Machine) -> int:
    """Return the approximate bytes for a machine, the search for an exact method, for basins and for rungs."""
    table = machine.W if isinstance(machine, BipartiteMachine) else machine.J
    bonds = PER_BOND * n_entries(table)
    return LOADED + TABLES * n_bytes(table) + bonds + 8 * BASINS * machine.n_units


def tempering_bytes(machine: Machine, n_replicates: int, n_rungs: int = FIRST_RUNGS) -> int:
    """Return the approximate bytes of the replicas of all replicates."""
    return n_replicates * n_rungs * (PER_CHAIN + PER_CHAIN_UNIT * machine.n_units)


def annealing_bytes(machine: Machine, n_chains: int) -> int:
    """Return the approximate bytes for annealing chains forward and back."""
    return n_chains * (PER_ANNEALED + PER_ANNEALED_UNIT * machine.n_units)


def refuse_too_large(machine: Machine, config: LogZConfig, n_processes: int = 1) -> None:
    """Raise ConfigError, naming the option to change, if an estimate would take more than the free memory."""
    tables = machine_bytes(machine)
    require_memory(tables, "MODEL", f"a machine of {machine.n_units} units", "give one with fewer units")
    if config.method == "exact":
        return
    replicas = tempering_bytes(machine, config.n_replicates)
    require_memory(tables + replicas, "--replicates", f"tempering {config.n_replicates} replicates", "give fewer")
    if config.sandwich or config.method != "pt-bar":
        chains = annealing_bytes(machine, config.n_chains)
        require_memory(tables + replicas + chains, "--chains", f"annealing {config.n_chains} chains", "give fewer")
    if n_processes > 1:
        each = process_memory() + tables + replicas
        require_memory(n_processes * each, "--threads", f"{n_processes} processes", "give fewer")
