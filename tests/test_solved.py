"""Machines of unusual shapes whose log Z is known by a way of their own (`solved`)."""

import pytest

from dvae_eval import estimate_log_z
from dvae_eval.test_machines.solved import odd_models, star

ODD = list(odd_models())


@pytest.mark.parametrize(("machine", "exact"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_the_default_method_is_exact(machine, exact):
    found = estimate_log_z(machine)
    assert (found.method, found.std_err, found.trustworthy) == ("exact", 0, True)
    assert found.log_z == pytest.approx(exact, rel=1e-11, abs=1e-9)


def test_an_error_is_not_below_that_of_rounding():
    """All units of a star but one are summed out: its ladders differ by 1e-8 nats, float32 errs by 1e-6.

    The couplings are weak: of strong ones the centre has two modes, and ladders differ by their shares.
    """
    machine, exact = star(0, 300, 0.1)
    found = estimate_log_z(machine, method="pt-bar", n_sweeps=60)
    assert abs(found.log_z - exact) < found.std_err < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "exact"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_tempering_is_right_or_says_that_it_is_not(machine, exact):
    """|z| < 4.5 (Student's t with 31 degrees of freedom, false alarm 9e-5 each), or not trustworthy."""
    found = estimate_log_z(machine, method="pt-bar", precision=0.02, time_limit=20)
    assert not found.trustworthy or abs(found.log_z - exact) < 4.5 * found.std_err
