"""Population renewal: how long ago the states of a run last came from the reference, where they are drawn anew.

Round trips of some replicas hide that others sit in a basin and never leave: exchanges look perfect, and the
share of that basin is whatever it was at the start.  A replica that was at β = 0 has forgotten its past.  That no
state is old is necessary for an estimate to be right, and not sufficient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sampling.replicas import Replicas

Integers = NDArray[np.int64]
# Of a share of replicates: standard errors of a binomial above which it is no accident (false alarm below 1e-4).
N_ERRORS = 4.5


class Renewal:
    """When every replica was last seen to have been at β = 0, looked at now and then.

    A visit is seen if at a look the replica is at β = 0, or last saw that end and at the look before had not:
    others are missed, births are dated too early, and shares of old states are upper limits.

    Parameters
    ----------
    n_replicates, n_rungs : int
    """

    def __init__(self, n_replicates: int, n_rungs: int) -> None:
        self.births: Integers = np.full((n_replicates, n_rungs), -1, np.int64)
        self.ends: Integers = np.zeros((n_replicates, n_rungs), np.int64)

    def look(self, replicas: Replicas, n_iterations: int) -> None:
        """Note which replicas have been at β = 0 since the last look, `n_iterations` after the start."""
        replica = replicas.replica_of_rung
        ends = np.empty_like(self.ends)
        np.put_along_axis(ends, replica, replicas.last_end_of_rung, axis=1)
        was_there = (ends == -1) & (self.ends != -1)
        np.put_along_axis(was_there, replica[:, :1], True, axis=1)
        self.births[was_there], self.ends = n_iterations, ends

    def old(self, replicas: Replicas, since: int) -> NDArray[np.bool_]:
        """Say of every state whether it is older than iteration `since`, shape (n_replicates, n_rungs)."""
        births = np.take_along_axis(self.births, replicas.replica_of_rung, axis=1)
        return np.asarray(births < since)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return all that is needed to go on, as plain arrays."""
        return {"births": self.births, "ends": self.ends}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` returned."""
        self.births, self.ends = state["births"].copy(), state["ends"].copy()


def promised_share(trips_per_replica: float, n_replicates: int) -> float:
    """Return the largest share of old states that agrees with so many round trips of every replica, on average.

    Where all take part, the time between two visits of a replica has an exponential tail, and exp(-trips) of them
    are late for the first; exp(-trips / 2), and the scatter of the share, leave room for slow starters.  Few trips
    promise nothing.
    """
    share = min(1.0, 3 * math.exp(-trips_per_replica / 2))
    return min(1.0, share + N_ERRORS * math.sqrt(max(share * (1 - share), 1 / n_replicates) / n_replicates))
