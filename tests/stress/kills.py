"""Kill real command lines at random moments, continue them, and compare the result with an undisturbed run.

    make stress                 # 200 kills
    make stress KILLS=20        # quicker

Every command line runs in its own process group, forked from a process that has loaded all libraries: kills
(SIGKILL, to the whole group) fall into the work, and not into imports. The interval between saves is cut to a
twentieth of a second, so that a run of a second has many rounds. Two of three kills come at a random CPU time of
the run, which does not depend on the load of the machine; the others come at a random write, when nothing, half or
all of the new file is written, or just after the rename.

After each kill every file of the run must be whole, and a resumed run must start from the last save of the killed
one. In the end the results must equal those of the undisturbed run to the last digit, and no other files may
remain.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / part) for part in (".", "cli", "reports")]

from dvae_cli.commands import likelihood, log_z, report  # noqa: E402, F401
from dvae_cli.main import main as dvae_eval  # noqa: E402
from dvae_cli.train import main as dvae_train  # noqa: E402
from dvae_core.io import files  # noqa: E402
from dvae_core.io.containers import npz_names, read_npz  # noqa: E402
from dvae_core.training import trainer as train  # noqa: E402
from dvae_core.training.checkpoint import load_model, load_tensors  # noqa: E402
from dvae_core.training.metrics import read_metrics  # noqa: E402
from dvae_core.training.run_directory import read_config  # noqa: E402
from dvae_eval import estimate_log_z  # noqa: E402
from dvae_eval.likelihood import image_tasks  # noqa: E402
from dvae_eval.log_z import estimate_log_z as log_z_module  # noqa: E402
from dvae_eval.log_z import run as tempered  # noqa: E402
from dvae_eval.results import load_result  # noqa: E402
from dvae_eval.runtime import resume  # noqa: E402
from dvae_reports.report import render  # noqa: E402, F401

SMALL = "--left 6 --right 6 --groups 2 --continuous 2 --layers 1 --encoder-hidden 16 --prior-hidden 8 "
SMALL += "--decoder-hidden 16 --chains 20 --sweeps 3 --seed 1 --quiet"
TRAIN = f"train bars-and-stripes --out run --epochs 2 {SMALL}"
FURTHER = "train --resume --out run --epochs 4 --batch-size 60 --chains 15 --learning-rate 1e-3 -q"
RESUME = "train --resume --out run -q"
LL = "ll run/model.pt --samples 2000 --limit 30 --log-z run/logz.json --workers {} --quiet"
POINTS = ("begun", "half", "whole", "renamed")
SAVE_SECONDS = 0.05
TIMES = {"wall_seconds", "environment", "seconds", "images_per_s"}


@dataclass(frozen=True)
class Task:
    """A command line, the files that it writes, and its share of all kills."""

    name: str
    command: str
    outputs: tuple[str, ...]
    share: int
    resume: str = ""
    prepared: tuple[str, ...] = ()


PT_BAR = "logz rbm.npz --method pt-bar -o z.json --force -q "
RESULTS = ("run/ll.json", "run/ll.images.npz")
# Finished estimates, and the commands that continue them.
EARLIER_Z = "logz rbm.npz --method pt-bar -o earlier/z.json --force -q --threads 1 --precision "
EARLIER_LL = (
    "ll run/model.pt --log-z run/logz.json -o earlier/ll.json --workers 1 --force -q --limit 30 --samples "
)
TASKS = [
    Task("train", TRAIN, ("run/model.pt", "run/checkpoint.pt", "run/metrics.jsonl"), 30, RESUME),
    Task("train further", FURTHER, ("run/model.pt", "run/checkpoint.pt", "run/metrics.jsonl"), 10, "", ("run",)),
    Task("logz", PT_BAR + "--precision 0.004 --threads 1", ("z.json",), 20),
    Task("logz from modes", PT_BAR + "--reference modes --precision 0.002 --threads 1", ("z.json",), 10),
    Task("logz --repeats", PT_BAR + "--sweeps 400 --repeats 12 --threads 1", ("z.json",), 15),
    Task("logz --repeats, 2 workers", PT_BAR + "--sweeps 400 --repeats 12 --threads 2", ("z.json",), 3),
    Task("ll", LL.format(1), RESULTS, 15, prepared=("run",)),
    Task("ll, 2 workers", LL.format(2), RESULTS, 3, prepared=("run",)),
    Task("logz continued", EARLIER_Z + "0.004", ("earlier/z.json",), 10, prepared=("earlier",)),
    Task("ll continued", EARLIER_LL + "2000", ("earlier/ll.json",), 10, prepared=("run", "earlier")),
    Task("report", "report run -q", ("run/report.html", "run/samples.npz"), 14, prepared=("run",)),
]


class Meter:
    """Numbers that a command writes into shared memory, which outlives it."""

    NAMES = ("began", "done", "kept", "kept_us", "writes", "writing", "cpu_us")

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8 * len(self.NAMES))
        self.values = np.frombuffer(self.memory, np.int64)

    def __getattr__(self, name: str) -> int:
        return int(self.values[self.NAMES.index(name)])

    def set(self, **values: int) -> None:
        if "kept" in values:
            values["kept_us"] = cpu_us()
        for name, value in values.items():
            self.values[self.NAMES.index(name)] = value


def cpu_us() -> int:
    """Return this process's CPU time in microseconds."""
    return round(1e6 * time.process_time())


# --- in the child -------------------------------------------------------------------------------------------


def after(owner: object, name: str, hook: Callable[..., None]) -> None:
    """Replace a function by one that then calls `hook` with the result and the arguments."""
    original = getattr(owner, name)

    def wrapped(*args: object, **settings: object) -> object:
        result = original(*args, **settings)
        hook(result, *args)
        return result

    setattr(owner, name, wrapped)


def count_rounds(meter: Meter) -> None:
    """Let the commands record the rounds that they started from, have done, and have saved."""
    single = True
    stages, counted = 0, False

    def begin(n: int) -> None:
        meter.set(began=n, done=n, kept=n)

    def begin_repeats(loaded: tuple[dict[int, object], object], *_: object) -> None:
        nonlocal single
        single = False
        begin(len(loaded[0]))

    def begin_stage(*_: object) -> None:
        nonlocal stages, counted
        stages, counted = stages + 1, False

    def begin_images(_: object, done: object) -> None:
        # Work that is read back is not counted as done, nor is a later stage, which starts from the beginning.
        nonlocal counted
        counted = stages == 1
        if counted:
            begin(done.n)

    after(train.Trainer, "restore", lambda _, trainer: begin(trainer._count))
    after(train.Trainer, "_one_step", lambda _, trainer, *x: meter.set(done=trainer._count + 1))
    after(train.Trainer, "_write", lambda _, trainer: meter.set(kept=trainer._count))
    # There may be two runs, one after the other.
    after(tempered.TemperedRun, "load_state_dict", lambda _, run, state: begin(meter.began + run.n_iterations))
    after(
        tempered.WorkSums, "add", lambda _, s, works: single and meter.set(done=meter.done + len(works.energies))
    )
    after(log_z_module, "_load", begin_repeats)
    after(log_z_module, "_packed", lambda _, done, *more: meter.set(done=len(done)))
    after(image_tasks._Done, "__init__", begin_stage)
    after(image_tasks._Done, "add", lambda _, done, at, w: counted and meter.set(done=meter.done + len(at)))
    after(resume.PartStore, "save", lambda *x: counted and meter.set(kept=meter.kept + len(x[-1]["positions"])))
    after(image_tasks._Done, "pending", begin_images)

    def kept(_: object, store: resume.Store, arrays: dict[str, np.ndarray]) -> None:
        if "positions" in arrays:  # counted above
            return
        whole = {**store.others, **resume.above(store.prefix, arrays)}
        runs = [
            int(whole[f"{part}/n_iterations"]) for part in ("first", "second") if f"{part}/n_iterations" in whole
        ]
        meter.set(kept=sum(runs) if single else len(json.loads(arrays["repeats"].tobytes())))

    after(resume.Store, "save", kept)


def die(meter: Meter) -> None:
    """Kill this process and its workers."""
    meter.set(cpu_us=cpu_us())
    os.killpg(0, signal.SIGKILL)


def aim(meter: Meter, nth: int, point: str) -> None:
    """Count the files that are written, and kill this process at a point of the nth write."""
    original = files.atomic_write

    @contextlib.contextmanager
    def atomic_write(path: Path):
        meter.set(writes=meter.writes + 1, writing=1)
        hit = meter.writes == nth
        with original(path) as file:
            if hit and point == "begun":
                die(meter)
            yield file
            file.flush()
            if hit and point == "half":
                os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size // 2)
            if hit and point != "renamed":
                die(meter)
        if hit:
            die(meter)
        meter.set(writing=0)

    files.atomic_write = atomic_write


@contextlib.contextmanager
def in_place(path: Path):
    """Write a file in place, which is wrong: the test must detect it."""
    with path.open("wb", buffering=0) as file:
        yield file


def child(command: str, place: Path, meter: Meter, nth: int, point: str) -> None:
    """Run the command in this process, and exit."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(place)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        train.CHECKPOINT_SECONDS = tempered.SAVE_SECONDS = SAVE_SECONDS
        image_tasks.SHARD_SECONDS = 0.0
        count_rounds(meter)
        aim(meter, nth, point)
        program, *args = command.split()
        sys.argv = ["dvae-train", *args] if program == "train" else ["dvae-eval", program, *args]
        (dvae_train if program == "train" else dvae_eval)()
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        meter.set(cpu_us=cpu_us())
        os._exit(status)


# --- in the parent ------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process in seconds (Linux)."""
    return time.clock_gettime(~pid << 3 | 2)


def execute(
    command: str, place: Path, meter: Meter, moment: float = 1e9, nth: int = 0, point: str = ""
) -> int | None:
    """Run a command line; return its exit status, or None if it was killed."""
    meter.values[:] = 0
    pid = os.fork()
    if not pid:
        child(command, place, meter, nth, point)
    with contextlib.suppress(OSError):  # parent and child both do it; the second one may fail
        os.setpgid(pid, pid)
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if (now := cpu_seconds(pid)) >= moment:
            meter.set(cpu_us=round(1e6 * now))
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)
    # Kill the workers, too, if the leader ended by itself.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    forget_workers(pid)
    return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def forget_workers(pid: int) -> None:
    """Remove the shared memory of joblib that the killed processes could not remove."""
    for path in [*Path("/dev/shm").glob(f"sem.loky-{pid}-*"), *Path("/dev/shm").glob(f"joblib_*_{pid}_*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def refuse_damage(place: Path) -> None:
    """Read every file of a run with its reader; raise if one is damaged."""
    for path in place.rglob("*"):
        if not path.is_file() or path.suffix == ".part":
            continue
        if path.name == "config.json":
            read_config(path.parent)
            load_tensors(path.with_name("checkpoint.pt"), train.CHECKPOINT_FORMAT)
        elif path.suffix == ".json":
            load_result(path)
        elif path.name == "model.pt":
            load_model(path)
        elif path.suffix == ".npz":
            read_npz(path, npz_names(path))
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), path
        elif path.suffix == ".jsonl":
            read_metrics(path)


def names_in(place: Path) -> set[str]:
    """Return the names of all files and directories."""
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def phase_of(meter: Meter, point: str) -> str:
    """Return the phase in which a command was killed, in words."""
    if point:
        return {"renamed": "just after a rename"}.get(point, f"with a new file {point}")
    if meter.writing:
        return "while writing"
    return "at work" if meter.done > meter.began else "before the first round"


def timeless(value: object) -> object:
    """Return JSON data without times."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def content(path: Path) -> object:
    """Return the content of a file without times: it must equal that of the undisturbed run."""
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".npz":
        return {name: a.tobytes() for name, a in read_npz(path, npz_names(path)).items() if name != "meta"}
    return path.read_bytes()


@dataclass
class Tally:
    """The counts of all kills, the work that was lost, and the failures."""

    kills: Counter[str] = field(default_factory=Counter)
    lost: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    runs: int = 0
    failures: list[str] = field(default_factory=list)


class Stress:
    """All kills of all tasks, in one directory."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.rng, self.meter, self.tally = place, np.random.default_rng(seed), Meter(), Tally()

    def prepare(self) -> None:
        """Make the files that the tasks start from, and let numba load its kernels before the first fork."""
        rng = np.random.default_rng(0)
        W = rng.normal(size=(24, 20)) / 3
        np.savez(self.place / "rbm.npz", W=W, b_left=np.zeros(24), b_right=np.zeros(20))
        estimate_log_z((W[:2], np.zeros(2), np.zeros(20)), method="pt-bar", n_sweeps=20, threads=1)
        (self.place / "earlier").mkdir()
        for command in (TRAIN, "logz run/model.pt -q", EARLIER_Z + "0.02", EARLIER_LL + "1000"):
            status = execute(command, self.place, self.meter)
            assert status in (0, 3), (self.place / "log").read_text()

    def fresh(self, task: Task, name: str) -> Path:
        """Return a new directory in which a task can start."""
        place = self.place / name
        place.mkdir()
        shutil.copy(self.place / "rbm.npz", place)
        for prepared in task.prepared:
            shutil.copytree(self.place / prepared, place / prepared)
        return place

    def stress(self, task: Task, n_kills: int) -> None:
        """Run a task undisturbed; then kill it `n_kills` times and compare the results."""
        whole = self.fresh(task, "whole")
        assert execute(task.command, whole, self.meter) in (0, 3), (whole / "log").read_text()
        seconds, n_writes = self.meter.cpu_us / 1e6, self.meter.writes
        killed, names = 0, names_in(whole)
        while killed < n_kills:
            place = self.fresh(task, "killed")
            wanted = min(n_kills - killed, 1 + int(self.rng.integers(6)))
            killed += self.disturbed(task, place, wanted, seconds, n_writes)
            for name in task.outputs:
                if content(place / name) != content(whole / name):
                    self.tally.failures.append(f"{task.name}: {name} differs")
            if left := names_in(place) - names:
                self.tally.failures.append(f"{task.name}: left behind {sorted(left)}")
            shutil.rmtree(place)
            self.tally.runs += 1
        print(
            f"{task.name:28} {killed:4} kills; undisturbed {seconds:.2f} CPU s, {n_writes} files written",
            flush=True,
        )
        shutil.rmtree(whole)

    def disturbed(self, task: Task, place: Path, wanted: int, seconds: float, n_writes: int) -> int:
        """Kill a run at most `wanted` times, then let it finish; return the number of kills."""
        killed = kept = 0
        while True:
            command = task.resume if task.resume and (place / "run/config.json").exists() else task.command
            aimed = self.rng.random() < 1 / 3
            moment = 1e9 if aimed or killed == wanted else seconds * self.rng.random()
            nth = int(self.rng.integers(1, n_writes + 1)) if aimed and killed < wanted else 0
            point = POINTS[self.rng.integers(len(POINTS))]
            status = execute(command, place, self.meter, moment, nth, point)
            meter = self.meter
            if meter.done and meter.began < kept:
                self.tally.failures.append(
                    f"{task.name}: {kept} rounds were saved, but it continued from {meter.began}"
                )
            refuse_damage(place)
            if status is not None:
                assert status in (0, 3), (place / "log").read_text()
                return killed
            killed += 1
            self.tally.kills[phase_of(meter, point if nth else "")] += 1
            # The work of other processes is known only once it is saved.
            if meter.kept_us and meter.cpu_us:
                lost = max(0, meter.done - meter.kept), max(0, meter.cpu_us - meter.kept_us) / 1e6
                self.tally.lost.setdefault(task.name, []).append(lost)
            # Saved work is removed once the result is written.
            is_over = not task.resume and (place / task.outputs[0]).exists()
            kept = 0 if is_over else max(kept, meter.kept)

    def summary(self) -> list[str]:
        """Return the lines of the summary."""
        kills = self.tally.kills
        lines = [f"{kills.total()} kills in {self.tally.runs} runs: "]
        lines[0] += ", ".join(f"{n} {phase}" for phase, n in kills.most_common())
        for name, lost in self.tally.lost.items():
            rounds, seconds = zip(*lost, strict=True)
            lines.append(
                f"{name:26} repeated after a kill: {np.mean(rounds):.1f} rounds, {np.mean(seconds):.3f} CPU s "
                f"on average; at most {max(rounds)} and {max(seconds):.3f}"
            )
        return [
            *lines,
            *(self.tally.failures or ["no saved work was lost or misread, and no file was left behind"]),
        ]


def main() -> int:
    """Run all tasks; return 1 if there was a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="part of a task's name")
    parser.add_argument("--in-place", action="store_true", help="write files in place, which the test must detect")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A process that is forked after OpenMP has started its threads would wait for them for ever.
    torch.set_num_threads(1)
    if options.in_place:
        files.atomic_write = in_place
    tasks = [task for task in TASKS if (options.only or "") in task.name]
    total = sum(task.share for task in tasks)
    with tempfile.TemporaryDirectory() as place:
        stress = Stress(Path(place), options.seed)
        stress.prepare()
        for task in tasks:
            stress.stress(task, -(-options.kills * task.share // total))
        print("\n".join(stress.summary()))
    return 1 if stress.tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
