"""Names of earlier versions: their modules, options, settings and result files are still understood."""

import importlib
import json
import sys

import numpy as np
import pytest

from dvae_core.renamed import MODULES
from dvae_eval import estimate_log_z
from dvae_eval.results import load_result
from dvae_eval.test_machines.rbms import random_rbm

SHORT = ("--method", "pt-bar", "--sweeps", "40", "-q")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "rbm.npz"
    machine, _ = random_rbm(0, (12, 8), 1.0)
    np.savez(path, W=machine.W, b_left=machine.b_left, b_right=machine.b_right)
    return path


def test_a_former_option_works_and_one_line_names_the_new_one(model, cli):
    old = cli("logz", model, *SHORT, "--ladders", 6, "--base", "fitted", "--json")
    new = cli("logz", model, *SHORT, "--replicates", 6, "--reference", "fitted", "--json")
    assert old.err.splitlines() == ["--ladders is now called --replicates", "--base is now called --reference"]
    assert new.err == ""
    old, new = json.loads(old.out), json.loads(new.out)
    assert (old["log_z"], old["settings"]) == (new["log_z"], new["settings"])
    assert len(old["repeats"]) == 6


def test_a_former_option_wins_over_a_preset_as_the_new_one_does(model, cli):
    args = ("logz", model, *SHORT, "--preset", "paper", "--json")
    for option in ("--base", "--reference"):
        assert json.loads(cli(*args, option, "fitted").out)["settings"]["reference"] == "fitted"
    assert json.loads(cli(*args).out)["settings"]["reference"] == "uniform"


def test_former_options_are_not_in_the_help(cli):
    text = cli("logz", "--help").out
    assert "--replicates" in text
    assert "--ladders" not in text


def test_a_former_setting_works_from_python_and_warns():
    machine, _ = random_rbm(0, (12, 8), 1.0)
    how = {"method": "pt-bar", "n_sweeps": 40, "threads": 1}
    with pytest.warns(DeprecationWarning, match="n_ladders is now called n_replicates"):
        old = estimate_log_z(machine, n_ladders=6, **how)
    assert old.log_z == estimate_log_z(machine, n_replicates=6, **how).log_z


def test_results_of_an_earlier_version_are_read(tmp_path):
    machine, _ = random_rbm(0, (12, 8), 1.0)
    result = estimate_log_z(machine, method="pt-bar", n_sweeps=40, threads=1)
    data = result.to_dict()
    data["settings"]["n_ladders"] = data["settings"].pop("n_replicates")
    data["settings"]["base"] = data["settings"].pop("reference")
    former = {"betas": "ladder", "schedule_settled": "ladder_settled", "n_blocks": "n_stretches"}
    former["independent_blocks"] = "independent_stretches"
    data["diagnostics"] = {former.get(key, key): value for key, value in data["diagnostics"].items()}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(data))
    assert load_result(path).to_dict() == result.to_dict()


@pytest.mark.parametrize("former", MODULES)
def test_a_former_module_leads_to_todays(former, monkeypatch):
    monkeypatch.delitem(sys.modules, former, raising=False)
    home, _ = MODULES[former]
    with pytest.warns(DeprecationWarning, match=f"{former} is now {home}"):
        found = importlib.import_module(former)
    today = importlib.import_module(home)
    for name in vars(today):
        assert name.startswith("__") or getattr(found, name) is getattr(today, name)


@pytest.mark.parametrize(
    ("former", "names"),
    [
        ("dvae_core.checkpoint", ["load_model"]),
        ("dvae_eval.likelihood.estimator", ["estimate_log_likelihood", "machine_of"]),
        ("dvae_eval.likelihood.resources", ["Resources"]),
        ("dvae_eval.likelihood.shards", ["Shards"]),
        ("dvae_eval.log_z.bridge", ["bar"]),
        ("dvae_eval.log_z.routes", ["estimate_log_z"]),
        ("dvae_eval.pool", ["cluster"]),
        ("dvae_eval.sampling.ladder", ["Ladder"]),
    ],
)
def test_what_scripts_imported_from_them_is_there(former, names, monkeypatch):
    monkeypatch.delitem(sys.modules, former, raising=False)
    with pytest.warns(DeprecationWarning, match="is now"):
        module = importlib.import_module(former)
    assert all(callable(getattr(module, name)) for name in names)
