"""The Boltzmann machine over an arbitrary sparse graph, block-sampled by the classes of a graph colouring.

Given all other units, the units of a class are independent: a class is drawn in one operation, and the first class
can be summed out.  Without edges all units form one class: the prior without lateral connections (App. J).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..graphs import colour_classes, graph_edges
from .prior import Prior
from .rbm import RBM
from .tempered import Tempered


def make_prior(config: ModelConfig) -> Prior:
    """Return the prior that `config.prior` names."""
    if config.prior == "rbm":
        return RBM(config.n_left, config.n_right)
    n_units = config.n_left + config.n_right
    return BoltzmannMachine(n_units, graph_edges(config.graph, n_units) if config.prior == "graph" else ())


class BoltzmannMachine(Prior):
    """A Boltzmann machine over {0,1} with one coupling per edge of a graph.

    Parameters
    ----------
    n_units : int
        Number of nodes, in the order of the groups of the posterior.
    edges : iterable of (int, int)
        Pairs i < j, each once; empty for independent units.

    Attributes
    ----------
    W : float, shape (n_edges,)
        Couplings in the order of the edges, nats.
    b : float, shape (n_units,)
        Biases, nats.
    edges : int64, shape (2, n_edges)
        The two nodes that each coupling joins.
    blocks : list of slice
        Slices of the units in sampling order, one per class; the first class is summed out.
    """

    edges: Tensor
    order: Tensor
    inverse_order: Tensor

    def __init__(self, n_units: int, edges: Iterable[tuple[int, int]]) -> None:
        super().__init__()
        edges = list(edges)
        classes = colour_classes(n_units, edges)
        self.n_units = n_units
        self.blocks = [slice(*ends) for ends in pairwise(accumulate(map(len, classes), initial=0))]
        order = torch.tensor([unit for nodes in classes for unit in nodes])
        # Not saved: the configuration determines the graph, and with it these tensors.
        self.register_buffer("edges", torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T, persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse_order", order.argsort(), persistent=False)
        self.W = nn.Parameter(torch.zeros(len(edges)))
        self.b = nn.Parameter(torch.zeros(n_units))

    def couplings(self) -> Tensor:
        """Return J of E(z) = -(z'Jz + b'z), strictly upper triangular, shape (n_units, n_units)."""
        return self._scatter(*self.edges)

    def biases(self) -> Tensor:
        """Return b, shape (n_units,)."""
        return self.b

    def tempered(self) -> Tempered:
        """Return the machine with the first class summed out and the units sorted by class."""
        summed = self.blocks[0].stop
        J, b = self._scatter(*self.inverse_order[self.edges]), self.b[self.order]
        J = J + J.T
        blocks = tuple(slice(block.start - summed, block.stop - summed) for block in self.blocks[1:])
        inside = J[summed:, summed:] if len(blocks) > 1 else None
        return Tempered(J[summed:, :summed], b[summed:], b[:summed], inside, blocks)

    def kept(self, z: Tensor) -> Tensor:
        """Return the units of all classes but the first, sorted by class."""
        return z[..., self.order[self.blocks[0].stop :]]

    def joined(self, v: Tensor, h: Tensor) -> Tensor:
        """Return all units in their own order."""
        return torch.cat((h, v), dim=-1)[..., self.inverse_order]

    def _scatter(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return a matrix, shape (n_units, n_units), with the couplings at these rows and columns, else 0."""
        return self.W.new_zeros(self.n_units, self.n_units).index_put((rows, columns), self.W)
