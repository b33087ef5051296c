"""`--starts`: files of states in every form, codes of a run's training images, and what is refused in one line."""

import json
import shutil

import numpy as np
import pytest
import torch

from dvae_cli.inputs import unfinished
from dvae_cli.main import main as dvae_eval
from dvae_cli.outputs import Output
from dvae_cli.train import main as dvae_train
from dvae_core.config import ModelConfig
from dvae_core.data import is_here, load
from dvae_core.io.files import sha256_file
from dvae_core.model.dvae import DVAE
from dvae_core.training.checkpoint import load_model
from dvae_eval import load_result
from dvae_eval.codes import codes_of_images
from dvae_eval.config import LogZConfig
from dvae_eval.readers.starts import few_images, read_starts
from dvae_eval.trained import machine_of
from tests.commands import SMALL, status_of

QUICK = ("--method", "pt-bar", "--sweeps", 60, "--replicates", 6, "--quiet")
N_LEFT, N_RIGHT = 12, 7


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A machine of 12 and 7 units, and states of it in files of every form."""
    place = tmp_path_factory.mktemp("starts")
    rng = np.random.default_rng(0)
    W, left, right = rng.normal(size=(N_LEFT, N_RIGHT)), rng.normal(size=N_LEFT), rng.normal(size=N_RIGHT)
    np.savez(place / "rbm.npz", W=W, b_left=left, b_right=right)
    v, h = rng.integers(0, 2, (40, N_LEFT)), rng.integers(0, 2, (40, N_RIGHT))
    both = np.concatenate((v, h), axis=1)
    np.save(place / "all.npy", both.astype(np.uint8))
    np.save(place / "spins.npy", (2 * both - 1).astype(np.int8))
    np.save(place / "left.npy", v.astype(bool))
    np.save(place / "right.npy", h.astype(float))
    np.save(place / "images.npy", v.reshape(40, 3, 4))
    np.savez(place / "one.npz", samples=both)
    np.savez(place / "two.npz", v_samples=v, h_samples=2 * h - 1)
    np.savetxt(place / "all.csv", both, fmt="%d", delimiter=",")
    np.savetxt(place / "spins.txt", 2 * both - 1, fmt="%+d", header="units in order")
    np.save(place / "grey.npy", (v * 200).reshape(40, 3, 4).astype(np.uint8))
    np.savez(place / "images.npz", x_train=v, y_train=np.arange(40), x_test=v)
    np.savez(place / "means.npz", train=rng.random((40, N_LEFT)))
    np.save(place / "seven.npy", np.zeros((4, 9)))
    np.save(place / "three.npy", rng.integers(0, 3, (40, N_LEFT)))
    np.save(place / "none.npy", np.zeros((0, N_LEFT)))
    np.save(place / "nan.npy", np.full((40, N_LEFT), np.nan))
    np.save(place / "texts.npy", np.array([["a"] * N_LEFT]))
    np.savez(place / "many.npz", a=v, b=h)
    np.savez(place / "unlike.npz", v=v, h=h[:-1])
    (place / "letters.csv").write_text("0,1,x\n")
    (place / "ragged.txt").write_text("0 1 1\n0 1\n")
    (place / "empty.csv").write_text("# nothing\n")
    (place / "cut.npy").write_bytes((place / "all.npy").read_bytes()[:-5])
    return place


def result_of(capsys, *args):
    """Return the result that a command prints."""
    capsys.readouterr()
    assert status_of(dvae_eval, "logz", *args, "--json") in (0, 3)
    return json.loads(capsys.readouterr().out)


ALL = ("all.npy", "spins.npy", "one.npz", "two.npz", "all.csv", "spins.txt")


def test_the_same_states_are_the_same_in_whatever_file(place, capsys):
    found = [result_of(capsys, place / "rbm.npz", "--starts", place / name, *QUICK) for name in ALL]
    assert len({(r["log_z"], str(r["diagnostics"]["starts"])) for r in found}) == 1
    for name, result in zip(ALL, found, strict=True):
        said = result["settings"]["starts"]
        assert said["file"] == str(place / name)
        assert said["sha256"] == sha256_file(place / name)
        assert said["n_states"] == 40
        assert said["states_sha256"] == found[0]["settings"]["starts"]["states_sha256"]
    assert "starts" not in result_of(capsys, place / "rbm.npz", *QUICK)["settings"]
    assert "starts" not in result_of(capsys, place / "rbm.npz", "--starts", "none", *QUICK)["settings"]


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("left.npy", 40),
        ("right.npy", 40),
        ("images.npy", 40),
        ("images.npz", 36),
        ("grey.npy", 32),
        ("means.npz", 32),
    ],
)
def test_states_of_one_side_and_images_are_taken(place, name, n, capsys):
    """Of images that have no validation set, a tenth of the training's is split off as elsewhere."""
    result = result_of(capsys, place / "rbm.npz", "--starts", place / name, *QUICK)
    assert result["settings"]["starts"]["n_states"] == n
    assert "given" in result["diagnostics"]["starts"]


def test_a_data_set_goes_by_its_name(place, tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rbm.npz", W=rng.normal(size=(16, 9)) / 3, b_left=np.zeros(16), b_right=np.zeros(9))
    result = result_of(capsys, tmp_path / "rbm.npz", "--starts", "bars-and-stripes", *QUICK)
    assert result["settings"]["starts"]["data_sha256"] == load("bars-and-stripes").digest()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing.npy", "no such file"),
        (".", "no regular file"),
        ("seven.npy", "states of 9 units; give states of 19 (all units) or 7 (the right side) or 12 (the left"),
        ("three.npy", "no states of 0 and 1 or of -1 and +1, and no images"),
        ("none.npy", "give at least one state"),
        ("nan.npy", "no states of 0 and 1 or of -1 and +1, and no images"),
        ("texts.npy", "an array of numbers"),
        ("many.npz", "contains a, b; save one array of states, or two named v and h, or train"),
        ("unlike.npz", "40 states of v and 39 of h"),
        ("letters.csv", "row 1 has 'x', which is not a state of a unit"),
        ("ragged.txt", "row 2 has 2 values, but the first row has 3"),
        ("empty.csv", "is empty"),
        ("cut.npy", "bytes where shape"),
        ("rbm.npz", "save one array of states"),
    ],
)
@pytest.mark.parametrize("settings", [QUICK, ("--quiet",)])
def test_what_holds_no_states_is_refused_in_one_line(place, name, words, settings, tmp_path, capsys):
    """Whether the value is exact or not; nothing is written."""
    before = sorted(tmp_path.iterdir())
    args = ("--starts", place / name, *settings, "-o", tmp_path / "out.json")
    assert status_of(dvae_eval, "logz", place / "rbm.npz", *args) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert str(place / name) in captured.err
    assert words in captured.err
    assert sorted(tmp_path.iterdir()) == before


# --- a run's own model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run on images in a file."""
    place = tmp_path_factory.mktemp("run")
    np.save(place / "mine.npy", np.random.default_rng(0).integers(0, 2, (60, 4, 4)).astype(np.uint8))
    assert status_of(dvae_train, place / "mine.npy", "--out", place / "run", "--epochs", 1, "--quiet", *SMALL) == 0
    return place


def test_a_run_starts_from_codes_of_its_training_images(trained, capsys):
    model = trained / "run" / "model.pt"
    result = result_of(capsys, model, *QUICK)
    said = result["settings"]["starts"]
    assert said["codes_of"] == str(trained / "mine.npy")
    assert said["data_sha256"] == load(trained / "mine.npy").digest()
    assert said["n_states"] == 48
    assert "given" in result["diagnostics"]["starts"]
    assert result_of(capsys, model, *QUICK)["settings"] == result["settings"]
    threads = result_of(capsys, model, *QUICK, "--threads", 2)
    assert (threads["log_z"], threads["settings"]) == (result["log_z"], result["settings"])
    # The same from the images by hand, and states of the prior's units.
    by_hand = result_of(capsys, model, *QUICK, "--starts", trained / "mine.npy")
    assert by_hand["settings"]["starts"]["codes_of"] == "images"
    codes = codes_of_images(load_model(model).model, few_images(load(trained / "mine.npy"), 48))
    np.save(trained / "codes.npy", codes)
    states = result_of(capsys, model, *QUICK, "--starts", trained / "codes.npy")
    assert states["settings"]["starts"]["states_sha256"] == said["states_sha256"]
    assert states["log_z"] == result["log_z"]
    without = result_of(capsys, model, *QUICK, "--starts", "none")
    assert "starts" not in without["settings"]
    assert set(without["diagnostics"]["starts"]) == {"random", "ordered"}


def test_results_from_other_starts_are_other_work(trained, tmp_path):
    """The same again is no second result, also from a file that has moved; that from other starts is one."""
    run = shutil.copytree(trained / "run", tmp_path / "run")
    rng = np.random.default_rng(0)
    for name in ("one.npy", "other.npy"):
        np.save(tmp_path / name, rng.integers(0, 2, (9, 7)))
    shutil.copy(tmp_path / "one.npy", tmp_path / "moved.npy")
    counts = []
    for starts in ("one.npy", "one.npy", "moved.npy", "other.npy", "other.npy", "one.npy"):
        assert status_of(dvae_eval, "logz", run, *QUICK, "--starts", tmp_path / starts) in (0, 3)
        counts.append(len(list(run.glob("logz*.json"))))
    assert counts[:3] == [1, 1, 1]
    assert counts[-1] <= 2
    found = {load_result(path).settings["starts"]["sha256"] for path in run.glob("logz*.json")}
    assert len(found) == counts[-1]


def test_unfinished_work_from_other_starts_is_in_another_file(tmp_path, monkeypatch):
    names = []
    place = Output(tmp_path / "logz.json")
    for starts in (None, "codes", {"file": "a.npy", "sha256": "0"}, {"file": "a.npy", "sha256": "1"}):
        names.append(unfinished(place, (LogZConfig(), starts) if starts else LogZConfig()))
    assert len(set(names)) == 4


def test_an_exact_value_looks_at_no_data(trained, tmp_path, capsys):
    """The data are gone, and nobody says so."""
    run = shutil.copytree(trained / "run", tmp_path / "run")
    (trained / "mine.npy").rename(trained / "gone.npy")
    try:
        assert status_of(dvae_eval, "logz", run) == 0
        assert "no replicate starts" not in capsys.readouterr().err
        assert load_result(run / "logz.json").method == "exact"
        # Where states are needed, one line says that there are none.
        assert status_of(dvae_eval, "logz", run, "--method", "pt-bar", "--sweeps", 60) in (0, 3)
        said = [line for line in capsys.readouterr().err.splitlines() if "no replicate starts" in line]
        assert said == [
            f"no replicate starts from training images: {trained / 'mine.npy'}: the training data are not on this "
            "computer; give --starts FILE with images or states, or --starts none"
        ]
        assert status_of(dvae_eval, "logz", run, "--method", "pt-bar", "--sweeps", 60, "--starts", "none") in (
            0,
            3,
        )
        assert "no replicate starts" not in capsys.readouterr().err
    finally:
        (trained / "gone.npy").rename(trained / "mine.npy")


def test_altered_data_are_no_starts(trained, tmp_path, capsys):
    shutil.copy(trained / "mine.npy", tmp_path / "kept.npy")
    np.save(trained / "mine.npy", np.random.default_rng(1).integers(0, 2, (60, 4, 4)).astype(np.uint8))
    try:
        args = ("--method", "pt-bar", "--sweeps", 60, "-o", tmp_path / "out.json")
        assert status_of(dvae_eval, "logz", trained / "run", *args) in (0, 3)
        assert "no replicate starts from training images" in capsys.readouterr().err
        assert "starts" not in load_result(tmp_path / "out.json").settings
    finally:
        shutil.copy(tmp_path / "kept.npy", trained / "mine.npy")


def test_data_are_looked_for_without_a_network(tmp_path, monkeypatch):
    for name in ("digits", "bars-and-stripes", "bars-and-stripes-3x3"):
        assert is_here(name)
    monkeypatch.setenv("DVAE_DATA_DIR", str(tmp_path))
    assert not any(is_here(name) for name in ("mnist", "omniglot", tmp_path / "mine.npz"))
    monkeypatch.setenv("DVAE_DATA_DIR", str(tmp_path / "nowhere"))
    assert not is_here("mnist")
    np.savez(tmp_path / "mine.npz", train=np.zeros((10, 4)))
    assert is_here(tmp_path / "mine.npz")


@pytest.mark.parametrize("smoothing", ["spike-and-exponential", "none"])
def test_codes_are_draws_of_the_posterior(smoothing):
    """One group: q(z|x) is a product of σ(logits).  |z| < 5 of 9 units: false alarm 5e-6."""
    config = ModelConfig(n_left=5, n_right=4, n_groups=1, smoothing=smoothing, encoder_hidden=(8,), n_layers=0)
    model = DVAE(config, 6)
    model.initialise(torch.Generator().manual_seed(0), torch.full((6,), 0.5))
    model.eval()
    for network in model.posterior.networks:
        for parameter in network.parameters():
            parameter.data *= 2
    image, n = np.array([[1, 0, 1, 1, 0, 1]], np.uint8), 4000
    codes = codes_of_images(model, image.repeat(n, 0))
    noise = torch.zeros((1, model.n_noise[0]), dtype=torch.float64)
    p = model.posterior(torch.from_numpy(image).double(), noise).logits.sigmoid()[0].detach().numpy()
    assert (np.abs(codes.mean(0) - p) < 5 * np.sqrt(p * (1 - p) / n)).all()
    assert np.ptp(p) > 0.2


def test_codes_of_a_general_prior_have_its_units_in_order(tmp_path, capsys):
    """A ring of six is bipartite, and its sides take turns."""
    images = np.random.default_rng(0).integers(0, 2, (40, 4, 4)).astype(np.uint8)
    np.save(tmp_path / "mine.npy", images)
    small = (
        "--prior",
        "graph",
        "--graph",
        "ring",
        "--left",
        3,
        "--right",
        3,
        "--groups",
        1,
        "--encoder-hidden",
        4,
    )
    small += ("--prior-hidden", "none", "--layers", 1, "--continuous", 2, "--epochs", 1, "--quiet")
    assert status_of(dvae_train, tmp_path / "mine.npy", "--out", tmp_path / "run", *small) == 0
    trained = load_model(tmp_path / "run" / "model.pt")
    assert machine_of(trained).order.tolist() in ([0, 2, 4, 1, 3, 5], [1, 3, 5, 0, 2, 4])
    result = result_of(capsys, tmp_path / "run", *QUICK)
    assert result["settings"]["starts"]["n_states"] == 32


def test_grey_images_are_made_binary_the_same_way_each_time(place):
    first, again = (read_starts(str(place / "means.npz")) for _ in range(2))
    assert (first.states == again.states).all()
    assert 0.3 < first.states.mean() < 0.7
