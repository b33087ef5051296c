"""Machines from elsewhere: every format as its own library writes it, against that library's own energies."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from dvae_eval.exact import enumerate_states, exact_log_z
from dvae_eval.machine import BipartiteMachine
from dvae_eval.readers import ReadConfig, read_machine

FORMATS = Path(__file__).parent / "data" / "formats"
EXPECTED = json.loads((FORMATS / "expected.json").read_text())


def original(name, folder):
    """The file of that name, and the options that it needs."""
    if not name.startswith("rbms-"):
        return FORMATS / name, ReadConfig()
    path = folder / "rbms.h5"
    path.write_bytes(gzip.decompress((FORMATS / "rbms.h5.gz").read_bytes()))
    return path, ReadConfig(update=int(name.removeprefix("rbms-")))


def all_log_p(reading):
    """log p of all states before normalising, in the file's convention, sorted."""
    machine = reading.machine
    z = enumerate_states(machine.n_units)
    if isinstance(machine, BipartiteMachine):
        left, right = z[:, : machine.n_left], z[:, machine.n_left :]
        values = np.einsum("ni,ij,nj->n", left, machine.W, right) + left @ machine.b_left + right @ machine.b_right
    else:
        values = np.einsum("ni,ij,nj->n", z, machine.J, z) + z @ machine.b
    return np.sort(values + reading.constant)


def visible_log_p(reading):
    """log p of all states of the left side, the right one summed out."""
    m = reading.machine
    v = enumerate_states(m.n_left)
    return np.sort(v @ m.b_left + np.logaddexp(0, v @ m.W + m.b_right).sum(1) + reading.constant)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_state_has_the_energy_that_the_original_library_gives_it(name, tmp_path):
    path, config = original(name, tmp_path)
    reading = read_machine(path, config)
    expected = EXPECTED[name]
    log_p = visible_log_p(reading) if expected.get("marginal") == "visible" else all_log_p(reading)
    np.testing.assert_allclose(log_p, expected["log_p"], atol=1e-9)
    log_z = exact_log_z(reading.machine) + reading.constant
    assert abs(log_z - logsumexp(expected["log_p"])) < 1e-9
    assert abs(log_z - expected.get("log_z", log_z)) < 1e-9
    assert reading.description["constant"] == reading.constant
