"""reproduce/: scripts use options that exist, the page holds its commands' output, and gpu.sh is rehearsed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import click
import numpy as np
import pytest

from dvae_cli.commands.sweep import command as sweep
from dvae_cli.commands.sweep.grid import config_of, grid
from dvae_cli.main import group
from dvae_eval.test_machines.rbms import enumerated
from tests.places import ROOT

REPRODUCE = ROOT / "reproduce"
RECORD = '#!/bin/sh\nfor word; do printf "%s\\037" "$word"; done >> "$CALLS"\necho >> "$CALLS"\n'


def module(name):
    """Return a script of reproduce/ as a module."""
    spec = importlib.util.spec_from_file_location(f"reproduce_{name}", REPRODUCE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def calls(script, tmp_path, **environment):
    """Return the arguments of every dvae-eval that a script runs."""
    (tmp_path / "dvae-eval").write_text(RECORD)
    (tmp_path / "dvae-eval").chmod(0o755)
    known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "RUNS": str(tmp_path)}
    for data in ("caltech101", "mnist-static", "omniglot", "mnist"):
        run = tmp_path / "datasets" / data / "prior-rbm_seed-0"
        run.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "metrics.jsonl", "model.pt", "logz.json"):
            (run / file).touch()
    subprocess.run(["sh", REPRODUCE / script], check=True, capture_output=True, env=known | environment)
    return [line.split("\x1f")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.parametrize(
    ("script", "n_runs"),
    [
        ("ablation.sh", 7),
        ("datasets.sh", 8),
        ("table1.sh", 0),
        ("lowest-rungs.sh", 4),
        ("lateral.sh", 16),
        ("figure6.sh", 12),
        ("later.sh", 6),
        ("medium.sh", 4),
        ("choices.sh", 16),
        ("negative-phase.sh", 12),
    ],
)
def test_the_scripts_ask_for_runs_that_can_be_made(script, n_runs, tmp_path):
    found = 0
    for name, *arguments in calls(script, tmp_path):
        command = group.get_command(click.Context(group), name)
        parameters = command.make_context(name, arguments).params
        if command is sweep.command:
            points = grid(
                parameters["out"], parameters["training"], dict(parameters["vary"]), range(parameters["seeds"])
            )
            assert all(config_of(point).train.epochs > 0 for point in points)
            found += len(points)
    assert found == n_runs


def test_settings_come_from_the_environment(tmp_path):
    first, *_ = calls("ablation.sh", tmp_path, EPOCHS="3", SAMPLES="70", LIMIT="8", WORKERS="5", SEEDS="2")
    parameters = sweep.command.make_context("sweep", first[1:]).params
    assert (parameters["workers"], parameters["seeds"]) == (5, 2)
    assert parameters["likelihood"] == "--samples 70 --limit 8"
    points = grid(parameters["out"], parameters["training"], dict(parameters["vary"]), [0])
    assert {config_of(point).train.epochs for point in points} == {3}


def test_table_1_measures_the_whole_test_set_once(tmp_path):
    found = calls("table1.sh", tmp_path, LIMIT="8")
    assert len(found) == 4
    assert not any("--limit" in arguments for arguments in found)
    (tmp_path / "table1" / "omniglot" / "ll.json").touch()
    assert not any("omniglot" in " ".join(words) for words in calls("table1.sh", tmp_path)[len(found) :])


def test_a_failure_ends_a_script_and_a_verdict_does_not(tmp_path):
    for status, reached in ((2, ""), (3, "end")):
        text = f'. {REPRODUCE}/settings.sh; go sh -c "exit {status}"; echo end'
        done = subprocess.run(["sh", "-c", text], capture_output=True, encoding="utf-8")
        assert done.stdout.strip() == reached


def test_what_is_kept_of_a_run_is_measured_as_the_run_is(tmp_path, cli):
    run = tmp_path / "runs" / "one"
    training = ["bars-and-stripes-2x2", "--left", "3", "--right", "2", "--encoder-hidden", "8", "--epochs", "1"]
    subprocess.run([sys.executable, "-m", "dvae_cli.train", *training, "-q", "--out", run], check=True)
    for arguments in (["logz", "-q", f"{run}/model.pt"], ["ll", "--samples", "20", "-q", f"{run}/model.pt"]):
        assert cli(*arguments).status in (0, 3)
    module("collect").main(tmp_path / "runs", tmp_path / "kept")
    kept = tmp_path / "kept" / "one"
    assert sorted(path.name for path in kept.iterdir()) == [
        *("config.json", "ll.json", "logz.json", "metrics.jsonl", "prior.npz")
    ]
    tables = []
    for directory in (run, kept):
        tables.append(cli("table", "--kind", "results", directory).out)
    assert tables[0] == tables[1] != ""
    log_z = json.loads(cli("logz", kept / "prior.npz", "--json", "-q").out)["log_z"]
    assert log_z == pytest.approx(json.loads((run / "logz.json").read_text())["log_z"], abs=1e-12)


def test_the_page_holds_what_its_commands_print(monkeypatch, cli):
    """Tables are made again; figures, which would be written into the tree, are only looked for."""
    page = module("page")
    run = page.output

    def printed(command):
        if command.startswith("python"):
            return run(command)
        words = [part for word in command.split() for part in page.expanded(word)][1:]
        if "-o" in words:
            assert (ROOT / words[words.index("-o") + 1]).exists()
            return ""
        status, out, _ = cli(*words)
        assert status in (0, 3)
        return out

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(page, "output", printed)
    made = page.made(page.TEMPLATE.read_text(encoding="utf-8"))
    assert made == page.PAGE.read_text(encoding="utf-8"), "run python reproduce/page.py"


def test_a_command_that_fails_ends_the_page():
    with pytest.raises(SystemExit, match=r"table.*missing"):
        module("page").output("dvae-eval table missing")


# --- the GPU run ------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """The module of the GPU run."""
    spec = importlib.util.spec_from_file_location("reproduce_gpu", REPRODUCE / "gpu.py")
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reproduce_gpu", loaded)
    spec.loader.exec_module(loaded)
    return loaded


def tiny_run(gpu, out, minutes="30"):
    """Return a tiny run on the CPU."""
    (out / "logs").mkdir(parents=True, exist_ok=True)
    return gpu.run_from({"OUT": str(out), "SIZE": "tiny", "DEVICE": "cpu", "MINUTES": minutes})


def start_gpu(out, *words, minutes="240"):
    """Start gpu.sh at its tiny size, with a budget that no busy machine exceeds."""
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "cli", "reports"))
    settings = {"DEVICE": "cpu", "SIZE": "tiny", "OUT": str(out), "MINUTES": minutes, "PYTHON": sys.executable}
    environment = os.environ | settings | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = ["bash", REPRODUCE / "gpu.sh", *words]
    with out.with_name("printed.txt").open("a") as printed:
        return subprocess.Popen(command, env=environment, stdout=printed, stderr=printed)


def test_the_gpu_run_is_rehearsed_with_a_failure_and_a_kill(tmp_path):
    """Every stage runs or says why not; the stopped training continues; finished stages are not run again."""
    out = tmp_path / "gpu"
    assert start_gpu(out, "prepare").wait() == 0
    assert not (out / "environment.json").exists()
    (out / "prepared" / "machine-20x13.npz").write_bytes(b"cut off")
    first = start_gpu(out)
    metrics = out / "run" / "metrics.jsonl"
    while first.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 130
    assert "run the same command again to continue" in (tmp_path / "printed.txt").read_text()
    before = {path: path.read_text() for path in out.glob("*.json") if path.stem not in ("clock", "summary")}
    assert out / "train.json" not in before
    second = start_gpu(out)
    assert second.wait() == 0, (tmp_path / "printed.txt").read_text()
    assert all(path.read_text() == text for path, text in before.items())
    summary = json.loads((out / "summary.json").read_text())
    status = {stage["stage"]: stage["status"] for stage in summary["stages"]}
    assert status.pop("temper-20x13") == "failed"
    assert {status.pop(f"step-graph{name}") for name in ("", "-bfloat16")} == {"not on the CPU"}
    assert set(status.values()) == {"done"}
    (tempered,) = summary["tables"]["Parallel tempering"]
    assert abs(tempered["log Z"] - tempered["exact"]) < 5 * tempered["std err"]
    (training,) = summary["tables"]["Training"]
    assert training["epochs"] == training["of"] == 15
    (likelihood,) = summary["tables"]["Log-likelihood of test images"]
    assert likelihood["images"] > 2
    page = (out / "summary.md").read_text()
    assert "| temper-20x13 | failed |" in page
    assert "machine-20x13.npz" in page
    assert 0 < summary["seconds"] < summary["budget"]


def test_a_stage_that_exceeds_its_limit_is_stopped_and_the_next_one_runs(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "LEAST", 0.1)
    run = tiny_run(gpu, tmp_path, minutes="0.1")
    slow = gpu.Stage("slow", "Slow", 0.2, lambda run: run.python("slow", "-c", "import time; time.sleep(60)"))
    wrong = gpu.Stage(
        "wrong", "Wrong", 0.5, lambda run: run.python("wrong", "-c", "print('no'); raise SystemExit(7)")
    )
    quick = gpu.Stage("quick", "Quick", 0.5, lambda run: [{"answer": 42}])
    after = gpu.Stage("after", "After", 0.5, lambda run: [{"answer": 43}], needs="wrong")
    every = [slow, wrong, quick, after]
    for stage in every:
        gpu.perform(run, stage)
    gpu.summarise(run, every)
    assert [run.record(stage.name).get("status") for stage in every] == ["over its limit", "failed", "done", None]
    assert "status 7: no" in run.record("wrong")["why"]
    assert run.record("slow")["seconds"] > 1
    gpu.forget_failures(run, every)
    assert [bool(run.record(stage.name)) for stage in every] == [False, False, True, False]


def test_a_training_that_is_cut_off_after_an_epoch_is_evaluated(gpu, tmp_path, monkeypatch):
    run = tiny_run(gpu, tmp_path)
    run.trained.mkdir()
    monkeypatch.setattr(gpu.Run, "python", lambda *_, **__: (_ for _ in ()).throw(gpu.LimitError("cut off")))
    with pytest.raises(gpu.LimitError):
        gpu.train(run)
    (run.trained / "model.pt").touch()
    gpu.write(run.trained / "config.json", {"train": {"amp": True, "compile": False, "epochs": 9}})
    epochs = [{"images_per_s": i, "valid": {"elbo": -80.0 - i}, "log_z": 5.0} for i in (1, 3)]
    (run.trained / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    (row,) = gpu.train(run)
    assert (row["epochs"], row["of"], row["validation bound"], row["ended"]) == (2, 9, -81.0, "cut off")


def test_a_run_without_its_device_ends_and_can_be_run_again(gpu, tmp_path, monkeypatch, capsys):
    for name, value in {"OUT": str(tmp_path), "SIZE": "tiny", "DEVICE": "cuda:99", "MINUTES": "30"}.items():
        monkeypatch.setenv(name, value)
    gpu.write(
        tmp_path / "prepare.json", {"status": "done", "heading": "Prepared inputs", "rows": [{"ready": True}]}
    )
    monkeypatch.setattr(gpu, "ENVIRONMENT", "raise SystemExit('cuda:99 cannot be used')")
    assert gpu.main([]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("cuda:99 cannot be used")
    assert "| environment | failed |" in (tmp_path / "summary.md").read_text()
    assert not (tmp_path / "environment.json").exists()
    assert not (tmp_path / "tests.json").exists()


def test_a_budget_that_is_spent_leaves_later_stages_out(gpu, tmp_path, capsys):
    run = tiny_run(gpu, tmp_path)
    gpu.write(tmp_path / "clock.json", {"spent": gpu.MEASUREMENTS * run.budget})
    stages = {stage.name: stage for stage in gpu.stages(run.size)}
    assert gpu.limit_of(run, stages["sweeps"]) == 0
    assert gpu.limit_of(run, stages["train"]) == pytest.approx((1 - 0.45 - 0.25) * run.budget)
    gpu.perform(run, stages["sweeps"])
    assert "no time left" in capsys.readouterr().err
    assert not run.record("sweeps")


def test_the_fastest_mode_trains_for_epochs_that_fit(gpu, tmp_path):
    """20 steps per epoch: 50 ms each without compiling, 10 ms with it after 40 s."""
    run = tiny_run(gpu, tmp_path)
    gpu.write(tmp_path / "prepare.json", {"rows": [{"training images": 2000}]})
    for name, ms, first in (("step-float32", 50.0, 0.1), ("step-compile", 10.0, 40.0)):
        gpu.write(tmp_path / f"{name}.json", {"rows": [{"ms": ms, "first step s": first}]})
    run.size = replace(run.size, max_epochs=300)
    cases = (
        (10.2, ["--epochs", "9"]),
        (100.2, ["--compile", "--epochs", "250"]),
        (500.0, ["--compile", "--epochs", "300"]),
    )
    for seconds, options in cases:
        run.deadline = time.monotonic() + seconds
        assert list(gpu.chosen(run))[: len(options)] == options


def test_machines_of_blocks_have_the_log_z_that_is_claimed(gpu):
    for shape in ((20, 13), (33, 21)):
        arrays, log_z = gpu.machine_of_blocks(*shape)
        assert arrays["W"].shape == shape
        assert enumerated(*arrays.values()) == pytest.approx(log_z, abs=1e-10)


@pytest.mark.parametrize(
    ("words", "settings"),
    [(["wrong"], {}), ([], {"SIZE": "large"}), ([], {"MINUTES": "0"}), ([], {"MINUTES": "x"})],
)
def test_what_the_gpu_run_cannot_use_is_refused(gpu, words, settings, monkeypatch, tmp_path, capsys):
    for name, value in ({"OUT": str(tmp_path / "out")} | settings).items():
        monkeypatch.setenv(name, value)
    assert gpu.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_mixing_of_two_coupled_units_is_a_closed_form(tmp_path):
    """A sweep is a chain of two states with the eigenvalue tanh(w/4)^2; the time is 1/2 + λ / (1 - λ) sweeps."""
    mixing = module("mixing")
    for w in (0.0, 8.0):
        path = tmp_path / f"prior-{w}.npz"
        np.savez(path, W=[[w]], b_left=[-w / 2], b_right=[-w / 2])
        found = mixing.mixing_of(path, n_chains=200, n_sweeps=1000)
        eigenvalue = np.tanh(w / 4) ** 2
        # The standard error is about 5 %.
        assert found["slowest component"] == pytest.approx(0.5 + eigenvalue / (1 - eigenvalue), rel=0.25)


def test_a_gain_on_a_part_is_paired(tmp_path, capsys):
    """The second run is better by 2 on every image: its part, of easy images, has no error in the comparison."""
    each = {"whole": ([0, 1, 2, 3], [-90.0, -80.0, -100.0, -90.0]), "part": ([1, 3], [-78.0, -88.0])}
    for name, (index, values) in each.items():
        result = {"log_likelihood": np.mean(values), "per_image": {"index": index, "log_likelihood": values}}
        (tmp_path / name).write_text(json.dumps(result))
    module("paired").main(tmp_path / "whole", tmp_path / "part")
    assert capsys.readouterr().out.splitlines()[-1] == "| 2 | +2.00 | 0.00 | −90.00 | −88.00 |"


def short_training(root, name, bound, likelihoods, seed="seed-0", gap=0.0):
    """Write the files of a run that `choices.py` and `gains.py` read."""
    run = root / name / seed
    run.mkdir(parents=True)
    real = (REPRODUCE / "results" / "table1" / "mnist-static" / "metrics.jsonl").read_text().splitlines()[0]
    epoch = json.loads(real)
    lines = [json.dumps(epoch | {"valid": epoch["valid"] | {"elbo": value}}) for value in (-500.0, bound)]
    (run / "metrics.jsonl").write_text("\n".join(lines))
    each = {"index": list(range(len(likelihoods))), "log_likelihood": list(likelihoods)}
    (run / "ll.json").write_text(json.dumps({"per_image": each, "gap": gap}))


def test_gains_have_the_errors_of_seeds_and_of_images(tmp_path, capsys, monkeypatch):
    """Seeds gain 2 and 4 in the bound, 1 and 3 in likelihood; images differ from it by at most 1, gaps by 0.7."""
    gains, images = module("gains"), np.array([-90.0, -80.0, -100.0])
    monkeypatch.setattr(gains, "EPOCHS", (2, 40))
    for i, (bound, likelihood) in enumerate(((2.0, 1.0), (4.0, 3.0))):
        short_training(tmp_path, "some", -100.0, images, f"prior-independent_seed-{i}", gap=0.7)
        gain = likelihood + np.array([-1.0, 0.0, 1.0])
        short_training(tmp_path, "some", -100.0 + bound, images + gain, f"prior-rbm_seed-{i}")
    gains.main(tmp_path)
    error = (1 / 3 + 1) ** 0.5
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == "| runs | 2 epochs | log-likelihood | with gaps |"
    assert row == f"| some | +3.00 ± 1.00 | +2.00 ± {error:.2f} | +1.30 |"


def test_settings_are_compared_with_the_base_at_equal_time(tmp_path, capsys):
    """The base gains one nat per doubling of the time: half a nat when it is trained √2 times as long."""
    choices, images = module("choices"), np.array([-90.0, -80.0, -100.0])
    for name, bound in (("base-4", -100.0), ("base-8", -99.0), ("base-16", -98.0)):
        short_training(tmp_path, name, bound, images + bound + 100)
    short_training(tmp_path, "wider", -98.5, images + np.array([1.5, 2.5, 3.5]))
    short_training(tmp_path, "slower", -98.0, images + 3)
    costs = {"base-4": 240.0, "base-8": 480.0, "base-16": 960.0, "wider": 240 * 2**0.5, "slower": 4 * 960.0}
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    found = {name: line for name, *line in choices.rows(tmp_path)}
    assert found["wider"] == pytest.approx([2, 8 * 2**0.5, -98.5, 1.0, 2.0, 3**-0.5])
    # Beyond the longest base, the line goes on at its last slope: 2 nats above base-16.
    assert found["slower"] == pytest.approx([2, 128.0, -98.0, -2.0, -1.0, 0.0])
    assert found["base-8"][-3:] == pytest.approx([0, 0, 0])
    choices.main("table", str(tmp_path))
    assert "| wider | 2 | 11.3 | −98.50 | +1.00 | +2.00 | 0.58 |" in capsys.readouterr().out
    choices.main("figure", str(tmp_path), str(tmp_path / "gains.png"))
    assert (tmp_path / "gains.png").read_bytes().startswith(b"\x89PNG")
