"""Priors over arbitrary graphs against naive loops and enumeration: energies, sampler, gradient of log Z."""

import itertools
import math

import numpy as np
import pytest
import torch

from dvae_core.config import ModelConfig, RunConfig
from dvae_core.errors import ConfigError, DataError
from dvae_core.graphs import bipartition, colour_classes, graph_edges, read_graph
from dvae_core.model.boltzmann import BoltzmannMachine, make_prior
from dvae_core.model.prior import annealed_log_z
from dvae_core.model.rbm import RBM
from tests.oracles import all_states, brute_log_z, dense, p_value

FALSE_ALARM = 1e-5
N = 6
GRAPHS = {
    "complete": "complete",
    "ring": "ring",
    "grid": "grid-2x3",
    "odd": "0-1,1-2,0-2,2-5,3-4",  # a triangle, a pair on its own
}


def randomised(prior, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return prior


def machine(name, seed=0, scale=1.0):
    edges = graph_edges(GRAPHS[name], N) if name in GRAPHS else ()
    return randomised(BoltzmannMachine(N, edges).double(), seed, scale)


def priors():
    """Return every kind of prior, of 6 units, by name."""
    return {"rbm": randomised(RBM(4, 2).double()), **{n: machine(n) for n in (*GRAPHS, "independent")}}


def exact_log_z(prior, beta=1.0):
    J, b = (part.detach() for part in dense(prior))
    return brute_log_z(J, b, beta)


every_prior = pytest.mark.parametrize("name", ["rbm", *GRAPHS, "independent"])


# --- graphs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "n", "n_edges", "degrees"),
    [
        ("complete", 5, 10, {4}),
        ("ring", 5, 5, {2}),
        ("ring", 2, 1, {1}),
        ("ring", 1, 0, set()),
        ("grid-8x8", 64, 112, {2, 3, 4}),
        ("grid-7", 7, 6, {1, 2}),
        ("grid-2x2x2", 8, 12, {3}),
        ("chimera-2x2x4", 32, 80, {5}),
        ("chimera-3x2x1", 12, 13, {2, 3}),
        ("chimera-1x1x4", 8, 16, {4}),
    ],
)
def test_named_graphs_have_their_known_edges_and_degrees(graph, n, n_edges, degrees):
    """Chimera M x N x T has MNT² + (M-1)NT + M(N-1)T edges; a grid one for every pair of neighbours."""
    edges = graph_edges(graph, n)
    assert len(edges) == len(set(edges)) == n_edges
    assert all(0 <= i < j < n for i, j in edges)
    assert set(np.unique(np.bincount(np.array(edges, int).ravel(), minlength=1)).tolist()) - {0} == degrees


def test_a_grid_joins_neighbours_and_no_others():
    coordinates = list(itertools.product(range(3), range(4)))
    distance_one = [
        (a, b)
        for (a, p), (b, q) in itertools.combinations(enumerate(coordinates), 2)
        if abs(p[0] - q[0]) + abs(p[1] - q[1]) == 1
    ]
    assert graph_edges("grid-3x4", 12) == distance_one


@pytest.mark.parametrize("graph", ["complete", "ring", "grid-3x3", "chimera-1x1x2", "0-1,1-2,0-2,5-8"])
def test_no_edge_joins_two_units_of_a_class(graph):
    n = 8 if graph.startswith("chimera") else 9
    n = 4 if graph == "chimera-1x1x2" else n
    edges = graph_edges(graph, n)
    classes = colour_classes(n, edges)
    assert sorted(itertools.chain(*classes)) == list(range(n))
    colour = {unit: k for k, nodes in enumerate(classes) for unit in nodes}
    assert all(colour[i] != colour[j] for i, j in edges)
    # The class that is summed out is maximal: every other unit has a neighbour in it.
    neighbours = {i: {a + b - i for a, b in edges if i in (a, b)} for i in range(n)}
    assert all(neighbours[i] & set(classes[0]) for nodes in classes[1:] for i in nodes)


def test_two_colours_suffice_where_two_can():
    assert [len(nodes) for nodes in colour_classes(64, graph_edges("grid-8x8", 64))] == [32, 32]
    assert [len(nodes) for nodes in colour_classes(9, graph_edges("grid-3x3", 9))] == [5, 4]
    assert len(colour_classes(7, graph_edges("ring", 7))) == 3
    assert colour_classes(5, ()) == [[0, 1, 2, 3, 4]]
    assert bipartition(7, graph_edges("ring", 7)) is None
    # The smaller class of every part goes to the first side: two stars and a single node.
    assert bipartition(8, [(0, 1), (0, 2), (3, 6), (4, 6), (5, 6)]) == ([0, 6], [1, 2, 3, 4, 5, 7])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior": "graph"}, "give both or neither"),
        ({"graph": "ring"}, "give both or neither"),
        ({"prior": "graph", "graph": "grid-3x3"}, "grid-3x3 has 9 nodes.*make 8 units"),
        ({"prior": "graph", "graph": "0-1,1-2"}, "3 nodes"),
        ({"prior": "graph", "graph": "hexagon"}, "names no graph"),
        ({"prior": "graph", "graph": "grid-0x8"}, "names no graph"),
        ({"prior": "graph", "graph": "complete", "n_left": 5000}, "more than 1000000 edges"),
        ({"prior": "lattice"}, "--prior"),
    ],
)
def test_graphs_that_do_not_fit_are_refused_in_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        ModelConfig(**{"n_left": 4, "n_right": 4, "n_groups": 2, **settings})
    assert "\n" not in str(error.value)


def test_a_file_of_edges_is_kept_in_the_configuration(tmp_path):
    path = tmp_path / "edges.txt"
    path.write_text("# a path\n2 1\n\n0\t1  # the first bond\n")
    graph = read_graph(str(path))
    path.unlink()
    config = RunConfig("digits", ModelConfig(prior="graph", graph=graph, n_left=1, n_right=2, n_groups=1))
    assert graph == "0-1,1-2"
    assert RunConfig.from_dict(config.to_dict()) == config
    assert make_prior(config.model).edges.tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    "content",
    [
        "0 1 2\n",
        "0\n",
        "0 0\n",
        "0 1\n1 0\n",
        "0 -1\n",
        "0 1.5\n",
        "a b\n",
        "",
        "# nothing\n",
        b"\xff\xfe0 1",
        "0 9999999999",
    ],
)
def test_files_that_hold_no_list_of_edges_are_refused(tmp_path, content):
    path = tmp_path / "edges.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"edges\.txt"):
        read_graph(str(path))
    with pytest.raises(ConfigError, match="neither a graph's name nor a file"):
        read_graph(str(tmp_path / "missing.txt"))


# --- energies -----------------------------------------------------------------------------------------------


@every_prior
def test_energy_is_that_of_equation_6(name):
    prior = priors()[name]
    J, b = dense(prior)
    for z in all_states(N)[::5]:
        pairs = sum(J[i, j] * z[i] * z[j] for i in range(N) for j in range(i + 1, N))
        assert abs(float((prior.energy(z) + pairs + b @ z).detach())) < 1e-12
    assert torch.equal(prior.couplings(), J)
    assert torch.equal(prior.biases(), b)


@every_prior
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_free_energy_sums_out_one_class(name, beta):
    """Σ_z exp(-F_β(v(z))) visits every v once for each state of the k units that are summed out: 2^k Z_β."""
    prior = priors()[name]
    k = prior.n_right if isinstance(prior, RBM) else prior.blocks[0].stop
    total = torch.logsumexp(-prior.free_energy(all_states(N), beta), 0) - k * math.log(2)
    assert abs(float(total.detach()) - exact_log_z(prior, beta)) < 1e-12


@every_prior
def test_free_energy_takes_one_beta_a_chain_and_ladders_of_chains(name):
    prior = priors()[name]
    betas = torch.linspace(0, 1, 64, dtype=torch.float64)[:, None]
    together = prior.free_energy(all_states(N), betas)
    singly = torch.stack([prior.free_energy(z, float(b)) for z, b in zip(all_states(N), betas, strict=True)])
    assert torch.allclose(together, singly, atol=1e-12)
    stacked = prior.free_energy(all_states(N).view(4, 16, N), torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None])
    assert torch.allclose(stacked[2], prior.free_energy(all_states(N).view(4, 16, N)[2], 0.3), atol=1e-6)


@every_prior
def test_the_negative_phase_has_the_gradient_of_log_z(name):
    """With states in proportion to p, the term of training (Eq. 11) has the exact gradient."""
    prior = priors()[name]
    J, b = dense(prior)
    z = all_states(N)
    log_z = torch.logsumexp(torch.einsum("ni,ij,nj->n", z, J, z) + z @ b, 0)
    p = torch.softmax(-prior.energy(z), 0).detach()
    term = sum(p[i] * prior.log_z_gradient_term(z[i : i + 1]) for i in range(len(z)))
    exact, found = (
        torch.autograd.grad(value, list(prior.parameters()), materialize_grads=True) for value in (log_z, term)
    )
    for gradient, expected in zip(found, exact, strict=True):
        assert torch.allclose(gradient, expected, atol=1e-12)


def test_independent_units_need_no_samples():
    """log Z = Σ log(1 + e^b): gradient term and annealing are exact whatever the states."""
    prior = machine("independent", scale=3.0)
    exact = float(np.logaddexp(0, prior.b.detach().numpy()).sum())
    assert abs(prior.log_z_gradient_term(torch.zeros(1, N).double()).item() - exact) < 1e-12
    assert abs(annealed_log_z(prior, torch.Generator().manual_seed(0), n_chains=2, n_betas=3) - exact) < 1e-12


@every_prior
def test_annealed_log_z(name):
    """2000 chains whose weights have a standard deviation under 0.5 scatter by 0.011; five of those."""
    prior = priors()[name]
    estimate = annealed_log_z(prior, torch.Generator().manual_seed(6), n_chains=2000)
    assert abs(estimate - exact_log_z(prior)) < 0.055


# --- the sampler --------------------------------------------------------------------------------------------


def exact_log_p(prior, beta):
    return torch.log_softmax(-beta * prior.energy(all_states(N)), 0).detach().numpy()


def p_after_sweeps(prior, sampler, beta, n_sweeps=40):
    """Return the chi-square p-value of 20000 chains after some sweeps against enumeration."""
    generator = torch.Generator().manual_seed(4)
    z = prior.initial_state(20_000, generator)
    for _ in range(n_sweeps):
        z = sampler(z, generator)
    return p_value(z, exact_log_p(prior, beta))


@every_prior
@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_gibbs_samples_the_exact_distribution(name, beta):
    """False alarm 1e-5 each; the least expected count is 3, for which chi-square is near enough."""
    prior = priors()[name]
    assert p_after_sweeps(prior, lambda z, generator: prior.gibbs(z, 1, generator, beta), beta) > FALSE_ALARM


def test_one_beta_a_chain_is_sampled_rightly():
    """Half of the chains at β = 1 must be unmoved by their neighbours at β = 0."""
    prior = machine("complete")
    n = 20_000
    betas = torch.cat((torch.ones(n), torch.zeros(n)))[:, None].double()
    generator = torch.Generator().manual_seed(5)
    z = prior.gibbs(prior.initial_state(2 * n, generator), 40, generator, betas)
    for half, beta in ((z[:n], 1.0), (z[n:], 0.0)):
        assert p_value(half, exact_log_p(prior, beta)) > FALSE_ALARM


@pytest.mark.parametrize("name", ["complete", "ring", "grid", "odd"])
def test_a_wrong_colouring_is_rejected(name):
    """Two neighbours in one class: drawn at once, each given the other's old state."""
    prior = machine(name)
    first, second, *rest = prior.blocks
    prior.blocks = [slice(first.start, second.stop), *rest]
    assert p_after_sweeps(prior, lambda z, generator: prior.gibbs(z, 1, generator), 1.0) < FALSE_ALARM


def test_independent_units_are_drawn_once():
    """One sweep is as good as a hundred, and each is a fresh draw."""
    prior = machine("independent")
    once, often = (prior.gibbs(torch.zeros(9, N).double(), n, torch.Generator().manual_seed(1)) for n in (1, 100))
    assert torch.equal(once, often)
    assert p_after_sweeps(prior, lambda z, generator: prior.gibbs(z, 1, generator), 1.0, n_sweeps=1) > FALSE_ALARM
