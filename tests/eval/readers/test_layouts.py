"""Files as public code lays them out: every array is used, refused as another model, or listed as ignored.

The files in `tests/data/cases` are small machines under other people's names; the right values come from
enumeration by code in this module, by what the public sources say of signs and units.
"""

import itertools
import json
import os
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

from dvae_core.errors import ConfigError, DataError
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.readers import ReadConfig, read_machine
from dvae_eval.readers.arrays import read_arrays
from dvae_eval.readers.inspection import inspect_file
from tests.oracles import enumerate_states
from tests.places import CASES

PLAIN, CENTRED, MASKED = 8.414286, 7.788491, 7.892480
UNITS = "units 0 and 1; --units pm1 for spins"
RNG = np.random.default_rng(0)
W, B, C = RNG.normal(size=(4, 3)), RNG.normal(size=4), RNG.normal(size=3)


def log_z(path, **options):
    """log Z of a file, in its own convention."""
    found = read_machine(path, ReadConfig(**options))
    return exact_log_z(found.machine) + found.constant


def summed(W, b, c, values=(0, 1), centres=(0, 0)):
    """log Z of an RBM, by summing all its states."""
    x = enumerate_states(len(b) + len(c), values)
    v, h = x[:, : len(b)] - centres[0], x[:, len(b) :] - centres[1]
    return np.logaddexp.reduce(np.einsum("ni,ij,nj->n", v, W, h) + v @ b + h @ c)


def saved(folder, **arrays):
    """A file of NumPy arrays."""
    np.savez(folder / "m.npz", **arrays)
    return folder / "m.npz"


# --- the cases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("03_centred.npz", CENTRED),
        ("06_masked.npz", MASKED),
        ("10_dotted.npz", PLAIN),
        ("10_dwave_rbm.pt", PLAIN),
        ("10_underscore.pt", PLAIN),
        ("10_visbias.npz", PLAIN),
        ("11_bom.uai", 2.833213),
        ("11_comment.coo", 1.880978),
        ("11_lower.uai", 2.833213),
        ("13_group.h5", PLAIN),
        ("13_v4.mat", PLAIN),
        ("14_bqm.json", 1.880978),
    ],
)
def test_cases_that_are_read(name, expected):
    assert abs(log_z(CASES / name) - expected) < 1e-6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("04_gaussian.npz", "has sigma: Gaussian units"),
        ("04_gaussian.h5", "has sigma: Gaussian units"),
        ("04_gaussian.pt", "has sigma: Gaussian units"),
        ("05_conditional.npz", "has A and B: units that depend on a past"),
        ("10_legacy.pt", r"before PyTorch 1.6.*torch.save\(torch.load\('OLD', weights_only=True\), 'NEW'\)"),
        ("10_numpy_inside.pt", "holds NumPy arrays.*numpy.savez"),
    ],
)
def test_cases_that_are_refused_in_one_line(name, message, cli):
    status, out, err = cli("logz", CASES / name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    with pytest.raises(DataError, match=message):
        read_machine(CASES / name)


def test_a_model_all_of_whose_variables_are_observed(cli):
    path = CASES / "12_full.uai"
    status, out, _ = cli("logz", path, "--evidence", f"{path}.evid", "--json", "-q")
    assert status == 0
    assert abs(json.loads(out)["log_z"] - np.log(6)) < 1e-12


def test_epochs_of_a_checkpoint_of_caloquvae():
    path = CASES / "calo_training_checkpoint_epoch_00100.h5"
    parts = {}
    with h5py.File(path) as file:
        for epoch in (50, 100):
            names = ("weight_matrix", "vbias", "hbias")
            parts[epoch] = [np.float64(file[f"epoch_{epoch}"][name][()]) for name in names]
    assert abs(log_z(path) - summed(*parts[100])) < 1e-9
    assert abs(log_z(path, update=50) - summed(*parts[50])) < 1e-9
    with pytest.raises(DataError, match="no epoch 7; give another, the last are 50, 100"):
        read_machine(path, ReadConfig(update=7))


def test_a_prior_of_four_partitions_of_caloquvae():
    """Their fields: every partition's units see W_ab * M_ab, and 0 and 1 are drawn by a sigmoid."""
    state = {name: value.double().numpy() for name, value in torch.load(CASES / "calo_4p.pth")["prior"].items()}
    # The last partition's units are independent given the others': they are summed unit by unit.
    x = np.split(enumerate_states(18), 3, axis=1)
    energy = sum(x[a] @ state[f"_bias_dict.{a}"] for a in range(3))
    field = state["_bias_dict.3"]
    for a, b in itertools.combinations(range(4), 2):
        J = state[f"_weight_dict.{a}{b}"] * state[f"_weight_mask_dict.{a}{b}"]
        if b == 3:
            field = field + x[a] @ J
        else:
            energy = energy + np.einsum("ni,ni->n", x[a] @ J, x[b])
    energy = energy + np.logaddexp(0, field).sum(1)
    found = read_machine(CASES / "calo_4p.pth")
    assert found.machine.n_units == 24
    assert found.description["left_aside"] == ["encoder"]
    assert abs(exact_log_z(found.machine) - np.logaddexp.reduce(energy)) < 1e-9


def test_state_dicts_of_kaiwus_plugin():
    """E(x) = -b'x - v'Qh of an RBM, -b'x - x'triu(Q, 1)x of a Boltzmann machine, x in {0, 1}."""
    for name, prefix in (("kaiwu_rbm.pth", ""), ("kaiwu_qvae.pth", "bm.")):
        state = torch.load(CASES / name)
        Q, b = (state[f"{prefix}{part}"].double().numpy() for part in ("quadratic_coef", "linear_bias"))
        assert abs(log_z(CASES / name) - summed(Q, b[: len(Q)], b[len(Q) :])) < 1e-9
    state = torch.load(CASES / "kaiwu_bm.pth")
    Q, b = state["quadratic_coef"].double().numpy(), state["linear_bias"].double().numpy()
    x = enumerate_states(len(b))
    expected = np.logaddexp.reduce(x @ b + np.einsum("ni,ij,nj->n", x, np.triu(Q, 1), x))
    assert abs(log_z(CASES / "kaiwu_bm.pth") - expected) < 1e-9
    described = read_machine(CASES / "kaiwu_bm.pth").description
    assert described["left_aside"] == ["quadratic_coef on and below the diagonal"]
    assert "assumed" not in described


def test_an_archive_of_rbms_with_spins():
    with h5py.File(CASES / "rbms_ii.h5") as file:
        parts = [file["update_10/params"][name][()] for name in ("weight_matrix", "vbias", "hbias")]
    assert abs(log_z(CASES / "rbms_ii.h5") - summed(*map(np.float64, parts), (-1, 1))) < 1e-9


# --- what is used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("ov", "oh"), ("visible_offset", "hidden_offset"), ("mu", "lambda"), ("ov", None)]
)
def test_offsets_of_centred_machines(tmp_path, names):
    of_v, of_h = RNG.random(4), RNG.random(3)
    offsets = {names[0]: of_v[None]} | ({names[1]: of_h} if names[1] else {})
    path = saved(tmp_path, W=W, bv=B, bh=C, **offsets)
    expected = summed(W, B, C, centres=(of_v, of_h if names[1] else 0))
    assert abs(log_z(path) - expected) < 1e-12
    assert "v - o_v" in read_machine(path).description["offsets"]
    spins = summed(W, B, C, (-1, 1), centres=(of_v, of_h if names[1] else 0))
    assert abs(log_z(path, units="pm1") - spins) < 1e-12
    np.savez(path, W=W, bv=B, bh=C, ov=of_v[:3])
    with pytest.raises(DataError, match="offsets have shape"):
        read_machine(path)


@pytest.mark.parametrize("mask", ["weights_mask", "W_mask", "mask", "weight_mask"])
@pytest.mark.parametrize("turned", [False, True])
def test_masks_multiply_what_they_are_of(tmp_path, mask, turned):
    M, of_v = RNG.random((4, 3)) < 0.5, RNG.random(4) < 0.5
    arrays = {"W": W, "v_bias": B, "h_bias": C, mask: M.astype(float), "v_bias_mask": of_v}
    if turned:
        arrays |= {"W": W.T, mask: M.T}
    assert abs(log_z(saved(tmp_path, **arrays)) - summed(W * M, B * of_v, C)) < 1e-12
    assert set(read_machine(tmp_path / "m.npz").description["masks"]) == {mask, "v_bias_mask"}


def test_masks_that_are_none_are_refused(tmp_path):
    arrays = {"W": W, "b_left": B, "b_right": C}
    for bad, message in (
        ({"mask": np.full((4, 3), 0.5)}, "values other than 0 and 1"),
        ({"mask": np.ones((3, 4))}, "mask has shape"),
        ({"unit_mask": np.ones(7)}, "does not say what it masks"),
    ):
        with pytest.raises(DataError, match=message):
            read_machine(saved(tmp_path, **arrays, **bad))
    J = np.triu(RNG.normal(size=(5, 5)), 1)
    M = np.triu(RNG.random((5, 5)) < 0.5, 1)
    x = enumerate_states(5)
    expected = np.logaddexp.reduce(np.einsum("ni,ij,nj->n", x, J * M, x))
    assert (
        abs(log_z(saved(tmp_path, J=J + J.T, b=np.zeros(5), adjacency=(M | M.T).astype(int))) - expected) < 1e-12
    )
    scipy.sparse.save_npz(tmp_path / "m.npz", scipy.sparse.csr_array(J))
    with np.load(tmp_path / "m.npz") as found:
        np.savez(tmp_path / "m.npz", **dict(found), J_mask=M)
    with pytest.raises(DataError, match="for a sparse J"):
        read_machine(tmp_path / "m.npz")


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ({"visible_type": "binary", "hidden_type": "Bernoulli"}, "01"),
        ({"units": "spin"}, "pm1"),
        ({"vartype": "SPIN"}, "pm1"),
        ({"visible_type": "Ising", "hidden_type": "ising"}, "pm1"),
        ({"model_type": "IIRBM"}, "pm1"),
    ],
)
def test_units_that_a_file_says_are_not_assumed(tmp_path, said, units):
    path = saved(tmp_path, W=W, b=B, c=C, **said)
    expected = summed(W, B, C, (0, 1) if units == "01" else (-1, 1))
    assert abs(log_z(path) - expected) < 1e-12
    assert abs(log_z(path, units=units) - expected) < 1e-12
    described = read_machine(path).description
    assert described["units"] == units
    assert "assumed" not in described
    assert "left_aside" not in described
    with pytest.raises(DataError, match="leave --units out"):
        read_machine(path, ReadConfig(units="pm1" if units == "01" else "01"))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["W"], file["b"], file["c"] = W, B, C
        for name, text in said.items():
            file.attrs[name] = text
    assert abs(log_z(tmp_path / "m.h5") - expected) < 1e-12
    torch.save({"W": torch.tensor(W), "b": torch.tensor(B), "c": torch.tensor(C), **said}, tmp_path / "m.pt")
    assert abs(log_z(tmp_path / "m.pt") - expected) < 1e-12


# --- what is refused ------------------------------------------------------------------------------------------

OTHERS = {
    "sigma": ({"sigma": np.ones(4)}, "Gaussian"),
    "log_var": ({"log_var": np.zeros(4)}, "Gaussian"),
    "variance of one side": ({"visible_variance": np.ones(4)}, "Gaussian"),
    "precision": ({"precision": np.ones(4)}, "Gaussian"),
    "a mean alone": ({"mu": np.zeros(4)}, "Gaussian"),
    "a switch": ({"is_gaussian": np.True_}, "Gaussian"),
    "visible type": ({"visible_type": "gaussian"}, "unsupported kind of model"),
    "hidden type": ({"hidden_type": "relu"}, "unsupported kind of model"),
    "one of each": ({"visible_type": "binary", "hidden_type": "spin"}, "units of one kind"),
    "model type": ({"model_type": "GBRBM"}, "unsupported kind of model"),
    "past": ({"A": np.ones((4, 8)), "B": np.ones((3, 8))}, "past"),
    "condition": ({"W_cond": np.ones((4, 8))}, "condition"),
    "labels": ({"labhid": np.ones((10, 3)), "labbiases": np.ones(10)}, "labels"),
    "a second layer": ({"W2": np.ones((3, 5))}, "further layers"),
    "a deep machine": ({"hidpen": np.ones((3, 5)), "penbiases": np.ones(5)}, "further layers"),
    "within a side": ({"L": np.ones((4, 4))}, "within a side"),
    "auxiliary units": ({"aux_bias": np.ones(4)}, "auxiliary"),
    "quantised": ({"scale": np.float64(0.1)}, "quantised"),
    "temperature": ({"beta": np.float64(0.5)}, "beta = 0.5"),
    "an energy offset": ({"offset": np.float64(0.5)}, "offset = 0.5"),
    "states": ({"n_states": np.int64(21)}, "two states"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_makes_another_model_is_refused(tmp_path, name):
    extra, message = OTHERS[name]
    with pytest.raises(DataError, match=message) as caught:
        read_machine(saved(tmp_path, W=W, b_left=B, b_right=C, **extra))
    assert str(caught.value).startswith(f"{tmp_path / 'm.npz'}: ")
    assert "\n" not in str(caught.value)


def test_what_changes_nothing_is_no_reason_to_refuse(tmp_path):
    off = {
        "is_gaussian": np.False_,
        "beta": 1.0,
        "temperature": np.ones(1),
        "scale": 1.0,
        "offset": 0.0,
        "n_states": 2,
    }
    harmless = {"epoch": 3, "W2": W**2, "dW": W, "seed": 1, "train_images": np.zeros((5, 4)), "loss_history": B}
    path = saved(tmp_path, W=W, b_left=B, b_right=C, **off, **harmless)
    assert abs(log_z(path) - summed(W, B, C)) < 1e-12
    assert read_machine(path).description["left_aside"] == ["W2"]


def test_j_beside_other_parameters_is_refused(tmp_path):
    J = np.triu(np.ones((4, 4)), 1)
    for extra in ({"h": B}, {"ov": B}, {"W": W}):
        with pytest.raises(DataError, match="both J and"):
            read_machine(saved(tmp_path, J=J, b=B, **extra))


# --- what is named --------------------------------------------------------------------------------------------


def test_what_was_assumed_and_left_aside_is_said_everywhere(tmp_path, cli):
    path = saved(tmp_path, W=W, b_left=B, b_right=C, strange=np.ones(4), other_thing=np.ones((2, 2)), epoch=3)
    status, out, err = cli("logz", path)
    assert status == 0
    assert out.strip().endswith(f"nats (exact), with {UNITS}")
    assert "ignored: other_thing, strange\n" in err
    _, out, _ = cli("logz", path, "--json", "-q")
    model = json.loads(out)["model"]
    assert model["assumed"] == [UNITS]
    assert model["left_aside"] == ["other_thing", "strange"]
    _, out, _ = cli("inspect", path)
    assert f"assumed: {UNITS}" in out
    assert "ignored: other_thing, strange" in out
    _, _, err = cli("convert", path, tmp_path / "out.npz")
    assert "ignored: other_thing, strange\n" in err
    _, out, _ = cli("logz", path, "--units", "01")
    assert out.strip().endswith("nats (exact)")
    assert cli("logz", path, "-q")[2] == ""


def test_modules_beside_the_machine_are_named_once(tmp_path):
    module = torch.nn.ModuleDict({"encoder": torch.nn.Linear(3, 5), "decoder": torch.nn.Linear(5, 3)})
    rbm = {"W": torch.tensor(W), "vbias": torch.tensor(B), "hbias": torch.tensor(C)}
    state = module.state_dict() | {f"prior.{name}": value for name, value in rbm.items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}}
    torch.save({"model": state, "optimizer": optimizer, "epoch": 3, "ema": {"decay": 0.9}}, tmp_path / "m.pt")
    described = read_machine(tmp_path / "m.pt").description
    assert described["group"] == "model.prior"
    assert described["left_aside"] == ["model.decoder", "model.encoder"]


def test_many_names_are_cut_short(tmp_path):
    described = read_machine(saved(tmp_path, W=W, b=B, c=C, **{f"thing{i}x": B for i in range(30)})).description
    assert len(described["left_aside"]) == 13
    assert described["left_aside"][-1] == "and 18 more"


# --- groups, structures and other containers ------------------------------------------------------------------


def test_qucumbers_wave_functions(tmp_path):
    """The amplitudes' machine has rows of hidden units; the phases' is no part of log Z."""
    square = RNG.normal(size=(4, 4))
    rbm = {"weights": torch.tensor(square), "visible_bias": torch.tensor(B), "hidden_bias": torch.tensor(B + 1)}
    torch.save({"rbm_am": rbm, "unitary_dict": {}}, tmp_path / "positive.pt")
    torch.save({"rbm_am": rbm, "rbm_ph": dict(rbm)}, tmp_path / "complex.pt")
    for name in ("positive.pt", "complex.pt"):
        assert abs(log_z(tmp_path / name) - summed(square.T, B, B + 1)) < 1e-12
    assert read_machine(tmp_path / "complex.pt").description["left_aside"] == ["rbm_ph"]
    torch.save({"rbm_am": {"weights_W": rbm["weights"], "weights_U": rbm["weights"], **rbm}}, tmp_path / "dm.pt")
    with pytest.raises(DataError, match=r"auxiliary units"):
        read_machine(tmp_path / "dm.pt")


@pytest.mark.parametrize("separator", [".", "/", "___"])
def test_names_with_groups_before_them(tmp_path, separator):
    arrays = {f"rbm{separator}{name}": value for name, value in (("W", W), ("vbias", B), ("hbias", C))}
    if separator == "/":
        with h5py.File(tmp_path / "m.h5", "w") as file:
            for name, value in arrays.items():
                file[f"model/{name}"] = value
        path = tmp_path / "m.h5"
    else:
        path = saved(tmp_path, **arrays)
    assert abs(log_z(path) - summed(W, B, C)) < 1e-12
    two = {f"{part}.{name}": value for part in "xy" for name, value in (("W", W), ("b", B), ("c", C))}
    with pytest.raises(DataError, match=r"contains 2 machines \(x, y\)"):
        read_machine(saved(tmp_path, **two))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", ["4", "5"])
def test_structures_cells_and_versions_of_matlab(tmp_path, version, packed):
    path = tmp_path / "m.mat"
    rbm = {"W": W.T, "b": B[:, None], "c": C[:, None]}
    if version == "4":
        scipy.io.savemat(path, rbm, format="4")
        assert abs(log_z(path) - summed(W, B, C)) < 1e-12
        J = scipy.sparse.csc_array(np.triu(RNG.normal(size=(5, 5)), 1))
        scipy.io.savemat(path, {"J": J, "b": np.ones(5)}, format="4")
        x = enumerate_states(5)
        expected = np.logaddexp.reduce(np.einsum("ni,ij,nj->n", x, J.toarray(), x) + x.sum(1))
        assert abs(log_z(path) - expected) < 1e-12
        return
    # DeepLearnToolbox: a cell of structures, with momenta beside the parameters.
    momenta = {"vW": 0 * W.T, "vb": 0 * B[:, None], "vc": 0 * C[:, None], "alpha": 1.0, "momentum": 0.0}
    cell = np.empty((1, 1), object)
    cell[0, 0] = rbm | momenta
    for content in ({"rbm": rbm | momenta}, {"dbn": {"sizes": np.array([4, 3]), "rbm": cell}}):
        scipy.io.savemat(path, content, do_compression=packed)
        assert abs(log_z(path) - summed(W, B, C)) < 1e-12
    scipy.io.savemat(path, {"rbm": rbm | {"type": "gaussian"}}, do_compression=packed)
    with pytest.raises(DataError, match="type = 'gaussian'"):
        read_machine(path)
    assert inspect_file(path)["arrays"].keys() == {"rbm.W", "rbm.b", "rbm.c"}


def test_damaged_files_of_version_4(tmp_path):
    path = tmp_path / "m.mat"
    scipy.io.savemat(path, {"W": W, "b": B, "c": C}, format="4")
    content = path.read_bytes()
    for bad in (content[:-3], content + b"\1\2\3", content[:4] + struct.pack("<I", 2**31) + content[8:]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="no MATLAB file"):
            read_machine(path)


def test_arrays_as_json(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"W": W.tolist(), "vbias": B.tolist(), "hbias": C.tolist(), "epoch": 3}))
    assert abs(log_z(path) - summed(W, B, C)) < 1e-12
    for text, message in (
        ('{"a": 1}', "JSON without a model"),
        ('{"kind": "logz", "schema": 1}', "is a result; give"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_machine(path)
    spin = json.loads((CASES / "14_bqm.json").read_text())
    for change in ({"variable_type": "X"}, {"use_bytes": True}, {"quadratic_head": [0, 1]}, {"linear_biases": 3}):
        path.write_text(json.dumps(spin | change))
        with pytest.raises(DataError):
            read_machine(path)


def test_a_state_dict_without_edges_says_so(tmp_path):
    torch.save({"_linear": torch.ones(3), "_quadratic": torch.ones(2)}, tmp_path / "m.pt")
    with pytest.raises(DataError, match="without its edges"):
        read_machine(tmp_path / "m.pt")


def test_texts_in_other_encodings(tmp_path):
    text = (CASES / "11_lower.uai").read_text()
    for content in (
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("utf-16"),
        f"# créé\n{text}".encode(),
        f"// créé\n{text}".encode("latin-1"),
    ):
        (tmp_path / "m").write_bytes(content)
        assert abs(log_z(tmp_path / "m") - 2.833213) < 1e-6
    (tmp_path / "m").write_bytes("# créé\n# vartype=SPIN\n0 0 0.5\n1 1 -0.25\n0 1 -1.0\n".encode("latin-1"))
    assert abs(log_z(tmp_path / "m") - 1.880978) < 1e-6


# --- paths ----------------------------------------------------------------------------------------------------

FORMATS = CASES.parent / "formats"


@pytest.mark.parametrize(
    "name", ["rbm.pt", "rbm.safetensors", "rbm-v5.mat", "rbm-v73.mat", "rbm.skops", "spin.coo", "sparse-csr.npz"]
)
def test_paths_that_are_no_utf8_and_capital_endings(tmp_path, name, cli):
    expected = log_z(FORMATS / name)
    strange = tmp_path / os.fsdecode(b"caf\xe9" + Path(name).suffix.upper().encode())
    strange.write_bytes((FORMATS / name).read_bytes())
    assert log_z(strange) == expected
    assert log_z(str(strange)) == expected
    status, out, _ = cli("logz", strange, "--json", "-q")
    assert (status, json.loads(out)["log_z"]) == (0, expected)
    assert cli("inspect", strange)[0] == 0
    strange.write_bytes(b"")
    status, _, err = cli("logz", strange)
    assert (status, err.count("\n")) == (2, 1)


def test_declared_units_leave_no_choice():
    with pytest.raises(ConfigError, match="--units"):
        read_arrays({"W": W, "b": B, "c": C}, ReadConfig(units="pm1"), "test", declared="01")


def test_texts_of_letters_that_are_none(tmp_path):
    """NumPy takes any number for a letter; Python's own strings end on them with a SystemError."""
    spin = "spin".encode("utf-32-le")
    path = saved(tmp_path, W=W, b=B, c=C, units="spin")
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive, zipfile.ZipFile(path) as whole:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name).replace(spin, b"\xff" * 16))
    with pytest.raises(DataError, match="invalid text"):
        read_machine(tmp_path / "bad.npz")


def test_texts_of_hdf5_on_which_its_library_runs_for_ever(tmp_path):
    """A collection of texts whose rest has the length 0: the library never gets past it."""
    content = (CASES / "04_gaussian.h5").read_bytes()
    place = content.index(b"GCOL")
    rest = struct.pack("<2HIQ", 0, 0, 0, 4056)
    assert rest in content[place:]
    path = tmp_path / "m.h5"
    path.write_bytes(content[:place] + content[place:].replace(rest, bytes(16), 1))
    with pytest.raises(DataError, match="damaged: its string storage"):
        read_machine(path)
    path.write_bytes(content.replace(b"GCOL", b"GCOM"))
    with pytest.raises(DataError):
        read_machine(path)
