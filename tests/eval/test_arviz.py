"""Samples for ArviZ: groups, chains and provenance; its diagnostics agree with ours and with known values."""

import dataclasses
import sys
import warnings

import matplotlib
import numpy as np
import pytest
import xarray

from dvae_core.errors import ConfigError
from dvae_eval import estimate_log_z, estimate_observables, load_states, sample_states, to_arviz
from dvae_eval.states.chains import netcdf_bytes
from dvae_eval.states.thinning import autocorrelation_time
from tests.eval.test_cards import RBM

with warnings.catch_warnings():  # of its own coming major version
    warnings.simplefilter("ignore")
    import arviz as az

IS_MAJOR = int(az.__version__.split(".")[0]) >= 1
matplotlib.use("agg")


def for_arviz(tree):
    """What functions of the ArviZ that is installed take."""
    return tree if IS_MAJOR else az.from_datatree(tree)


@pytest.fixture(scope="module")
def tempered():
    return sample_states(RBM, 100, method="pt-bar", n_sweeps=100, n_replicates=8)


def flipping(n_chains, n_draws, flip, seed=0):
    """Chains (draw, chain) of a unit that changes with a probability: neighbours correlate by 1 - 2 flip."""
    rng = np.random.default_rng(seed)
    changes = rng.random((n_draws, n_chains)) < flip
    return ((rng.random(n_chains) < 0.5) + np.cumsum(changes, 0)) % 2


def with_units(states, x):
    """Samples whose first unit is x, (draw, chain), as a tempered run leaves them: replicates in turn."""
    columns = np.zeros((x.size, states.states.shape[1]), np.int8)
    columns[:, 0] = x.ravel()
    diagnostics = {"states": {"n_replicates": x.shape[1]}}
    return dataclasses.replace(states, states=columns, log_p=np.zeros(x.size), diagnostics=diagnostics)


def test_a_chain_is_a_replicate_and_a_draw_a_look(tempered):
    tree = to_arviz(tempered)
    x, lp = tree["posterior"]["x"], tree["sample_stats"]["lp"]
    assert x.dims == ("chain", "draw", "unit")
    assert dict(x.sizes) == {"chain": 8, "draw": 12, "unit": 7}  # the last 4 states are of half the replicates
    assert np.array_equal(x.sel(chain=3, draw=5), tempered.states[5 * 8 + 3])
    assert lp.sel(chain=3, draw=5) == tempered.log_p[5 * 8 + 3]
    assert np.allclose(tree["sample_stats"]["energy"], -(lp + tempered.log_z))
    assert x["unit"].values.tolist() == tempered.names
    assert tree.attrs["verdict"] == tempered.verdict
    assert tree.attrs["machine_sha256"] == tempered.model["prior_sha256"]
    assert tree["posterior"].attrs["inference_library"] == "dvae-toolkit"


def test_independent_states_make_four_chains():
    tree = to_arviz(sample_states(RBM, 50))
    assert tree["posterior"]["x"].shape == (4, 12, 7)
    assert to_arviz(sample_states(RBM, 2))["posterior"]["x"].shape == (2, 1, 7)


def test_effective_sizes_agree_with_the_known_one(tempered):
    """A unit that flips with probability 0.1 is worth 0.1 / 0.9 of its draws: by ArviZ and by us, to 10 %.

    The relative error of either is about 3 %; a fresh seed fails with probability 0.1 %.
    """
    x = flipping(8, 6000, flip=0.1)
    known = x.size * 0.1 / 0.9
    states = with_units(tempered, x)
    theirs = az.ess(for_arviz(to_arviz(states)), var_names=["x"], method="mean")["x"].values[0]
    ours = x.size / (2 * autocorrelation_time(x.astype(float)))
    assert theirs == pytest.approx(known, rel=0.1)
    assert ours == pytest.approx(known, rel=0.1)
    # With draws and chains exchanged, they would seem to be independent.
    broken = with_units(tempered, x.T.reshape(x.shape))
    wrong = az.ess(for_arviz(to_arviz(broken)), var_names=["x"], method="mean")["x"].values[0]
    assert wrong != pytest.approx(known, rel=0.1)


def test_independent_draws_count_in_full():
    """Of 4000 exact draws ArviZ's effective sizes, of each of 7 units, are within 15 % of 4000."""
    states = sample_states(RBM, 4000, seed=1)
    sizes = az.ess(for_arviz(to_arviz(states)), var_names=["x"], method="mean")["x"].values
    assert np.abs(sizes / 4000 - 1).max() < 0.15
    assert az.rhat(for_arviz(to_arviz(states)), var_names=["x"])["x"].values.max() < 1.02


def test_summary_and_ranks_work(tempered):
    data = for_arviz(to_arviz(tempered))
    table = az.summary(data, var_names=["x"])
    assert table.index.tolist() == [f"x[{unit}]" for unit in range(7)]
    assert np.allclose(table["mean"].astype(float), tempered.states[:96].mean(0), atol=0.01)
    assert az.plot_rank(data, var_names=["x"], coords={"unit": ["0", "1"]}) is not None


def test_replicates_of_log_z_are_chains():
    found = estimate_log_z(RBM, method="pt-bar", n_sweeps=100, n_replicates=8)
    tree = to_arviz(found)
    assert tree["posterior"]["log_z"].shape == (8, 1)
    assert tree["posterior"]["log_z"].values.ravel().tolist() == found.repeats
    assert tree["sample_stats"]["round_trips"].shape == (8, 1)


def test_what_holds_no_samples_is_refused():
    with pytest.raises(ConfigError, match="an exact log Z has no replicates"):
        to_arviz(estimate_log_z(RBM))
    with pytest.raises(ConfigError, match="ObservablesResult contains no samples"):
        to_arviz(estimate_observables(RBM))


@pytest.mark.parametrize("library", ["xarray", "h5netcdf"])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, tempered, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ConfigError, match=rf"needs {library}; install it with: pip install 'dvae-toolkit\[arviz\]'$"
    ):
        netcdf_bytes(to_arviz(tempered))


# --- dvae-eval export -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tempered, tmp_path_factory):
    path = tmp_path_factory.mktemp("states") / "states.npz"
    path.write_bytes(tempered.to_bytes("npz"))
    return path


def test_samples_are_exported_as_netcdf(file, tmp_path, cli, tempered):
    out = tmp_path / "states.nc"
    assert cli("export", file, "-o", out)[0] == 0
    with xarray.open_datatree(out, engine="h5netcdf") as tree:
        assert tree.load().identical(to_arviz(tempered))
    assert az.from_netcdf(out)["posterior"]["x"].shape == (8, 12, 7)
    status, _, said = cli("export", file, "-o", out)
    assert status == 2
    assert f"{out} exists" in said
    assert cli("export", file, "-o", out, "--force", "-q") == (0, "", "")


def test_energies_of_a_file_are_in_its_own_scale(tempered, tmp_path):
    path = tmp_path / "scaled.npz"
    scaled = dataclasses.replace(tempered, energy_scale=2.0, model={**tempered.model, "beta": 2.0})
    path.write_bytes(scaled.to_bytes("npz"))
    assert to_arviz(load_states(path)).identical(to_arviz(scaled))


def test_tables_are_exported_as_csv(file, tmp_path, cli, tempered):
    status, out, _ = cli("export", file, "-o", "-")
    assert status == 0
    assert out == tempered.to_frame().to_csv(index=False)
    logz = tmp_path / "logz.json"
    found = estimate_log_z(RBM, method="pt-bar", n_sweeps=100, n_replicates=8)
    found.save(logz)
    assert cli("export", logz, "-o", tmp_path / "a.csv")[0] == 0
    assert (tmp_path / "a.csv").read_text() == found.to_frame().to_csv(index=False)
    assert cli("export", logz, "-o", tmp_path / "a.txt", "--format", "netcdf", "-q")[0] == 0


def test_what_is_not_to_be_trusted_says_so(tempered, tmp_path, cli):
    check = dataclasses.replace(tempered.checks[0], passed=False, value=9.0)
    path = tmp_path / "bad.npz"
    path.write_bytes(dataclasses.replace(tempered, checks=(check,)).to_bytes("npz"))
    status, _, said = cli("export", path, "-o", tmp_path / "bad.nc")
    assert status == 0
    assert "NOT TO BE TRUSTED" in said
    with xarray.open_datatree(tmp_path / "bad.nc", engine="h5netcdf") as tree:
        assert tree.attrs["verdict"] == "doubtful"


@pytest.mark.parametrize(
    ("content", "output", "message"),
    [
        (b"{}", "x.nc", "not a result of this project"),
        (b"PK\x03\x04 no archive", "x.nc", "cannot be read"),
        (b"{}", "x.dat", "has no known suffix; end it in .nc or .csv, or give --format"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(tmp_path, cli, content, output, message):
    source = tmp_path / "source"
    source.write_bytes(content)
    status, out, said = cli("export", source, "-o", tmp_path / output)
    assert (status, out) == (2, "")
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]


def test_netcdf_is_no_text(file, cli):
    status, _, said = cli("export", file, "-o", "-", "--format", "netcdf")
    assert status == 2
    assert "binary data cannot be written to" in said
