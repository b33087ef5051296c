"""The commands as their users meet them: result on standard output, words on standard error, exit status."""

import json
import re
import shutil
import subprocess
import sys

import click
import numpy as np
import pytest

from dvae_cli import train as train_cli
from dvae_cli.console import is_quiet, say
from dvae_cli.devices import prepare_device
from dvae_cli.main import COMMANDS
from dvae_cli.main import main as dvae_eval
from dvae_cli.options import THREADS_BY_WIDTH, WIDE, common_options
from dvae_cli.train import main as dvae_train
from dvae_core.config import ModelConfig, TrainConfig, option_name
from dvae_eval.comparison.config import CompareConfig
from dvae_eval.config import GradientConfig, LikelihoodConfig, LogZConfig, ObservablesConfig
from dvae_eval.log_z import methods
from tests.commands import SMALL, status_of
from tests.places import PACKAGE_ROOTS


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """A small trained run with log Z, likelihood and samples; its files are not to be changed."""
    directory = shutil.copytree(trained_run, tmp_path_factory.mktemp("runs") / "small")
    assert status_of(dvae_eval, "logz", directory / "model.pt", "--quiet") == 0
    assert status_of(dvae_eval, "ll", directory / "model.pt", "--samples", 20, "--limit", 50, "--quiet") == 0
    return directory


def test_from_a_data_set_to_a_report(run):
    assert status_of(dvae_eval, "report", run, "--quiet") == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    log_z = json.loads((run / "logz.json").read_text())
    assert f"{log_z['log_z']:.4f}"[:6] in page
    assert {p.name for p in run.iterdir() if p.name != ".lock"} == {
        *("checkpoint.pt", "config.json", "metrics.jsonl", "model.pt", "prior-trajectory.npz"),
        *("ll.json", "ll.images.npz", "ll.state.npz", "logz.json", "report.html", "samples.npz"),
    }


def test_the_strict_bound_is_said_rounded_down(run, tmp_path, capsys):
    path = tmp_path / "logz.json"
    assert status_of(dvae_eval, "logz", run / "model.pt", "-o", path, "--method", "pt-bar", "--sweeps", 400) == 0
    captured = capsys.readouterr()
    found = re.search(r"strict lower bound: log Z >= (\S+), from (\d+) known basins?", captured.out + captured.err)
    bound = json.loads(path.read_text())["diagnostics"]["lower_bound"]
    assert bound - 1.01e-4 < float(found[1]) <= bound


def test_json_is_all_there_is_on_standard_output(run, capsys):
    assert status_of(dvae_eval, "logz", run / "model.pt", "--json", "--method", "pt-bar", "--sweeps", 400) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    contract = {
        "kind",
        "schema",
        "log_z",
        "std_err",
        "ci95",
        "method",
        "trustworthy",
        "reasons",
        "diagnostics",
        "repeats",
    }
    assert contract <= set(result)
    assert (result["kind"], result["method"]) == ("logz", "pt-bar")
    assert len(result["repeats"]) == 32
    assert captured.err


def test_ll_keeps_its_contract(run):
    result = json.loads((run / "ll.json").read_text())
    contract = {"log_likelihood", "std_err_images", "std_err_log_z", "elbo", "n_samples", "n_images", "log_z"}
    assert contract | {"trustworthy", "reasons"} <= set(result)
    assert (result["n_samples"], result["n_images"]) == (20, 50)
    assert result["log_z"] == json.loads((run / "logz.json").read_text())["log_z"]


def test_gradients_of_a_run(run, tmp_path, capsys):
    path = tmp_path / "gradients.json"
    args = ("gradients", run / "model.pt", "--limit", 2, "--samples", 200, "--reference", 400, "--pilot", 100)
    assert status_of(dvae_eval, *args, "-o", path) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("variance of the bound's gradient: reparameterised")
    assert re.search(r"reinforce-mean +elbo +\d", captured.err)
    assert "compared with the average of reparameterised over 400 draws" in captured.err
    written = json.loads(path.read_text())
    assert (written["n_images"], written["n_samples"], written["n_units"]) == (2, 200, 7)
    assert {"kind", "schema", "estimators", "reference", "trustworthy", "reasons", "command"} <= set(written)
    assert status_of(dvae_eval, *args, "--json", "--quiet") == 0
    again = json.loads(capsys.readouterr().out)
    terms = [{name: f["terms"] for name, f in result["estimators"].items()} for result in (written, again)]
    assert terms[0] == terms[1]


def test_gradients_are_measured_and_drawn(run, tmp_path):
    args = ["--limit", 2, "--samples", 400, "--reference", 400, "--pilot", 50, "-q"]
    plot, result = tmp_path / "variances.png", tmp_path / "gradients.json"
    assert status_of(dvae_eval, "gradients", run / "model.pt", *args, "--plot", plot, "-o", result) in (0, 3)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert json.loads(result.read_text())["kind"] == "gradients"
    assert status_of(dvae_eval, "gradients", run / "model.pt", *args, "--plot", plot) == 2


def test_quiet_says_the_result_alone(run, capsys):
    assert status_of(dvae_eval, "logz", run / "model.pt", "--quiet", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1


def test_quiet_belongs_to_one_command(capsys):
    """Without a command nothing is quiet, and a command within another has its own --quiet."""

    @click.command()
    @common_options
    def inner():
        say("inner")

    @click.command()
    @common_options
    def outer():
        say("before")
        inner.main([], standalone_mode=False)
        say("after")
        say("failure", always=True)

    say("outside")
    outer.main(["-q"], standalone_mode=False)
    outer.main([], standalone_mode=False)
    assert not is_quiet()
    assert capsys.readouterr().err.split() == [
        *("outside", "inner", "failure"),
        *("before", "inner", "after", "failure"),
    ]


def test_a_result_that_is_not_to_be_trusted_is_said_first_and_exits_3(tmp_path, capsys):
    rng = np.random.default_rng(4)
    J = 0.6 * np.outer(rng.choice([-1, 1], 24), rng.choice([-1, 1], 60))
    np.savez(tmp_path / "modes.npz", W=4 * J, b_left=-2 * J.sum(1), b_right=-2 * J.sum(0))
    args = ("logz", tmp_path / "modes.npz", "--method", "pt-bar", "--sweeps", 20, "--exchange-rate", 0.05)
    assert status_of(dvae_eval, *args) == 3
    captured = capsys.readouterr()
    assert captured.out.startswith("NOT TO BE TRUSTED: log Z")
    assert "use more --sweeps" in captured.err


def test_log_z_of_another_model_is_refused(run, tmp_path, capsys):
    assert status_of(dvae_train, "bars-and-stripes", "--out", tmp_path / "b", "--quiet", *SMALL, "--seed", 9) == 0
    code = status_of(dvae_eval, "ll", tmp_path / "b" / "model.pt", "--log-z", run / "logz.json", "--samples", 5)
    assert code == 2
    assert "is not a logz result for" in capsys.readouterr().err


def test_an_output_is_not_overwritten_unless_forced(run, tmp_path, capsys):
    path = tmp_path / "mine.json"
    args = ("logz", run / "model.pt", "--quiet", "-o", path)
    assert status_of(dvae_eval, *args) == 0
    before = path.read_bytes()
    assert status_of(dvae_eval, *args) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert status_of(dvae_eval, *args, "--force") == 0


def one_line(capsys):
    """Return the one line on standard error; nothing may be on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["logz"], "MODEL"),
        (["logz", "nowhere.pt"], "nowhere.pt"),
        (["logz", "{bad}"], "bad.pt"),
        (["logz", "{text}"], "damaged JSON"),
        (["logz", "{model}", "--sweeps", "3"], "--sweeps"),
        (["logz", "{model}", "--sweeps", "many"], "--sweeps"),
        (["logz", "{model}", "--method", "guess"], "--method"),
        (["logz", "{model}", "--method", "ais", "--precision", "0.1"], "--precision"),
        (["logz", "{model}", "--device", "cuda:7"], "--device"),
        (["logz", "{model}", "-o", "/nowhere/at/all.json"], "--output"),
        (["ll", "{model}", "--data", "nothing"], "nothing"),
        (["ll", "{model}", "--data", "digits"], "--data"),
        (["gradients", "{model}", "--data", "digits"], "--data"),
        (["gradients", "{model}", "--samples", "2"], "--samples"),
        (["ll", "{model}", "--log-z", "{text}"], "text.json"),
        (["report", "{tmp}"], "config.json"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(run, tmp_path, capsys, args, words):
    (tmp_path / "bad.pt").write_bytes(b"bad")
    (tmp_path / "text.json").write_text("{")
    places = {
        "bad": tmp_path / "bad.pt",
        "text": tmp_path / "text.json",
        "model": run / "model.pt",
        "tmp": tmp_path,
    }
    before = {p: p.read_bytes() for p in run.iterdir()}
    assert status_of(dvae_eval, *[arg.format(**places) for arg in args]) == 2
    assert words in one_line(capsys)
    assert {p: p.read_bytes() for p in run.iterdir()} == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "--out"),
        (["--out", "{tmp}/x"], "DATASET"),
        (["mnits", "--out", "{tmp}/x"], "mnist"),
        (["digits", "--out", "{tmp}/x", "--preset", "huge"], "--preset"),
        (["digits", "--out", "{tmp}/x", "--epochs", "0"], "--epochs"),
        (["digits", "--out", "{tmp}/x", "--encoder-hidden", "a,b"], "--encoder-hidden"),
        (["digits", "--out", "{tmp}/x", "--groups", "99"], "--groups"),
        (["{tmp}/none.npy", "--out", "{tmp}/x"], "none.npy"),
        (["digits", "--out", "{tmp}/x", "--graph", "nowhere.txt", "--prior", "graph"], "nowhere.txt"),
        (["digits", "--out", "{tmp}/x", "--graph", "grid-9x9", "--prior", "graph"], "81 nodes"),
        (["digits", "--out", "{tmp}/x", "--graph", "ring"], "--prior graph"),
        (["digits", "--out", "{run}"], "--resume"),
        (["--resume", "--out", "{tmp}/x"], "config.json"),
        (
            ["--end", "--out", "{tmp}/x"],
            "holds no run that can be resumed or ended (no config.json); check the path",
        ),
        (["--resume", "--out", "{run}", "--left", "7"], "--left: the run in {run} has 4, not 7"),
        (["--resume", "--out", "{run}", "--seed", "7"], "with --init {run}"),
        (
            ["--resume", "--out", "{run}", "--sweeps", "7"],
            "--epochs: the run in {run} has done 2 epochs; give more",
        ),
        (["--resume", "--out", "{run}", "--init", "{run}"], "--init: begins a new run"),
        (["--end", "--out", "{run}", "--sweeps", "7"], "--sweeps: --end changes no settings"),
        (["--out", "{tmp}/x", "--config", "{run}", "--preset", "demo"], "omit --preset"),
        (["--out", "{tmp}/x", "--config", "{tmp}"], "--config: {tmp}/config.json: no such file"),
        (["--out", "{tmp}/x", "--init", "{run}", "--left", "5"], "prior.W is (4, 3) in {run}/model.pt and (5, 3)"),
        (["digits", "--out", "{tmp}/x", "--init", "{run}"], "in the new run; give settings and"),
        (["digits", "--out", "{tmp}/x", "--log", "paper"], "--log"),
        (["digits", "--resume", "--out", "{run}"], "DATASET"),
    ],
)
def test_bad_training_input_gives_one_line_and_makes_nothing(run, tmp_path, capsys, args, words):
    assert status_of(dvae_train, *[arg.format(tmp=tmp_path, run=run) for arg in args]) == 2
    assert words.format(tmp=tmp_path, run=run) in one_line(capsys)
    assert not (tmp_path / "x").exists()


def test_a_run_that_stops_early_says_so(tmp_path, capsys):
    args = ("bars-and-stripes", "--out", tmp_path / "run", *SMALL, "--epochs", 200, "--patience", 1)
    assert status_of(dvae_train, *args, "--warmup-epochs", 1, "--rbm-warmup-epochs", 1) == 0
    n_epochs = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert n_epochs < 200
    assert (
        f"stopped early after epoch {n_epochs}: no better validation bound for 1 epoch" in capsys.readouterr().err
    )


def test_a_users_own_images(tmp_path):
    images = (np.random.default_rng(0).random((60, 5, 4)) < 0.3).astype(np.uint8)
    np.save(tmp_path / "mine.npy", images)
    assert status_of(dvae_train, tmp_path / "mine.npy", "--out", tmp_path / "run", "--quiet", *SMALL) == 0
    assert status_of(dvae_eval, "ll", tmp_path / "run" / "model.pt", "--samples", 10, "--quiet") == 0


@pytest.mark.parametrize("graph", ["file", "ring", None])
def test_every_prior_from_training_to_report(tmp_path, graph):
    """A triangle with a tail from a file that is gone afterwards, an odd ring, and no lateral connections."""
    edges = tmp_path / "edges.txt"
    edges.write_text("0 1\n1 2\n0 2\n2 3\n3 4\n4 5\n5 6\n")
    prior = (
        ["--prior", "graph", "--graph", edges if graph == "file" else graph]
        if graph
        else ["--prior", "independent"]
    )
    run = tmp_path / "run"
    args = ("bars-and-stripes", "--out", run, "--quiet", *SMALL, *prior, "--sampler", "tempering", "--rungs", 3)
    assert status_of(dvae_train, *args) == 0
    edges.unlink()
    assert status_of(dvae_train, "--resume", "--out", run, "--quiet") == 0
    assert status_of(dvae_eval, "logz", run / "model.pt", "--quiet") == 0
    assert json.loads((run / "logz.json").read_text())["method"] == "exact"
    args = (
        "logz",
        run / "model.pt",
        "-o",
        run / "pt.json",
        "--method",
        "pt-bar",
        "--sweeps",
        400,
        "--against-exact",
    )
    assert status_of(dvae_eval, *args, "--quiet") == 0
    assert status_of(dvae_eval, "ll", run / "model.pt", "--samples", 20, "--limit", 20, "--quiet") == 0
    assert status_of(dvae_eval, "samples", run / "model.pt", "--quiet") == 0
    assert status_of(dvae_eval, "report", run, "--quiet") == 0
    assert ("independent units" if graph is None else "units on the graph") in (run / "report.html").read_text()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_help_opens_with_an_example(command, capsys):
    assert status_of(dvae_eval, command, "--help") == 0
    text = capsys.readouterr().out
    assert re.search(rf"Example:\n\s+dvae-eval {command}", text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("log-z", "No such command 'log-z'. Did you mean 'logz'?"),
        ("sample", "No such command 'sample'. Did you mean 'samples'?"),
        ("nothing", "No such command 'nothing'; see dvae-eval --help"),
    ],
)
def test_an_unknown_command_gets_a_suggestion_if_one_is_similar(given, message, capsys):
    assert status_of(dvae_eval, given, "--seed", 1) == 2
    assert capsys.readouterr().err == f"dvae-eval: {message}\n"


def test_options_are_the_settings_with_their_defaults():
    """One source: every field has an option of its name, and a result's defaults are those of the dataclass."""
    from dvae_cli.commands import compare_samples, gradients, likelihood, log_z, observables

    commands = (
        (log_z.command, LogZConfig),
        (likelihood.command, LikelihoodConfig),
        (gradients.command, GradientConfig),
        (observables.command, ObservablesConfig),
        (compare_samples.command, CompareConfig),
    )
    for command, cls in commands:
        options = {param.name: param for param in command.params}
        for name, field in cls.__dataclass_fields__.items():
            # What a text is made into has its default in the words of its help.
            is_text = "parse" in field.metadata and options[name].default is None
            assert options[name].default == field.default or is_text
            assert (field.metadata.get("flag") or option_name(name)) in options[name].opts
    names = {param.name for param in train_cli.command.params}
    assert {*ModelConfig.__dataclass_fields__, *TrainConfig.__dataclass_fields__} <= names


def test_lists_of_presets_and_data_sets(capsys):
    assert status_of(dvae_train, "--list-presets") == 0
    assert "digits-small" in capsys.readouterr().out
    assert status_of(dvae_train, "--list-datasets") == 0
    assert "omniglot" in capsys.readouterr().out


def test_an_unexpected_error_has_a_traceback_only_with_debug(run, monkeypatch, capsys):
    monkeypatch.setattr(methods, "exact_log_z", lambda *_: 1 / 0)
    assert status_of(dvae_eval, "logz", run / "model.pt", "-q") == 1
    assert "unexpected ZeroDivisionError" in one_line(capsys)
    with pytest.raises(ZeroDivisionError):
        dvae_eval(["logz", str(run / "model.pt"), "--debug"])


def test_a_reader_that_goes_away_is_no_error_of_ours(run):
    args = ["logz", str(run / "model.pt")]
    code = f"import sys; sys.path[:0] = {PACKAGE_ROOTS!r}\nfrom dvae_cli.main import main\nmain({args!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("width", "threads", "expected"), [(WIDE - 1, None, [1]), (WIDE, None, []), (WIDE, 3, [3]), (0, 3, [3])]
)
def test_threads_are_those_that_the_help_says(width, threads, expected, monkeypatch):
    """One by default, all cores (torch's own default) from `WIDE` units on."""
    found = []
    monkeypatch.setattr("torch.set_num_threads", found.append)
    prepare_device("cpu", threads, width)
    assert found == expected
    assert f"{WIDE} units" in THREADS_BY_WIDTH
