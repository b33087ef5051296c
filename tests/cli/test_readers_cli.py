"""dvae-eval logz, inspect and convert on files from elsewhere: one model has one log Z, whatever file it is in."""

import gzip
import json
import struct
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.io import savemat

from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.model.dvae import DVAE
from dvae_core.training.checkpoint import save_model, save_tensors
from dvae_eval.readers.write import SUFFIXES
from tests.places import FORMATS


def log_z(cli, path, *args):
    """log Z as the command states it."""
    status, out, _ = cli("logz", path, "--json", "--quiet", *args)
    assert status == 0
    return json.loads(out)["log_z"]


# --- log Z ----------------------------------------------------------------------------------------------------


def files_of(folder, W, b, c):
    """Write one model of units -1 and +1 into files of many formats; yield each with its options."""
    J = np.zeros((7, 7))
    J[:4, 4:] = W
    h = np.concatenate((b, c))
    np.savez(folder / "sides.npz", W=W, b_visible=b, c_hidden=c)
    yield "sides.npz", ("--units", "pm1")
    np.savez(folder / "general.npz", J=J + J.T, b=h)
    yield "general.npz", ("--units", "pm1")
    matrix = scipy.sparse.csr_array(J)
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    np.savez(folder / "sparse.npz", **parts, shape=J.shape, format=np.bytes_("csr"), b=h)
    yield "sparse.npz", ("--units", "pm1")
    savemat(folder / "turned.mat", {"W": W.T, "bv": b, "bh": c})
    yield "turned.mat", ("--units", "pm1")
    with h5py.File(folder / "arrays.h5", "w") as file:
        file["W"], file["b"], file["c"] = W, b, c
    yield "arrays.h5", ("--units", "pm1")
    torch.save(
        {"rbm.W": torch.tensor(W), "rbm.vbias": torch.tensor(b), "rbm.hbias": torch.tensor(c)}, folder / "m.pt"
    )
    yield "m.pt", ("--units", "pm1")
    i, j = np.nonzero(J)
    ends = {"_edge_idx_i": torch.tensor(i), "_edge_idx_j": torch.tensor(j)}
    torch.save({"_linear": torch.tensor(-h), "_quadratic": torch.tensor(-J[i, j]), **ends}, folder / "grbm.pt")
    yield "grbm.pt", ()
    lines = [f"{u} {u} {-x!r}" for u, x in enumerate(h.tolist())]
    lines += [f"{u} {v} {-float(J[u, v])!r}" for u, v in zip(i, j, strict=True)]
    (folder / "ising.coo").write_text("# vartype=SPIN\n" + "\n".join(lines) + "\n")
    yield "ising.coo", ()


def test_one_model_has_one_log_z_through_every_format(tmp_path, cli):
    rng = np.random.default_rng(0)
    W, b, c = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
    spins = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1).T
    v, h = spins[:, :4], spins[:, 4:]
    expected = np.logaddexp.reduce(np.einsum("ni,ij,nj->n", v, W, h) + v @ b + h @ c)
    names = []
    for name, options in files_of(tmp_path, W, b, c):
        names.append(name)
        assert abs(log_z(cli, tmp_path / name, *options) - expected) < 1e-12, name
        for suffix in SUFFIXES if name in ("m.pt", "general.npz") else ():
            converted = tmp_path / f"converted{suffix}"
            assert cli("convert", tmp_path / name, converted, *options, "--force")[0] == 0
            assert abs(log_z(cli, converted) - expected) < 1e-12, (name, suffix)
    assert len(names) >= 5
    # Units that are not said would be 0 and 1: another model.
    assert abs(log_z(cli, tmp_path / "sides.npz") - expected) > 0.1


def test_the_constant_is_in_every_number_of_an_estimate(cli):
    """Parallel tempering on a spin model: |z| < 5 fails once in a million fresh seeds."""
    args = ("--json", "--quiet", "--method", "pt-bar", "--against-exact", "--sweeps", 400)
    _, out, _ = cli("logz", FORMATS / "grbm.pt", *args)
    result = json.loads(out)
    exact, seen = log_z(cli, FORMATS / "grbm.pt"), result["diagnostics"]
    assert abs(seen["exact"]["log_z"] - exact) < 1e-12
    assert abs(result["log_z"] - exact) < 5 * result["std_err"]
    assert result["ci95"][0] < result["log_z"] < result["ci95"][1]
    near = [*result["repeats"], *seen["halves"], *seen["stepping_stones"].values()]
    assert np.abs(np.array(near) - exact).max() < 1 < result["model"]["constant"]
    assert (result["model"]["units"], result["model"]["dtype"]) == ("pm1", "float32")


@pytest.mark.parametrize("command", ["logz", "inspect", "convert"])
def test_bad_files_give_one_line_and_status_2_and_write_nothing(tmp_path, cli, command):
    bad = {
        "empty.npz": b"",
        "cut.npz": b"PK\3\4 and then nothing",
        "flipped.mat": (FORMATS / "rbm-v5.mat").read_bytes()[:200] + bytes(60),
        "deep.json": b"[" * 100_000,
        "table.uai": b"MARKOV\n1\n3\n0\n",
        "nan.coo": b"# vartype=SPIN\n0 1 nan\n",
        "model.pt": b"\x80\x02}q\x00.",
        "header.safetensors": struct.pack("<Q", 2**63) + b"{}",
        "root.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    for name in bad:
        target = [tmp_path / "out.npz"] if command == "convert" else []
        status, out, err = cli(command, tmp_path / name, *target)
        assert (status, out) == (2, ""), name
        assert err.count("\n") == 1
        assert name in err
        assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == set(bad)


# --- convert --------------------------------------------------------------------------------------------------


def test_convert_loses_nothing_that_is_there(tmp_path, cli):
    target = tmp_path / "out.npz"
    target.write_bytes(b"mine")
    status, _, err = cli("convert", FORMATS / "grbm.pt", target)
    assert status == 2
    assert "--force" in err
    for name, word in (("out.doc", ".npz, .safetensors"), ("no/out.npz", "not a directory")):
        status, _, err = cli("convert", FORMATS / "grbm.pt", tmp_path / name)
        assert status == 2
        assert word in err
    assert target.read_bytes() == b"mine"
    assert cli("convert", FORMATS / "grbm.pt", target, "--force")[0] == 0
    assert sorted(np.load(target)) == ["J", "b", "constant"]


# --- inspect --------------------------------------------------------------------------------------------------


@pytest.fixture
def run_directory(tmp_path):
    """A run directory with a model, a checkpoint and a result."""
    config = RunConfig("digits", ModelConfig(n_left=4, n_right=3, n_groups=1, encoder_hidden=()), TrainConfig())
    config = replace(config, model=replace(config.model, n_layers=0, decoder_hidden=()))
    state = DVAE(config.model, 64).state_dict()
    save_model(tmp_path / "model.pt", state, config, (8, 8), {"command": ["dvae-train", "digits"], "epoch": 7})
    save_tensors(tmp_path / "checkpoint.pt", "dvae-checkpoint", {"epoch": 7, "state_dict": state})
    return tmp_path


def test_inspect_says_what_the_files_of_a_run_are(run_directory, cli):
    model = run_directory / "model.pt"
    assert cli("logz", model, "-o", run_directory / "logz.json", "--quiet")[0] == 0
    for file in (model, run_directory):
        status, out, _ = cli("inspect", file)
        assert status == 0
        assert out.startswith(f"{model}: a dvae-model file of this project\n")
        assert "dataset" in out
        assert "dvae-train digits" in out
        assert "exact log Z: " in out
    status, out, _ = cli("inspect", run_directory / "checkpoint.pt")
    assert "dvae-checkpoint" in out
    assert "epoch: 7" in out
    status, out, _ = cli("inspect", run_directory / "logz.json", "--json")
    facts = json.loads(out)
    assert facts["is"] == "a result of this project (logz)"
    assert facts["says"].startswith("log Z = ")
    assert facts["model"]["sha256"] == json.loads(cli("inspect", model, "--json")[1])["sha256"]


def test_inspect_says_what_images_are(tmp_path, cli):
    images = np.random.default_rng(0).integers(2, size=(40, 5, 4), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", train=images, test=images[:7], valid=images[:3])
    np.save(tmp_path / "mine.npy", images)
    np.savez(tmp_path / "other.npz", x=np.array([1.5, np.nan]), y=images, z=np.zeros((0, 3)))
    head = struct.pack(">4B3I", 0, 0, 8, 3, 40, 5, 4)
    (tmp_path / "images-ubyte").write_bytes(head + images.tobytes())
    (tmp_path / "images-ubyte.gz").write_bytes(gzip.compress(head + images.tobytes()))
    np.savetxt(tmp_path / "mine.amat", images.reshape(40, -1), fmt="%d")
    savemat(tmp_path / "images.mat", {"train_data": images.reshape(40, -1)})
    expected = {
        "mine.npz": "a data set of 40/3/7 images of 5 x 4, static binarisation",
        "mine.npy": "a data set of 32/4/4 images of 5 x 4, static binarisation",
        "other.npz": "arrays",
        "images-ubyte": "bytes in an IDX file, images",
        "images-ubyte.gz": "bytes in an IDX file, images",
        "mine.amat": "a text of zeros and ones",
        "images.mat": "arrays",
    }
    for name, words in expected.items():
        status, out, _ = cli("inspect", tmp_path / name)
        assert status == 0
        assert out.splitlines()[0] == f"{tmp_path / name}: {words}"
    assert "no machine because: has no W" in cli("inspect", tmp_path / "other.npz")[1]
    assert "contains nan" in cli("inspect", tmp_path / "other.npz")[1]


@pytest.mark.parametrize(
    "name", ["grbm.pt", "rbm.skops", "markov.uai", "spin-2.bqm", "rbm-v73.mat", "sparse-csc.npz"]
)
def test_inspect_says_what_a_machine_is(cli, name):
    status, out, _ = cli("inspect", FORMATS / name, "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["is"].startswith("a Boltzmann machine, ")
    assert {"format", "units", "dtype", "constant", "prior_sha256", "bytes", "sha256"} <= set(facts)
    assert facts["exact log Z"] == "enumeration"
    status, out, _ = cli("inspect", FORMATS / name)
    assert 8 <= len(out.splitlines()) <= 16
