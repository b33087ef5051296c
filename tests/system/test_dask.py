"""Workers, of this machine or of a Dask cluster: they change no bit, and one that is killed costs its task alone.

The cluster is real: a scheduler and two worker processes on the loopback.
"""

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.errors import ConfigError, WorkerError
from dvae_eval.benchmark.run_benchmark import run_benchmark
from dvae_eval.config import LogZConfig
from dvae_eval.log_z import estimate_log_z as log_z_module
from dvae_eval.log_z.estimate_log_z import estimate_log_z, one_repeat
from dvae_eval.machine import BipartiteMachine
from dvae_eval.runtime import dask_cluster, pool
from dvae_eval.runtime.dask_cluster import cluster, cluster_size, is_cancelled, worker_threads
from dvae_eval.runtime.pool import map_unordered
from tests.cli.test_sweep import LL, TINY, in_process  # noqa: F401  (a fixture)
from tests.commands import status_of
from tests.eval.likelihood.test_likelihood_shards import estimate, same_bits, small_shards  # noqa: F401  (a fixture)
from tests.places import PACKAGE_ROOTS

distributed = pytest.importorskip("distributed", reason="the dask extra is not installed")

CONFIG = LogZConfig(method="pt-bar", n_sweeps=100, n_repeats=5, n_replicates=4)


CLUSTER = """
import sys
from distributed import LocalCluster
with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as made:
    print(made.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address():
    """The scheduler has a process to itself, as it has for users: none of its threads is in the tests' process."""
    roots = os.pathsep.join(PACKAGE_ROOTS)
    environment = os.environ | {"PYTHONPATH": roots}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a trained model with its log Z."""
    place = tmp_path_factory.mktemp("runs") / "run"
    assert status_of(dvae_train, *TINY, "--out", place, "-q") == 0
    assert status_of(dvae_eval, "logz", place / "model.pt", "-q") == 0
    return place


# Of a result: when and where it was made.
TIMES = ("wall_seconds", "environment", "command", "created")


def machine():
    rng = np.random.default_rng(0)
    return BipartiteMachine.from_arrays(rng.normal(size=(6, 5)), rng.normal(size=6), rng.normal(size=5))


def result_of(cli, *args):
    """Return what a command of dvae-eval prints with --json, but for what tells of the machine."""
    status, out, _ = cli(*args, "--json", "-q")
    assert status in (0, 3)
    found = json.loads(out)
    return {name: value for name, value in found.items() if name not in TIMES}


def refusal_of(cli, *args):
    """Return the exit status of a command of dvae-eval, and the one line that it says."""
    status, out, err = cli(*args)
    assert (out, err.count("\n")) == ("", 1)
    return status, err


# --- the same numbers -----------------------------------------------------------------------------------------


def test_a_benchmark_runs_on_a_cluster(address):
    """Exact answers, each by a process that a worker of the cluster started."""
    with cluster(address):
        found = run_benchmark(["auto"], suite="trained")
    assert [run["verdict"] for run in found.runs] == ["right"] * 6
    assert all(run["std_err"] == 0 for run in found.runs)


def test_repeats_are_the_same_on_a_cluster(address, run, cli):
    args = ("logz", run / "model.pt", "--method", "pt-bar", "--sweeps", 100, "--replicates", 4, "--repeats", 3)
    here = result_of(cli, *args, "--threads", 1)
    assert len(here["repeats"]) == 3
    assert result_of(cli, *args, "--scheduler", address) == here


def test_images_are_the_same_on_a_cluster(address, run, cli, small_shards):  # noqa: F811
    args = ("ll", run / "model.pt", "--samples", 50)
    here = result_of(cli, *args)
    assert here["n_images"] > 2
    assert result_of(cli, *args, "--scheduler", address) == here


def test_what_was_made_here_is_continued_on_a_cluster(address, run, tmp_path, small_shards):  # noqa: F811
    logz = ("logz", run / "model.pt", "--method", "pt-bar", "--sweeps", 100, "--replicates", 4, "--threads", 1)
    logz += ("--repeats",)
    images = ("ll", run / "model.pt", "--samples", 50, "--limit")
    for name, args, few, more in (("z", logz, 2, 4), ("ll", images, 3, 8)):
        results = {}
        for place, steps in (
            ("here", ((few, ()), (more, ()))),
            ("there", ((few, ()), (more, ("--scheduler", address)))),
        ):
            path = tmp_path / f"{name}-{place}.json"
            for n, options in steps:
                status_of(dvae_eval, *args, n, *options, "-o", path, "--force", "-q")
            results[place] = json.loads(path.read_text())
            del results[place]["diagnostics"]["continued_from"]
        numbers = [{k: v for k, v in found.items() if k not in TIMES} for found in results.values()]
        assert numbers[0] == numbers[1]
        assert numbers[1].get("n_images", len(numbers[1]["repeats"]) if name == "z" else 0) == more
        assert results["there"]["environment"]["cpu_seconds"] > 0


def test_a_sweep_is_the_same_on_a_cluster(address, in_process, tmp_path, monkeypatch, cli):  # noqa: F811
    """Here in this process, there by real commands, which find their way from the directory of the sweep."""
    found = {}
    for place, options in (("here", ()), ("there", ("--scheduler", address))):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        captured = cli("sweep", "--out", "s", *options, *LL, *TINY)
        assert captured.status == 0
        assert "seed-0: log-likelihood" in captured.err
        paths = [tmp_path / place / "s" / "seed-0" / f"{kind}.json" for kind in ("logz", "ll")]
        results = [json.loads(path.read_text()) for path in paths]
        # Here the commands print as well: the table is what comes last.
        table = captured.out[captured.out.index("Log-likelihoods") :]
        found[place] = (table, [{n: r[n] for n in ("model", "settings", "diagnostics")} for r in results])
        found[place] += (results[0]["log_z"], results[1]["log_likelihood"], results[1]["per_image"])
    assert found["here"] == found["there"]
    # The commands ran on the cluster alone, once more.
    assert len(in_process) == 3


# --- one that dies ----------------------------------------------------------------------------------------------


def die_once(shared, task):
    """Do a repeat; the process that is the first to get to the second of them is killed."""
    mark, shared = shared
    if task == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return one_repeat(shared, task)


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_worker_that_is_killed_costs_its_task_alone(request, where, tmp_path, monkeypatch, caplog):
    address = request.getfixturevalue("address") if where == "there" else None
    whole = estimate_log_z(machine(), CONFIG)
    mark = tmp_path / "mark"

    def dying(_, shared, *rest):
        return map_unordered(die_once, (mark, shared), *rest)

    monkeypatch.setattr(log_z_module, "map_unordered", dying)
    told = []
    with cluster(address):
        found = estimate_log_z(machine(), CONFIG, threads=2, progress=lambda *args: told.append(args[1]))
    assert mark.exists()
    assert dataclasses.replace(found, wall_seconds=whole.wall_seconds) == whole
    # What was finished is not done again.
    assert told == [1, 2, 3, 4, 5]
    assert ("a worker process died" in caplog.text) == (where == "here")


def die(_shared, _task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_again_and_again_are_given_up(monkeypatch):
    monkeypatch.setattr(pool, "N_DEATHS", 1)
    with pytest.raises(WorkerError, match="perhaps because memory ran out"):
        list(map_unordered(die, None, range(2), 2))


_grown = []


def grow(_shared, task):
    """Take 400 MB and keep them; joblib looks at the memory of a process once per second."""
    time.sleep(1.1)
    _grown.append(b"x" * 400_000_000 * (task > 1))
    return task


def test_a_process_that_grows_is_replaced():
    """joblib ends such a process with a warning, which is an error here: its thread must not end with it."""
    assert sorted(map_unordered(grow, None, range(6), 2)) == [(i, i) for i in range(6)]


def test_images_survive_a_killed_worker(address, small_shards):  # noqa: F811
    whole, killed = estimate(), []

    def kill_one(_phase, done, _total, _estimate):
        if done > 3 and not killed:
            with distributed.Client(address, set_as_default=False) as client:
                killed.extend(client.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    with cluster(address):
        assert same_bits(whole, estimate(progress=kill_one))
    assert killed


def sweep_of(address, out, epochs):
    """Start a sweep of one run on the cluster, and return it when the training has begun."""
    command = [sys.executable, "-m", "dvae_cli.main", "sweep", "--out", str(out), "--scheduler", address]
    process = subprocess.Popen([*command, *LL, *TINY, "--epochs", str(epochs)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (out / "seed-0" / "metrics.jsonl").exists())
    return process


@pytest.mark.slow
def test_a_sweep_survives_a_killed_worker(address, tmp_path):
    """The training that it had started ends with it, and is gone on with on the other worker."""
    out = tmp_path / "s"
    with sweep_of(address, out, 300) as process:
        with distributed.Client(address, set_as_default=False) as client:
            busy = [worker for worker, tasks in client.processing().items() if tasks]
            [pid] = client.run(os.getpid, workers=busy).values()
        os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=600)
    assert process.returncode == 0
    assert said.count("seed-0: training") == 2
    assert "another process" not in (out / ".seed-0.log").read_text()
    assert len((out / "seed-0" / "metrics.jsonl").read_text().splitlines()) == 300
    assert json.loads((out / "seed-0" / "ll.json").read_text())["n_images"] > 0


@pytest.mark.slow
def test_ctrl_c_stops_the_runs_on_a_cluster(address, tmp_path):
    out = tmp_path / "s"
    with sweep_of(address, out, 100_000) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith("run the same command again to continue")
    assert "Traceback" not in said
    wait_for(lambda: "stopped in epoch" in (out / ".seed-0.log").read_text())


# --- one that is not waited for ---------------------------------------------------------------------------------


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_cancelled(place, task):
    """Do nothing for ever, but for a task of 0."""
    if task:
        (place / f"begun-{task}").touch()
        while not is_cancelled():
            time.sleep(0.05)
        (place / f"ended-{task}").touch()
    return worker_threads()


def test_what_nobody_waits_for_is_cancelled(address, tmp_path):
    """After Ctrl-C the tasks that run end early, and those that wait are not begun."""

    def those(what):
        return {path.name[-1] for path in tmp_path.glob(f"{what}-*")}

    def interrupt():
        try:
            wait_for(lambda: those("begun"))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with cluster(address):
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            list(map_unordered(wait_until_cancelled, tmp_path, range(1, 6)))
        wait_for(lambda: those("begun") == those("ended"))
        assert sorted(map_unordered(wait_until_cancelled, tmp_path, [0, 0])) == [(0, 1), (1, 1)]
    # There are two workers, and one of them may not be back from an earlier test yet.
    assert 1 <= len(those("begun")) <= 2
    # Where there is no cluster, nothing is cancelled.
    assert not is_cancelled()
    assert cluster_size() == 0


# --- what cannot be used ----------------------------------------------------------------------------------------


def test_a_scheduler_that_is_not_there_is_refused(run, tmp_path, cli, monkeypatch):
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 0.3)
    nobody = ("--scheduler", "tcp://127.0.0.1:9")
    model = run / "model.pt"
    for args in (
        ("logz", model, "--method", "pt-bar", "--repeats", 2, "-o", tmp_path / "x.json", *nobody),
        ("ll", model, "-o", tmp_path / "x.json", *nobody),
        ("sweep", "--out", tmp_path / "s", *nobody, *TINY),
        ("ll", model, "-o", tmp_path / "x.json", "--scheduler", "nonsense://1:1"),
    ):
        status, words = refusal_of(cli, *args)
        assert status == 2
        assert "does not answer as a Dask scheduler" in words


@pytest.mark.parametrize("address", ["head", "tcp://head", "tcp://head:"])
def test_an_address_without_a_port_is_refused_before_it_is_tried(run, cli, address):
    status, words = refusal_of(cli, "ll", run / "model.pt", "--scheduler", address)
    assert status == 2
    assert f"--scheduler: {address} has no port" in words


def test_options_that_do_not_go_together_are_refused(run, tmp_path, cli):
    scheduler = ("--scheduler", "tcp://127.0.0.1:9")
    for args, words in (
        (("logz", run / "model.pt", *scheduler), "give --repeats"),
        (("ll", run / "model.pt", "--workers", 2, *scheduler), "omit the option"),
        (("sweep", "--out", tmp_path, "--workers", 2, *scheduler, *TINY), "omit the option"),
    ):
        status, said = refusal_of(cli, *args)
        assert status == 2
        assert words in said


def test_a_scheduler_without_workers_is_refused(monkeypatch):
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 0.3)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty:
        with pytest.raises(ConfigError, match="has no workers; start some"), cluster(empty.scheduler_address):
            pass


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match="pip install dask distributed"), cluster("tcp://127.0.0.1:9"):
        pass


def test_workers_with_other_versions_are_refused(address, monkeypatch):
    ours = pool.own_versions()
    monkeypatch.setattr(pool, "own_versions", lambda: {**ours, "torch": "0.1"})
    with cluster(address), pytest.raises(ConfigError, match=r"worker tcp://\S+ has torch \S+, not 0\.1; install"):
        list(map_unordered(wait_until_cancelled, None, [0]))


OWN_MODEL = """
import numpy as np
import torch

class Theirs(torch.nn.Module):
    def encode(self, x, n, generator):
        raise NotImplementedError

    def log_weights(self, x, latents):
        raise NotImplementedError
"""


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    """A model of a module that is importable here, and that no worker knows."""
    (tmp_path / "their_models.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("their_models")
    del sys.modules["their_models"]


def test_workers_that_cannot_import_the_class_of_a_model_are_refused_in_one_line(address, own_model):
    with cluster(address), pytest.raises(ConfigError) as refused:
        list(map_unordered(wait_until_cancelled, own_model.Theirs(), [0]))
    words = r"--scheduler: worker tcp://\S+ cannot import Theirs of module their_models \(No module named "
    words += r"'their_models'\); make their_models importable there \(installed, or on PYTHONPATH\), "
    assert re.fullmatch(words + "or define it in the script that you run", str(refused.value))


def test_workers_that_have_another_version_of_a_module_are_refused(address, own_model):
    """The module is there, without the class; or it is asked of as a whole."""
    with distributed.Client(address, set_as_default=False) as client:
        client.run(exec, "import sys, types; sys.modules['their_models'] = types.ModuleType('their_models')")
        try:
            with cluster(address), pytest.raises(ConfigError, match="cannot import Theirs of module their_models"):
                list(map_unordered(wait_until_cancelled, own_model.Theirs(), [0]))
        finally:
            client.run(show, "their_models")
    with cluster(address), pytest.raises(ConfigError, match="cannot import module their_models"):
        list(map_unordered(wait_until_cancelled, own_model, [0]))


def test_a_class_of_the_script_itself_reaches_the_workers(address):
    """What the refusal advises: pickled with its code, as cloudpickle does for __main__."""
    script = {"__name__": "__main__"}
    exec(OWN_MODEL, script)
    with cluster(address):
        assert list(map_unordered(wait_until_cancelled, script["Theirs"](), [0])) == [(0, 1)]


def hide(name):
    sys.modules[name] = None


def show(name):
    del sys.modules[name]


def test_workers_without_this_package_are_refused(address):
    with distributed.Client(address, set_as_default=False) as client:
        client.run(hide, "dvae_eval.runtime.pool")
        try:
            with pytest.raises(ConfigError, match="lacks this package"), cluster(address):
                pass
        finally:
            client.run(show, "dvae_eval.runtime.pool")
