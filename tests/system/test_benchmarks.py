"""The benchmarks run and account for all of the time; their figures are not tested."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import logsumexp

from dvae_core.training.checkpoint import load_model
from dvae_core.training.presets import PRESETS
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.machine import machine_from_couplings
from dvae_eval.readers import read_machine
from dvae_eval.test_machines.graphs import chain
from tests.oracles import brute_log_z, enumerate_states
from tests.places import ROOT


def run(*command):
    """Run a benchmark from the root of the checkout and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_step_by_parts(tmp_path):
    path = tmp_path / "step.json"
    command = ["benchmarks/train_step.py", "bars-and-stripes-small", "--threads", "1"]
    printed = run(*command, "--repeats", "2", "--warmup", "1", "--json", str(path))
    found = json.loads(path.read_text())
    parts = found["parts"]
    assert list(parts) == ["sampling", "encoder", "decoder", "backward", "optimiser", "other"]
    for name in ("sampling", "encoder", "decoder", "backward"):
        assert parts[name]["floor_ms"] > 0
        assert parts[name]["ms"] > 0
    # Two repeats: medians are means, so the parts add up.
    assert sum(part["ms"] for part in parts.values()) == pytest.approx(found["step"]["ms"])
    assert printed.splitlines()[-1].startswith("step")


def test_machines_are_trained(tmp_path):
    """So early they know which units are mostly on, and no more; the file is one that logz reads."""
    run("benchmarks/trained_machines.py", str(tmp_path), "--machines", "clusters-80x10", "--updates", "200")
    found = read_machine(tmp_path / "clusters-80x10.npz").machine
    assert found.W.shape == (80, 10)
    assert 0 < abs(found.W).max() < 1


def test_log_z_against_cpu_seconds(tmp_path):
    figures, drawing = tmp_path / "logz.json", tmp_path / "logz.png"
    command = ["benchmarks/logz.py", "--machines", "planted-20x10", "--methods", "ais", "ais-biases", "rbms"]
    command += ["--budgets", "0.05", "--repeats", "3", "--cache", str(tmp_path), "--json", str(figures)]
    printed = run(*command, "--plot", str(drawing))
    found = json.loads(figures.read_text())
    assert "planted-20x10" in printed
    methods = found["machines"]["planted-20x10"]["methods"]
    # What cannot be had is named; the rest is measured.
    assert set(methods) | set(found["absent"]) == {"ais", "ais-biases", "rbms"}
    for name in ("ais", "ais-biases"):
        (row,) = methods[name]
        errors = [log_z - found["machines"]["planted-20x10"]["log_z"] for log_z in row["log_z"]]
        assert row["rmse"] == pytest.approx((sum(e * e for e in errors) / 3) ** 0.5)
        assert row["cpu_seconds"] > 0
    # The other of two mirror images is missed from biases that favour one: log 2.
    assert methods["ais-biases"][0]["bias"] < -0.5
    assert abs(methods["ais"][0]["bias"]) < 0.4
    assert drawing.stat().st_size > 1000


def test_whether_wrong_results_are_trusted(tmp_path):
    path = tmp_path / "rows.jsonl"
    command = ("--machines", "patterns-1:0.5", "--seeds", "2", "--limit", "1", "--json", str(path))
    last = run("benchmarks/adversaries.py", *command).splitlines()[-1]
    assert last.startswith("2 results, ")
    assert last.endswith(" 0 trusted and wrong")
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 1]


def test_errors_beside_what_they_claim(tmp_path):
    command = ("--machines", "digits-64x8", "--seeds", "3", "--limit", "1", "--cache", str(tmp_path))
    row = run("benchmarks/calibration.py", *command).splitlines()[-1].split()
    assert row[:2] == ["digits-64x8", "3"]
    assert float(row[7]) < 0.1


@pytest.mark.slow
def test_log_z_quick(tmp_path):
    """Every method and the training run."""
    printed = run("benchmarks/logz.py", "--quick", "--cache", str(tmp_path))
    assert printed.count("auto") == 4
    assert len(list(tmp_path.glob("digits-*.npz"))) == 1


def test_seconds_under_a_time_limit(tmp_path):
    path = tmp_path / "limits.json"
    printed = run("benchmarks/limits.py", "--quick", "--threads", "1", "--json", str(path))
    (row,) = json.loads(path.read_text())
    assert (row["machine"], row["limit"], row["replicates"]) == ("rbm-64x64", 2.0, 32)
    assert row["over"] == pytest.approx(row["wall"] - 2.0)
    assert printed.splitlines()[-1].startswith("rbm-64x64")


def test_gibbs_beside_its_limits(tmp_path):
    path = tmp_path / "gibbs.json"
    lines = run("benchmarks/gibbs.py", "--quick", "--threads", "1", "2", "--json", str(path)).splitlines()
    found = json.loads(path.read_text())
    assert [result["threads"] for result in found["results"]] == [1, 2]
    for result in found["results"]:
        assert {"naive torch", "numba", "numba, tempering", "products alone"} < result["rows"].keys()
        assert all(row["per_core_second"] > 0 for row in result["rows"].values())
    assert lines[0].split()[:3] == ["20x30,", "1", "thread"]


def test_likelihood_pairs(tmp_path):
    path = tmp_path / "pairs.json"
    command = ["benchmarks/likelihood.py", "demo", "--repeats", "2", "--samples", "600", "--json", str(path)]
    printed = run(*command)
    found = json.loads(path.read_text())
    assert set(found["pairs_per_s"]) == {"weights", "straightforward", "products", "decoder"}
    assert all(rate > 0 for rate in found["pairs_per_s"].values())
    # Multiplications and additions of the demo's decoder: 32 units and 2 layers of 8 to 64 pixels.
    assert found["decoder_products_per_pair"] == 2 * (32 + 16) * 64
    assert printed.splitlines()[-1].startswith("weights")


def test_an_untrained_model_can_be_measured(tmp_path):
    run("benchmarks/untrained.py", "demo", str(tmp_path / "demo.pt"))
    model = load_model(tmp_path / "demo.pt")
    assert model.config == PRESETS["demo"].config()
    assert model.model.n_pixels == 28 * 28


@pytest.fixture(scope="module")
def upper_bound():
    """The benchmark of upper bounds as a module."""
    spec = importlib.util.spec_from_file_location("upper_bound", ROOT / "benchmarks/upper_bound.py")
    module = sys.modules["upper_bound"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["upper_bound"]


def random_machine(rng):
    """A machine of 2 to 6 units, sparse or dense, weak or strong, maybe of several parts; and its log Z."""
    n, scale = rng.integers(2, 7), 10 ** rng.uniform(-1, 1)
    J = np.triu(scale * rng.normal(size=(n, n)) * (rng.random((n, n)) < rng.uniform(0.1, 1)), 1)
    b = scale * rng.normal(size=n)
    return machine_from_couplings(J, b), brute_log_z(J, b)


def test_upper_bounds_are_never_below(upper_bound):
    """Neither at any stop of the minimisation nor at random parameters."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        machine, log_z = random_machine(rng)
        rounding, prefer_strong = 1e-9 * (1 + abs(log_z)), bool(rng.integers(2))
        assert min(upper_bound.upper_bound(machine, int(rng.integers(1, 30)), prefer_strong)) >= log_z - rounding
        trees = upper_bound.spanning_trees(machine, prefer_strong)
        anywhere = rng.normal(size=3 * len(trees.W)) * 10 ** rng.uniform(-1, 1)
        assert upper_bound.dual(anywhere, trees)[0] >= log_z - rounding
        assert upper_bound.bucket_bound(machine, 1, int(rng.integers(2, 5))) >= log_z - rounding


def test_trees_of_the_upper_bound(upper_bound):
    """One root in each part, every other unit has a parent; a machine that is a tree is summed exactly."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        trees = upper_bound.spanning_trees(random_machine(rng)[0], prefer_strong=True)
        total = trees.is_root + np.bincount(trees.child, trees.is_parent, len(trees.b))
        assert total == pytest.approx(1)
        assert (trees.is_parent > 0).all()
    # A triangle has three spanning trees: each bond is in two of them, either way round.
    triangle = machine_from_couplings(np.triu(np.ones((3, 3)), 1), np.zeros(3))
    assert upper_bound.spanning_trees(triangle, False).is_parent == pytest.approx(1 / 3)
    machine, log_z = chain(0, 6, 1.0)
    assert upper_bound.bucket_bound(machine, 1, 2) == pytest.approx(log_z, abs=1e-12)
    assert upper_bound.upper_bound(machine, 1000)[1] == pytest.approx(log_z, abs=1e-4)


def test_upper_bound_beside_the_lower(tmp_path):
    path = tmp_path / "bounds.json"
    lines = run("benchmarks/upper_bound.py", "--quick", "--json", str(path)).splitlines()
    found = json.loads(path.read_text())["machines"]
    assert len(lines) == 1 + len(found)
    for row in found.values():
        assert min(row["trees"], row["strong"], row["buckets"], row["lower"]) >= -1e-9 * (1 + abs(row["log_z"]))
        # The minimisation is worth its time.
        assert row["trees"] < row["start"]


@pytest.fixture(scope="module")
def annealer_graphs():
    spec = importlib.util.spec_from_file_location("annealer_graphs", ROOT / "benchmarks/annealer_graphs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Nodes, edges, least and most neighbours: of the ideal graphs of the processors, by formulas of the papers.
PUBLISHED = {
    ("chimera", 16): (2048, 6016, 5, 6),
    ("pegasus", 2): (40, 164, 5, 13),
    ("pegasus", 16): (5640, 40484, 6, 15),
    ("zephyr", 4): (576, 5032, 10, 20),
    ("zephyr", 12): (4800, 45864, 10, 20),
    ("zephyr", 15): (7440, 71736, 10, 20),
}


@pytest.mark.parametrize(("kind", "m"), PUBLISHED)
def test_graphs_of_annealers_are_the_published_ones(annealer_graphs, kind, m):
    n, edges = getattr(annealer_graphs, kind)(m)
    degrees = np.bincount(np.ravel(edges), minlength=n)
    assert (n, len(edges), degrees.min(), degrees.max()) == PUBLISHED[kind, m]
    assert len(set(edges)) == len(edges)
    assert all(0 <= i < j < n for i, j in edges)
    if kind == "zephyr":
        assert n == 16 * m * (2 * m + 1)
        assert len(edges) == 8 * (40 * m * m - 2 * m - 3)


def test_a_glass_on_a_graph_has_the_log_z_of_its_spins(annealer_graphs):
    """By a sum over the states of two cells of Chimera, 16 spins."""
    graph = 16, annealer_graphs.graph_edges("chimera-1x2x4", 16)
    machine, constant = annealer_graphs.glass(graph, 0.5, "gaussian", 3)
    rng = np.random.default_rng(3)
    couplings, fields = 0.5 * rng.normal(size=len(graph[1])), 0.1 * rng.normal(size=16)
    spins = enumerate_states(16, (-1, 1))
    i, j = np.transpose(graph[1])
    expected = logsumexp((spins[:, i] * spins[:, j]) @ couplings + spins @ fields)
    assert abs(exact_log_z(machine) + constant - expected) < 1e-9


def test_log_z_on_graphs_of_annealers(tmp_path):
    path = tmp_path / "graphs.json"
    lines = run("benchmarks/graphs.py", "--quick", "--threads", "1", "--json", str(path)).splitlines()
    (row,) = json.loads(path.read_text())
    assert row["ns"] > 0
    assert row["rungs"] > 2
    assert lines[-1].startswith("zephyr4    weak")
