"""What machines do to programs: full disks, read-only places, files that vanish, signals, other processes.

Each fault gives one line that names the file and says what to do, the exit status of README's table, and leaves
what was there before as it was.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from dvae_cli import inputs
from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import load
from dvae_core.errors import ConfigError, DataError
from dvae_core.io import memory
from dvae_core.io.files import atomic_write, lock_file, write_text
from dvae_core.io.memory import available_memory
from dvae_core.training import checkpoint
from dvae_core.training import trainer as train
from dvae_core.training.checkpoint import load_model, load_tensors
from dvae_core.training.memory_estimate import training_bytes
from dvae_eval import estimate_log_z
from dvae_eval.config import LogZConfig
from dvae_eval.likelihood import image_tasks
from dvae_eval.log_z import run as tempered
from dvae_eval.machine import BipartiteMachine, machine_from_bonds
from dvae_eval.readers import read_machine
from dvae_eval.runtime import resume
from dvae_eval.runtime.memory_estimate import annealing_bytes, machine_bytes, tempering_bytes
from tests.commands import SMALL, status_of
from tests.places import PACKAGE_ROOTS

LIMITED = "File too large; raise the limit"


@pytest.fixture(scope="module")
def trained(trained_run, tmp_path_factory):
    """A run that is trained and measured; its files are not to be changed."""
    run = shutil.copytree(trained_run, tmp_path_factory.mktemp("trained") / "run")
    for command in ("logz", "ll"):
        more = ["--samples", "50", "--limit", "20"] if command == "ll" else []
        assert status_of(dvae_eval, command, run / "model.pt", "--quiet", *more) in (0, 3)
    assert status_of(dvae_eval, "samples", run / "model.pt", "--quiet") == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def rbm(tmp_path):
    """A machine that is soon tempered."""
    W = np.random.default_rng(0).normal(size=(6, 4))
    np.savez(tmp_path / "rbm.npz", W=W, b_left=np.zeros(6), b_right=np.zeros(4))
    return tmp_path / "rbm.npz"


def line_of(capsys):
    """Return the one line on standard error."""
    said = capsys.readouterr().err.strip()
    assert said
    assert "\n" not in said
    assert "; run again with --debug" not in said
    return said


def contents(place):
    """Return all files below a place with their bytes, but for locks."""
    return {p: p.read_bytes() for p in place.rglob("*") if p.is_file() and not p.name.endswith(".lock")}


WRITERS = {
    "logz": ("logz {run}/model.pt", "logz.json"),
    "ll": ("ll {run}/model.pt --samples 50 --limit 5 --seed 1", "00000000.npz"),
    "samples": ("samples {run}/model.pt", "samples.npz"),
    "gradients": (
        "gradients {run}/model.pt --limit 1 --samples 8 --reference 8 --pilot 8 -o {run}/gradients.json",
        "gradients.json",
    ),
    "observables": ("observables {run}/model.pt", "observables.json"),
    "report": ("report {run}", "report.html"),
    "table": ("table {run} -o {run}/table.txt", "table.txt"),
    "figure": ("figure samples {run} -o {run}/figure.png", "figure.png"),
    "convert": ("convert {run}/model.pt {run}/prior.npz", "prior.npz"),
    "sweep": ("sweep --out {run}/sweep bars-and-stripes", ".sweep.json"),
}


@contextlib.contextmanager
def files_limited_to(n_bytes):
    """Let no file grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_costs_nothing_that_was_there(run, capsys, name):
    command, file = WRITERS[name]
    before = contents(run)
    with files_limited_to(10):
        status = status_of(dvae_eval, *command.format(run=run).split(), "--quiet")
    assert status == 2
    line = line_of(capsys)
    assert f"{file}: {LIMITED}" in line
    assert contents(run) == before


def test_a_full_disk_stops_training_and_costs_the_last_round_alone(trained, run, tmp_path, capsys, monkeypatch):
    with files_limited_to(1000):
        assert status_of(dvae_train, "bars-and-stripes", "--out", tmp_path / "new", "--quiet", *SMALL) == 2
    assert f"checkpoint.pt: {LIMITED}" in line_of(capsys)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    again = tmp_path / "again"
    args = ["bars-and-stripes", "--out", again, "--quiet", *SMALL]
    save, written = train.save_tensors, []

    def full(*arguments):
        written.append(arguments)
        with files_limited_to(1000 if len(written) == 4 else resource.RLIM_INFINITY):
            save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "save_tensors", full)
        assert status_of(dvae_train, *args) == 2
    assert f"checkpoint.pt: {LIMITED}" in line_of(capsys)
    assert load_tensors(again / "checkpoint.pt", train.CHECKPOINT_FORMAT)["step"] == 2
    assert status_of(dvae_train, "--resume", "--out", again, "--quiet") == 0
    assert (again / "model.pt").read_bytes() == (trained / "model.pt").read_bytes()


def test_a_full_disk_keeps_no_number_back(run, capsys, monkeypatch):
    before = (run / "logz.json").read_bytes()
    with files_limited_to(10):
        assert status_of(dvae_eval, "logz", run / "model.pt", "--quiet") == 2
    said = capsys.readouterr()
    assert said.out.startswith("log Z = ")
    assert f"logz.json: {LIMITED}" in said.err
    assert (run / "logz.json").read_bytes() == before


def test_output_that_nobody_can_take(rbm, tmp_path, capsys, monkeypatch):
    result = tmp_path / "z.json"
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert status_of(dvae_eval, "logz", rbm, "-o", result, "--quiet") == 2
        with contextlib.suppress(OSError):
            full.close()
    assert "standard output: No space left on device; free some space" in line_of(capsys)
    assert json.loads(result.read_text())["trustworthy"]


def test_a_reader_that_has_gone_costs_the_output_alone(rbm, tmp_path, capsys):
    command = f"{sys.executable} -m dvae_cli.main logz {rbm} --method pt-bar --sweeps 40 -o z.json --quiet | true"
    script = f"set -o pipefail; {command}; echo ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "1\n"
    assert done.stderr == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rbm.npz", "z.json", "z.state.npz"]


# --- places that may not be written to ------------------------------------------------------------------------


@contextlib.contextmanager
def unprivileged(*places):
    """Be nobody, where root would be allowed everything, with places that may be read alone."""
    for place in places:
        for path in [place, *place.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for place in places:
            for path in [place, *place.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def open_place():
    """A directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_directory_is_refused_before_the_work(trained, open_place, capsys, name, monkeypatch):
    run = Path(shutil.copytree(trained, open_place / "run"))
    before = contents(run)
    with unprivileged(open_place):
        status = status_of(dvae_eval, *WRITERS[name][0].format(run=run).split(), "--quiet")
    assert status == 2
    line = line_of(capsys)
    assert str(run) in line
    assert "cannot be written to; give another directory" in line or "Permission denied; give a path" in line
    assert contents(run) == before


@pytest.mark.parametrize("args", [("bars-and-stripes", "--out", "{}/new"), ("--resume", "--out", "{}/run")])
def test_training_in_a_read_only_directory_is_refused(trained, open_place, capsys, args):
    run = Path(shutil.copytree(trained, open_place / "run"))
    with unprivileged(open_place):
        assert status_of(dvae_train, *(arg.format(open_place) for arg in args), "--quiet") == 2
    assert "Permission denied; give a path that you may access" in line_of(capsys)
    assert not (open_place / "new").exists()
    assert contents(run) == {run / p.relative_to(trained): content for p, content in contents(trained).items()}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["logz rbm.npz --method pt-bar --sweeps 40 --json", "report run"])
def test_no_home_and_no_cache(run, rbm, command):
    """As in a container: no HOME, and no place for the caches of numba and matplotlib."""
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")
    environment = os.environ | dict.fromkeys(names, "/proc/none") | {"PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS)}
    line = [sys.executable, "-m", "dvae_cli.main", *command.split()]
    done = subprocess.run(line, cwd=rbm.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


# --- files that vanish or change ------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [load_model, read_machine])
def test_a_model_that_changes_while_it_is_read_is_refused(run, read, monkeypatch):
    load = checkpoint.read_torch

    def changing(path):
        content = load(path)
        write_text(path, "another")
        return content

    monkeypatch.setattr(checkpoint, "read_torch", changing)
    with pytest.raises(DataError, match=r"model\.pt: changed while it was read; run the same command again"):
        read(run / "model.pt")


@pytest.mark.parametrize("command", ["logz {run}/model.pt --method pt-bar --sweeps 200", WRITERS["ll"][0]])
def test_a_model_that_vanishes_later_changes_nothing(run, command, monkeypatch):
    sha256 = load_model(run / "model.pt").sha256
    for owner, name in ((tempered.TemperedRun, "advance"), (image_tasks, "map_unordered")):
        original = getattr(owner, name)

        def vanishing(*args, original=original, **settings):
            (run / "model.pt").unlink(missing_ok=True)
            return original(*args, **settings)

        monkeypatch.setattr(owner, name, vanishing)
    assert status_of(dvae_eval, *command.format(run=run).split(), "--quiet", "-o", run / "new.json") in (0, 3)
    assert not (run / "model.pt").exists()
    assert json.loads((run / "new.json").read_text())["model"]["sha256"] == sha256


def test_a_directory_that_vanishes_is_named(rbm, tmp_path, capsys, monkeypatch):
    (tmp_path / "out").mkdir()
    advance = tempered.TemperedRun.advance

    def vanishing(*args, **settings):
        shutil.rmtree(tmp_path / "out")
        return advance(*args, **settings)

    monkeypatch.setattr(tempered.TemperedRun, "advance", vanishing)
    out = tmp_path / "out" / "z.json"
    assert status_of(dvae_eval, "logz", rbm, "--method", "pt-bar", "--sweeps", "40", "-o", out, "--quiet") == 2
    assert f"{out}: No such file or directory; the file or its directory no longer exists" in line_of(capsys)


@pytest.mark.parametrize("name", ["model.pt", "config.json", "metrics.jsonl", "ll.json", "samples.npz"])
def test_a_report_on_files_that_vanish_or_are_cut(run, capsys, name):
    (run / name).write_bytes((run / name).read_bytes()[:20])
    assert status_of(dvae_eval, "report", run, "--quiet") == (0 if name == "metrics.jsonl" else 2)
    if name != "metrics.jsonl":
        assert name in line_of(capsys)
    (run / name).unlink()
    (run / "report.html").unlink(missing_ok=True)
    status = status_of(dvae_eval, "report", run, "--quiet")
    assert status == (2 if name == "config.json" else 0)


# --- other processes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logz", "ll", "gradients"])
def test_a_second_process_on_the_same_result_is_refused(run, capsys, name):
    command, _ = WRITERS[name]
    result = run / f"{name}.json"
    before = contents(run)
    with lock_file(run / f".{name}.json.lock"):
        assert status_of(dvae_eval, *command.format(run=run).split(), "--quiet") == 2
    assert f"another process is working on {result}; wait until it ends" in line_of(capsys)
    assert contents(run) == before


def test_a_run_that_another_process_has_made_meanwhile_is_not_written_over(run, capsys, monkeypatch):
    from dvae_core.training import train_model as module

    refuse, asked = module.refuse_existing, []

    def first_unseen(path):
        asked.append(path)
        if len(asked) > 1:
            refuse(path)

    monkeypatch.setattr(module, "refuse_existing", first_unseen)
    before = contents(run)
    assert status_of(dvae_train, "bars-and-stripes", "--out", run, "--quiet", *SMALL) == 2
    assert "holds a run already" in line_of(capsys)
    assert contents(run) == before


def test_leftovers_of_dead_processes_go_and_those_of_the_living_stay(tmp_path):
    path = tmp_path / "model.pt"
    dead = tmp_path / ".model.pt.abc.part"
    dead.write_bytes(b"half")
    with atomic_write(path) as file:
        living = set(tmp_path.glob(".*.part"))
        assert dead not in living
        assert len(living) == 1
        write_text(path, "in between")
        assert set(tmp_path.glob(".*.part")) == living
        file.write(b"the last")
    assert path.read_bytes() == b"the last"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_file_is_held_by_one_and_goes_with_it(tmp_path):
    path = tmp_path / ".z.json.lock"
    with lock_file(path):
        with pytest.raises(BlockingIOError), lock_file(path):
            pass
        assert path.exists()
    assert not path.exists()
    with path.open("w"), lock_file(path):  # left by a process that was killed
        pass


# --- signals --------------------------------------------------------------------------------------------------


@pytest.fixture
def heard(number):
    """A signal that is not ignored, as it is where nohup or a background shell started the tests."""
    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield number
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_training_saves_and_ends_on_what_schedulers_send(trained, tmp_path, capsys, monkeypatch, heard):
    step, run = train.Trainer._one_step, tmp_path / "run"

    def signalled(self, *args):
        if self._count == 3:
            signal.raise_signal(heard)
            signal.raise_signal(heard)  # the same wish, passed on by another process
        return step(self, *args)

    args = ["bars-and-stripes", "--out", run, "--quiet", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "_one_step", signalled)
        assert status_of(dvae_train, *args) == 130
    assert f"stopped in epoch 1 and saved; continue with: dvae-train --resume --out {run}" in line_of(capsys)
    assert load_tensors(run / "checkpoint.pt", train.CHECKPOINT_FORMAT)["step"] == 4
    assert status_of(dvae_train, "--resume", "--out", run, "--quiet") == 0
    assert (run / "model.pt").read_bytes() == (trained / "model.pt").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["logz", "ll"])
def test_estimates_end_on_what_schedulers_send_and_go_on(run, rbm, tmp_path, capsys, monkeypatch, heard, name):
    monkeypatch.setattr(tempered, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(image_tasks, "SHARD_SECONDS", 0.0)
    commands = {"logz": f"logz {rbm} --method pt-bar --sweeps 200", "ll": WRITERS["ll"][0].format(run=run)}
    args = [*commands[name].split(), "--quiet", "--force"]
    whole, out = tmp_path / "whole.json", tmp_path / "out.json"
    assert status_of(dvae_eval, *args, "-o", whole) in (0, 3)
    capsys.readouterr()
    owner = resume.Store if name == "logz" else resume.PartStore
    save, saved = owner.save, []

    def signalled(self, *arguments):
        save(self, *arguments)
        saved.append(self)
        if len(saved) == 2:
            signal.raise_signal(heard)

    with monkeypatch.context() as patch:
        patch.setattr(owner, "save", signalled)
        assert status_of(dvae_eval, *args, "-o", out) == 130
    assert "run the same command again to continue" in line_of(capsys)
    assert not out.exists()
    assert status_of(dvae_eval, *args, "-o", out) in (0, 3)
    key = "log_z" if name == "logz" else "per_image"
    assert json.loads(out.read_text())[key] == json.loads(whole.read_text())[key]
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name or "shards" in p.name or p.suffix == ".lock"]


def test_what_nohup_ignores_stays_ignored(rbm, monkeypatch):
    read = inputs.read_model

    def hung_up(*args):
        signal.raise_signal(signal.SIGHUP)
        return read(*args)

    monkeypatch.setattr(inputs, "read_model", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert status_of(dvae_eval, "logz", rbm, "--quiet") == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# --- memory ---------------------------------------------------------------------------------------------------


def has_free(monkeypatch, n_bytes):
    """Let a machine have so many bytes free."""
    monkeypatch.setattr(memory, "_free_memory", lambda root: n_bytes)


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (("--encoder-hidden", "20000,20000"), "--encoder-hidden"),
        (("--batch-size", "500", "--importance", "10000"), "--batch-size"),
        (("--chains", "10000000"), "--chains"),
    ],
)
def test_training_that_would_not_fit_is_refused(tmp_path, capsys, monkeypatch, args, option):
    has_free(monkeypatch, 10**9)
    assert status_of(dvae_train, "bars-and-stripes", "--out", tmp_path / "run", *args) == 2
    line = line_of(capsys)
    assert line.startswith(f"dvae-train: {option}")
    assert "and 1.0 GB is free; give less" in line
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("args", "option"),
    [
        ("--method pt-bar --replicates 100000", "--replicates"),
        ("--method ais --chains 100000000", "--chains"),
        ("--method pt-bar --sandwich --chains 100000000", "--chains"),
        ("--method pt-bar --repeats 100 --threads 90", "--threads"),
    ],
)
def test_an_estimate_that_would_not_fit_is_refused(rbm, capsys, monkeypatch, args, option):
    has_free(monkeypatch, 10**9)
    assert status_of(dvae_eval, "logz", rbm, *args.split(), "--json") == 2
    line = line_of(capsys)
    assert line.startswith(f"dvae-eval: {option}: ")
    assert "and 1.0 GB is free; give fewer" in line


def test_a_machine_or_a_ladder_that_would_not_fit_is_refused(monkeypatch):
    machine = BipartiteMachine(np.ones((2000, 2000)), np.zeros(2000), np.zeros(2000))
    has_free(monkeypatch, 10**8)
    with pytest.raises(
        ConfigError, match=r"MODEL: a machine of 4000 units takes about \d+ MB, and 100 MB is free"
    ):
        estimate_log_z(machine)
    free = iter([10**9, 10**9])  # enough for the first rungs, and then not for those that the pilot asks for
    monkeypatch.setattr(memory, "_free_memory", lambda root: next(free, 1000))
    small = np.random.default_rng(0).normal(size=(8, 8)) * 4, np.zeros(8), np.zeros(8)
    with pytest.raises(ConfigError, match=r"--replicates: tempering 200 replicates of \d+ rungs takes"):
        estimate_log_z(small, method="pt-bar", n_sweeps=40, n_replicates=200, exchange_rate=0.9, threads=1)


@pytest.mark.parametrize(
    "args", [("--samples", "20000000"), ("--samples", "1000", "--method", "ais", "--ais-chains", "1000000")]
)
def test_a_likelihood_that_would_not_fit_is_refused(run, tmp_path, capsys, monkeypatch, args):
    has_free(monkeypatch, 15 * 10**7)
    # What the tests before this one have made this process take is not what is looked at.
    monkeypatch.setattr(image_tasks, "process_memory", lambda: 4 * 10**8)
    out = tmp_path / "ll.json"
    command = ["ll", run / "model.pt", "--limit", "2", "-o", out, "--quiet", "--memory", "1.2GB", *args]
    assert status_of(dvae_eval, *command) == 2
    assert line_of(capsys).startswith("dvae-eval: --memory" if len(args) == 2 else "dvae-eval: --ais-chains")
    assert not out.exists()


def test_limits_of_control_groups_count(tmp_path):
    def group(path, **names):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        for name, value in names.items():
            (tmp_path / path / name.replace("__", ".")).write_text(f"{value}\n")

    group("proc", meminfo="MemTotal: 9000 kB\nMemAvailable:    5000 kB")
    assert available_memory(tmp_path) == 5000 * 1024
    group("proc/self", cgroup="0::/jobs/7")
    group("sys/fs/cgroup/jobs/7", memory__max="max", memory__current=10)
    assert available_memory(tmp_path) == 5000 * 1024
    stat = "anon 1\ninactive_file 300"
    group("sys/fs/cgroup/jobs", memory__max=2000, memory__current=1500, memory__stat=stat)
    assert available_memory(tmp_path) == 800
    group("proc/self", cgroup="5:cpu,memory:/box\n2:pids:/other")
    limits = {"memory__limit_in_bytes": 1000, "memory__usage_in_bytes": 1200}
    group("sys/fs/cgroup/memory/box", **limits, memory__stat="total_inactive_file 50")
    assert available_memory(tmp_path) == 0


ALLOCATORS = [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried")]


@pytest.mark.parametrize("error", ALLOCATORS)
def test_memory_that_runs_out_all_the_same_is_one_line(rbm, capsys, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(inputs, "read_model", full)
    assert status_of(dvae_eval, "logz", rbm) == 1
    assert "out of memory; saved work is safe; give fewer" in line_of(capsys)


def peak_of(work, *args):
    """Return by how many bytes the most memory of a new process grows that does some work."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(growth, work, *args).result()


def growth(work, *args):
    before = high_water()
    work(*args)
    return high_water() - before


def high_water():
    """Return the most memory that this process has had (Linux): unlike ru_maxrss, without its parent's."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


class TwoSteps:
    """Progress that ends training soon."""

    def __init__(self, trainer):
        self.trainer = trainer

    def step(self, *_):
        self.trainer.stop_requested = self.trainer._count > 1

    def epoch(self, *_):
        pass


def train_two_steps(config, data, place):
    trainer = train.Trainer(place, config, data)
    with contextlib.suppress(train.Interrupted):
        trainer.train(TwoSteps(trainer))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"encoder_hidden": (1500, 1500), "n_layers": 1},
        {"batch_size": 1000, "encoder_hidden": (400, 400)},
        {"n_chains": 200_000},
        {"n_importance": 50},
        {"encoder_hidden": (1000, 1000), "ema_decay": 0.9},
    ],
)
def test_the_memory_of_training_is_foreseen_within_a_factor_of_two(settings, tmp_path):
    models = {name: value for name, value in settings.items() if name in ModelConfig.__dataclass_fields__}
    others = {name: value for name, value in settings.items() if name not in models}
    config = RunConfig("digits", ModelConfig(**models), TrainConfig(n_sweeps=1, **others))
    data = load("digits")
    foreseen = sum(training_bytes(config, data.n_pixels, len(data.train)).values())
    measured = peak_of(train_two_steps, config, data, tmp_path)
    print(f"foreseen {foreseen / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB: {foreseen / measured:.2f}")
    assert 0.5 < foreseen / measured < 2


def temper(machine, settings):
    estimate_log_z(machine, threads=1, **settings)


def sparse_machine(n):
    ends = np.unique(np.sort(np.random.default_rng(0).integers(n, size=(3 * n, 2)), 1), axis=0)
    ends = ends[ends[:, 0] < ends[:, 1]]
    return machine_from_bonds(ends, np.full(len(ends), 0.1), np.zeros(n))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((1000, 1000), {"n_sweeps": 20}),
        ((64, 64), {"n_sweeps": 20, "n_replicates": 2000}),
        ((64, 64), {"n_sweeps": 1300, "n_replicates": 400}),
        ((64, 64), {"method": "ais", "n_sweeps": 20, "n_chains": 100_000}),
        ((3000,), {"n_sweeps": 20}),
    ],
)
def test_the_memory_of_an_estimate_is_foreseen_within_a_factor_of_two(shape, settings):
    if len(shape) == 1:
        machine = sparse_machine(*shape)
    else:
        W = np.random.default_rng(0).normal(size=shape) / np.sqrt(shape[0])
        machine = BipartiteMachine(W, np.zeros(shape[0]), np.zeros(shape[1]))
    settings = {"method": "pt-bar", **settings}
    config = LogZConfig(**settings)
    foreseen = machine_bytes(machine) + tempering_bytes(machine, config.n_replicates)
    if config.method == "ais":
        foreseen += annealing_bytes(machine, config.n_chains)
    measured = peak_of(temper, machine, settings)
    print(f"foreseen {foreseen / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB: {foreseen / measured:.2f}")
    assert 0.5 < foreseen / measured < 2
