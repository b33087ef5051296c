"""The test machines: every exact value by two codes that share nothing, and estimators against them."""

import subprocess
import sys

import numpy as np
import pytest

from dvae_core.errors import ConfigError
from dvae_eval import estimate_log_z, test_machines
from dvae_eval.exact.moments_plan import moments_plan
from dvae_eval.test_machines.graphs import star
from dvae_eval.test_machines.rbms import DATA, enumerated
from tests.oracles import torus_by_momenta

BEYOND = {name for name in test_machines.names() if name.startswith("ising-32")}  # the exact routes
CASES = [name for name in test_machines.names() if name not in BEYOND]
SMALL = ["switched-15x40", "lopsided-2x1000", "one-unit-1x300", "extreme-biases-14x40", "huge-weights-12x64"]
SMALL += ["star-301", "clusters-80x10", "digits-64x8", "planted-field-16x64"]


@pytest.mark.parametrize("name", CASES)
def test_the_default_method_is_exact(name):
    """By this package's own routes: other codes than those of the test machines."""
    case = test_machines.make(name)
    found = estimate_log_z(case.machine)
    assert (found.method, found.std_err, found.trustworthy) == ("exact", 0, True)
    assert found.log_z == pytest.approx(case.log_z, rel=1e-11, abs=1e-9)


@pytest.mark.parametrize(("name", "K"), [("hot", 0.3), ("critical", np.log(1 + np.sqrt(2)) / 2), ("cold", 0.6)])
@pytest.mark.parametrize("n", [8, 32])
def test_kaufmans_formula_against_products_over_momenta(n, name, K):
    log_z = test_machines.make(f"ising-{n}x{n}-{name}").log_z + 2 * n * n * K
    assert log_z == pytest.approx(torus_by_momenta(n, K), rel=1e-11)
    assert abs(log_z - torus_by_momenta(n, K * (1 + 1e-8))) > 1e-7


@pytest.mark.parametrize("name", [name for name in test_machines.suite("trained") if not name.endswith("x20")])
def test_the_log_z_kept_with_trained_machines(name):
    m = test_machines.make(name).machine
    assert enumerated(m.W, m.b_left, m.b_right) == pytest.approx(test_machines.make(name).log_z, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in test_machines.suite("trained") if name.endswith("x20")])
def test_the_log_z_kept_with_trained_machines_of_20_hidden_units(name):
    m = test_machines.make(name).machine
    assert enumerated(m.W, m.b_left, m.b_right) == pytest.approx(test_machines.make(name).log_z, rel=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_moments_against_the_exact_routes(name):
    case = test_machines.make(name)
    energy, means = case.moments()
    found = moments_plan(case.machine).moments(1.0)
    kept = case.machine.reduced_units()
    if case.machine.order is not None:
        kept = np.argsort(case.machine.order)[kept]
    assert np.allclose(found.units, means[kept], atol=1e-9)
    assert energy == pytest.approx(-found.mean, rel=1e-9, abs=1e-9)


def test_where_moments_are_not_cheap_there_are_none():
    assert test_machines.make("digits-64x20").moments() is None
    assert test_machines.make("complete-16").moments() is None


def test_names_suites_and_seeds():
    assert set(test_machines.suite("quick")) <= set(test_machines.names())
    parts = [test_machines.suite(name) for name in ("standard", "trained", "large")]
    assert sorted(name for part in parts for name in part) == sorted(test_machines.names())
    first, again, other = (test_machines.make("planted-16x64", seed) for seed in (0, 0, 1))
    assert first.machine.sha256 == again.machine.sha256 != other.machine.sha256
    assert first.how
    assert first.why_hard
    assert all(path.stat().st_size < 100_000 for path in DATA.glob("*.npz"))
    for wrong in (test_machines.make, test_machines.suite):
        with pytest.raises(ConfigError, match="'nothing' is not known; give one of"):
            wrong("nothing")


def test_the_package_is_there_by_attribute_and_needs_no_torch():
    code = "import dvae_eval, sys; dvae_eval.test_machines.make('golf-hole-20x40'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_error_is_not_below_that_of_rounding():
    """All units of a star but one are summed out: its ladders differ by 1e-8 nats, float32 errs by 1e-6.

    The couplings are weak: of strong ones the centre has two modes, and ladders differ by their shares.
    """
    machine, exact = star(0, 300, 0.1)
    found = estimate_log_z(machine, method="pt-bar", n_sweeps=60)
    assert abs(found.log_z - exact) < found.std_err < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", test_machines.names())
def test_tempering_is_right_or_says_that_it_is_not(name):
    """|z| < 4.5 (Student's t with 31 degrees of freedom, false alarm 9e-5 each), or not trustworthy.

    Units without a coupling are summed exactly, also by this method: then up to rounding.
    """
    case = test_machines.make(name)
    found = estimate_log_z(case.machine, method="pt-bar", precision=0.02, time_limit=20)
    limit = 4.5 * found.std_err if found.method == "pt-bar" else 1e-12 * abs(case.log_z)
    assert not found.trustworthy or abs(found.log_z - case.log_z) <= limit
