"""dvae-eval compare-samples: files of samples, exit statuses, and what is refused in one line."""

import json

import numpy as np
import pytest

from dvae_eval import load_result, sample_states
from dvae_eval.readers.samples import read_samples
from tests.system.test_fuzz import SAMPLE_SET

rng = np.random.default_rng(0)
J, B = np.triu(rng.normal(size=(8, 8)) / 2, 1), rng.normal(size=8)


@pytest.fixture(scope="module")
def reads():
    return sample_states((J, B), 400).states


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "m.npz", J=J, b=B)
    return tmp_path / "m.npz"


def text_of(reads, labels=True):
    head = [",".join([*map(str, range(8)), "energy", "num_occurrences"])] if labels else []
    tail = ",0.5,1" if labels else ""
    return "\n".join([*head, *(",".join(map(str, row)) + tail for row in reads.tolist())])


def sample_set(reads, packed):
    """The JSON of a SampleSet, as dimod has it."""
    data = reads.tolist()
    if packed:
        data = [[sum(value << k for k, value in enumerate(row))] for row in data]
    return json.dumps(
        {
            "type": "SampleSet",
            "num_variables": 8,
            "num_rows": len(reads),
            "sample_data": {"type": "array", "data": data, "use_bytes": False},
            "sample_packed": packed,
            "vectors": {"num_occurrences": {"type": "array", "data": [1] * len(reads), "use_bytes": False}},
            "variable_labels": list(range(8)),
            "variable_type": "BINARY",
        }
    )


def test_a_result_is_told_and_written_and_drawn(model, reads, tmp_path, cli):
    np.savez(tmp_path / "s.npz", states=2 * reads - 1)
    np.savetxt(tmp_path / "classes", np.arange(400) % 2, fmt="%d")
    path = tmp_path / "c.json"
    args = ("compare-samples", model, tmp_path / "s.npz", "--classes", tmp_path / "classes")
    status, out, err = cli(*args, "-o", path)
    assert status == 0
    assert out.startswith("β = ")
    assert "a Boltzmann law of this machine at β = " in err
    assert err.count("class ") == 2
    found = load_result(path)
    assert found.kind == "comparison"
    assert found.command[:2] == ["dvae-eval", *found.command[1:2]]
    status, out, _ = cli(*args, "--json", "-q")
    assert status == 0
    assert json.loads(out)["beta_pl"] == found.beta_pl
    assert json.loads(out)["settings"]["samples"]["n_rows"] == 400
    status, _, _ = cli("figure", "comparison", path, "-o", tmp_path / "c.svg", "-q")
    assert status == 0


def test_every_kind_of_file_holds_the_same_reads(reads, tmp_path):
    np.save(tmp_path / "a.npy", reads)
    np.savez(tmp_path / "b.npz", v_samples=reads[:, :3], h_samples=reads[:, 3:], beta=1.0)
    np.savez(tmp_path / "c.npz", states=reads, labels=np.array([*"abcdefgh"]), log_p=np.zeros(400))
    (tmp_path / "d.csv").write_text(text_of(reads))
    (tmp_path / "e.txt").write_text(text_of(reads, labels=False).replace(",", " "))
    (tmp_path / "f.json").write_text(sample_set(reads, packed=False))
    (tmp_path / "g.json").write_text(sample_set(reads, packed=True))
    for path in sorted(tmp_path.iterdir()):
        found = read_samples(path)
        assert np.array_equal(found.states, reads), path
        assert found.labels == {"c": (*"abcdefgh",), "d": (*"01234567",)}.get(path.stem, ())
        assert (found.weights is not None) == (path.stem in "dfg")


def test_a_sample_set_as_dimod_wrote_it(tmp_path):
    (tmp_path / "s.json").write_bytes(SAMPLE_SET)
    found = read_samples(tmp_path / "s.json")
    assert found.states.tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert found.labels == ("a", "2", '["c", 3]')
    assert found.weights.tolist() == [2, 1, 4]
    dimod = pytest.importorskip("dimod")
    original = dimod.SampleSet.from_serializable(json.loads(SAMPLE_SET))
    assert np.array_equal(original.record.sample > 0, found.states)


def test_samples_of_this_project_are_read(model, tmp_path, cli):
    for name in ("s.npz", "s.csv"):
        assert cli("samples", model, "--n", 200, "-o", tmp_path / name, "-q")[0] == 0
        assert cli("compare-samples", model, tmp_path / name, "-q")[0] == 0


def test_what_is_no_boltzmann_law_has_exit_status_3(model, tmp_path, cli):
    cold, hot = sample_states((4 * J, 4 * B), 300).states, rng.integers(2, size=(300, 8))
    np.save(tmp_path / "s.npy", np.concatenate((cold, hot)))
    status, out, err = cli("compare-samples", model, tmp_path / "s.npy", "-o", tmp_path / "c.json")
    assert status == 3
    assert out.startswith("NOT TO BE TRUSTED: β = ")
    assert "verdict: no Boltzmann law of this machine at any β" in err
    assert not load_result(tmp_path / "c.json").is_boltzmann


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("s.csv", "0,1,0\n1,2,0\n", "row 2 has '2', which is not a state of a unit"),
        ("s.csv", "0,1,0\n1,0\n", "row 2 has 2 values, but the first row has 3"),
        ("s.csv", "", "is empty"),
        ("s.csv", "0 1 0\n" * 40, "states of 3 units, the model has 8"),
        ("s.csv", "a,b\n" + "0,1\n" * 40, "has no column '0', which is a unit of the model"),
        ("s.csv", ",".join("0" * 8) + "\n", "contains 1 reads, too few"),
        ("s.csv", "a,weights\n0,x\n", "damaged, or no file of samples"),
        ("s.csv", "a,weights\n0,-1\n", "has weights that are negative"),
        ("s.json", "{", "damaged JSON"),
        ("s.json", '{"type": "BinaryQuadraticModel"}', "is JSON, but not a SampleSet of dimod"),
        ("s.npz", "PK", "damaged, or no"),
    ],
)
def test_files_that_are_no_samples_are_refused_in_one_line(name, content, match, model, tmp_path, cli):
    (tmp_path / name).write_text(content)
    status, out, err = cli("compare-samples", model, tmp_path / name, "-o", tmp_path / "c.json")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert match in err
    assert str(tmp_path / name) in err
    assert not (tmp_path / "c.json").exists()


def test_classes_and_options_that_do_not_fit(model, reads, tmp_path, cli):
    np.save(tmp_path / "s.npy", reads)
    (tmp_path / "k").write_text("1\n2\n")
    for args, match in (
        (("--classes", tmp_path / "k"), "has shape (2,) for 400 reads"),
        (("--sweeps", 3), "--sweeps: 3 are too few"),
        (("--units", "pm2"), "--units"),
        (("-o", tmp_path / "k"), "exists; give --force"),
    ):
        status, out, err = cli("compare-samples", model, tmp_path / "s.npy", *args)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert match in err
