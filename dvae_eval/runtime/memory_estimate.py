"""What an estimate takes of a machine's memory, known before it starts.

Of log Z these are tables of couplings, states of chains and sums over them, and whole processes; of likelihoods
the weights of an image in every process (`shards`).  Constants are measured; a slow test holds them against real
runs.
"""

from __future__ import annotations

from dvae_core.io.memory import require_memory

from ..config import LogZConfig
from ..couplings import n_bytes, n_entries
from ..machine import BipartiteMachine, Machine
from .compute import process_memory

# What compiled kernels and libraries take in a process that has not used them.
LOADED = 110_000_000
# Tables of couplings that are alive at a time; of every bond its ends, twice; starts of the search for basins.
TABLES, PER_BOND, BASINS = 4, 24, 1200
# Of one chain: works of a chunk of a run, sums over its blocks, and of every unit fields, bits and first draws.
PER_CHAIN, PER_CHAIN_UNIT = 6_000, 30
FIRST_RUNGS = 13
# Of one annealed chain: weights, and of every kept unit first and last states.
PER_ANNEALED, PER_ANNEALED_UNIT = 100, 6


def machine_bytes(machine: Machine) -> int:
    """Return about how many bytes a machine takes while an exact route, basins and rungs are looked for."""
    table = machine.W if isinstance(machine, BipartiteMachine) else machine.J
    bonds = PER_BOND * n_entries(table)
    return LOADED + TABLES * n_bytes(table) + bonds + 8 * BASINS * machine.n_units


def tempering_bytes(machine: Machine, n_replicates: int, n_rungs: int = FIRST_RUNGS) -> int:
    """Return about how many bytes the replicas on so many replicates take."""
    return n_replicates * n_rungs * (PER_CHAIN + PER_CHAIN_UNIT * machine.n_units)


def annealing_bytes(machine: Machine, n_chains: int) -> int:
    """Return about how many bytes annealing so many chains forward and back takes."""
    return n_chains * (PER_ANNEALED + PER_ANNEALED_UNIT * machine.n_units)


def refuse_too_large(machine: Machine, config: LogZConfig, n_processes: int = 1) -> None:
    """Raise ConfigError if an estimate would take more memory than there is; it names the option to change."""
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
