"""Population renewal: how long ago the states of a run last came from the reference, where they are drawn again.

Round trips of some replicas can hide others that never leave a basin: exchanges look perfect, and the share of
that basin stays as it was at the start.  A replica that was at β = 0 has forgotten its past.  That no state is old
is necessary for a right estimate, but not sufficient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling.replicas import Replicas

Integers = NDArray[np.int64]
# Standard errors of a binomial share of replicates beyond which chance is ruled out (false alarm below 1e-4).
N_ERRORS = 4.5


class Renewal:
    """Iteration at which each replica was last observed to have visited β = 0.

    Replicas are observed at intervals.  A visit is recorded if the replica is at β = 0, or if β = 0 is the end it
    saw last and was not at the previous observation.  Other visits are missed, so recorded times are too early and
    shares of old states are upper limits.

    Parameters
    ----------
    n_replicates, n_rungs : int
    """

    def __init__(self, n_replicates: int, n_rungs: int) -> None:
        self.births: Integers = np.full((n_replicates, n_rungs), -1, np.int64)
        self.ends: Integers = np.zeros((n_replicates, n_rungs), np.int64)

    def record(self, replicas: Replicas, n_iterations: int) -> None:
        """Record which replicas visited β = 0 since the last observation, `n_iterations` after the start."""
        replica = replicas.replica_of_rung
        ends = np.empty_like(self.ends)
        np.put_along_axis(ends, replica, replicas.last_end_of_rung, axis=1)
        was_there = (ends == -1) & (self.ends != -1)
        np.put_along_axis(was_there, replica[:, :1], True, axis=1)
        self.births[was_there], self.ends = n_iterations, ends

    def old(self, replicas: Replicas, since: int) -> NDArray[np.bool_]:
        """Return whether each state is older than iteration `since`, shape (n_replicates, n_rungs)."""
        births = np.take_along_axis(self.births, replicas.replica_of_rung, axis=1)
        return np.asarray(births < since)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue, as plain arrays."""
        return {"births": self.births, "ends": self.ends}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the state that `state_dict` returned."""
        self.births, self.ends = state["births"].copy(), state["ends"].copy()


def promised_share(trips_per_replica: float, n_replicates: int) -> float:
    """Return the largest share of old states that is consistent with the mean number of round trips per replica.

    If all replicas take part, the time between two visits of a replica has an exponential tail, and exp(-trips) of
    them have not made their first.  The factor exp(-trips / 2) and the scatter of the share allow for slow
    starters.  With few trips the limit is 1.
    """
    share = min(1.0, 3 * math.exp(-trips_per_replica / 2))
    return min(1.0, share + N_ERRORS * math.sqrt(max(share * (1 - share), 1 / n_replicates) / n_replicates))
