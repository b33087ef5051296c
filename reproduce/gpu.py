"""The GPU run: what one large GPU shows of this toolkit within a budget of minutes; see gpu.sh for its use.

A run is a list of stages. Each stage runs its commands in processes of their own under a time limit, and leaves
`STAGE.json` (status, seconds, numbers) and `logs/STAGE.txt` (all that its commands printed) in OUT. A stage whose
file exists is not run again. A stage that fails or exceeds its limit is recorded, and the next one starts. The
seconds of all calls with the same OUT count towards the budget. `summary.md` is written again after every stage.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Shares of the budget: tests, timings and tempering together have at most the first, the evaluation of the trained
# model has at least the second, and training has what is left.
MEASUREMENTS, EVALUATION = 0.45, 0.25
# Seconds that an interrupted command has to save its work, and a command's least useful time.
GRACE, LEAST = 30.0, 3.0
DONE, FAILED, OVER, STOPPED, ABSENT = "done", "failed", "over its limit", "stopped at its limit", "not on the CPU"
UNTRUSTED, INTERRUPTED = 3, 130  # exit statuses that leave a result, and a model
Row = dict[str, Any]


class StageError(Exception):
    """A command of a stage failed; the message says which one, and the log says why."""


class LimitError(StageError):
    """A command of a stage exceeded the stage's limit and was stopped."""


@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes
    ----------
    dataset, preset : str
        Data set to train on, and settings of the training.
    training : tuple of str
        Further options of dvae-train.
    shapes : tuple of (int, int)
        Units on both sides of the machines that are tempered.
    tempering, timing, step : tuple of str
        Options of `dvae-eval logz`, benchmarks/gibbs.py and benchmarks/train_step.py.
    architecture : str
        Name of the benchmark of a step.
    batch_size, max_epochs : int
        Images of a training step, and the most epochs of a training.
    n_samples, n_probe : int
        Importance samples per image, and images that are evaluated first, to see how long one takes.
    compiles : bool
        Whether --compile is benchmarked.
    tests : str
        Pattern of the test files; those with CUDA tests among them are run.
    """

    dataset: str
    preset: str
    training: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    tempering: tuple[str, ...]
    timing: tuple[str, ...]
    step: tuple[str, ...]
    architecture: str
    batch_size: int
    max_epochs: int
    n_samples: int
    n_probe: int
    compiles: bool = True
    tests: str = "test_*.py"


SIZES = {
    "full": Size(
        dataset="mnist",
        preset="paper-mnist",
        training=(),
        shapes=((64, 64), (784, 500)),
        tempering=("--precision", "0.01"),
        timing=("--repeats", "3"),
        step=("--repeats", "10"),
        architecture="paper-mnist",
        batch_size=100,
        max_epochs=1000,
        n_samples=10_000,
        n_probe=50,
    ),
    "tiny": Size(
        dataset="bars-and-stripes-2x2",
        preset="bars-and-stripes-small",
        training=("--left", "3", "--right", "3", "--groups", "2", "--encoder-hidden", "8", "--batch-size", "100"),
        shapes=((8, 6), (20, 13)),
        tempering=("--sweeps", "200", "--replicates", "4"),
        timing=("--quick", "--threads", "1"),
        step=("--repeats", "2", "--warmup", "1", "--threads", "1"),
        architecture="bars-and-stripes-small",
        batch_size=100,
        max_epochs=15,
        n_samples=20,
        n_probe=2,
        compiles=False,
        tests="test_non_finite.py",
    ),
}


# --- the clock and the commands -------------------------------------------------------------------------------


@dataclass
class Run:
    """Where a run is kept, what it may cost, and what it has cost so far, in seconds."""

    out: Path
    device: str
    size: Size
    budget: float
    deadline: float = field(default=0.0, init=False)

    @property
    def spent(self) -> float:
        """Seconds of all calls so far."""
        return float(read(self.out / "clock.json").get("spent", 0.0))

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - self.spent

    @property
    def trained(self) -> Path:
        """The directory of the training run."""
        return self.out / "run"

    def record(self, stage: str) -> Row:
        """Return what a stage recorded; empty if it was not run."""
        return read(self.out / f"{stage}.json")

    def rows(self, stage: str) -> list[Row]:
        """Return the numbers of a stage; empty if it has none."""
        rows: list[Row] = self.record(stage).get("rows", [])
        return rows

    def python(self, stage: str, *arguments: object, accept: Iterable[int] = (0,), least: float = 0.0) -> int:
        """Run Python with the arguments until the stage's deadline, its output going into the stage's log.

        Parameters
        ----------
        accept : iterable of int
            Exit statuses that are a success.
        least : float
            Seconds that the command has at least, even beyond the deadline.

        Returns
        -------
        int
            The exit status.

        Raises
        ------
        LimitError
            If the command was stopped, unless it then ended with an accepted status.
        StageError
            If it ended with any other status.
        """
        command = [sys.executable, *map(str, arguments)]
        seconds = max(self.deadline - time.monotonic(), least)
        if seconds < LEAST:
            raise LimitError(f"no time left for {shown(command)}")
        with (self.out / "logs" / f"{stage}.txt").open("a", encoding="utf-8") as log:
            print(f"$ {shown(command)}", file=log, flush=True)
            status, was_stopped = self._wait(command, seconds, log)
        if status in accept:
            return status
        if was_stopped:
            raise LimitError(f"{shown(command)} was stopped after {seconds:.0f} s")
        raise StageError(f"{shown(command)} ended with status {status}: {last_line(self.out, stage)}")

    def time_limit(self, share: float) -> tuple[str, str]:
        """Return the option of dvae-eval that ends its work after a share of the time that the stage has left."""
        return "--time-limit", str(max(1, round(share * (self.deadline - time.monotonic()))))

    def _wait(self, command: list[str], seconds: float, log: Any) -> tuple[int, bool]:
        """Return the exit status of a command, and whether it was stopped; keep the clock meanwhile."""
        child = subprocess.Popen(command, cwd=ROOT, env=self._environment(), stdout=log, stderr=log)
        end, was_stopped = time.monotonic() + seconds, False
        try:
            while child.poll() is None:
                if not was_stopped and time.monotonic() > end:
                    child.send_signal(signal.SIGINT)
                    was_stopped, end = True, time.monotonic() + GRACE
                elif was_stopped and time.monotonic() > end:
                    child.kill()
                self.tick(0.2)
        except BaseException:  # Ctrl-C or SIGTERM: let the command save its work
            child.send_signal(signal.SIGINT)
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
        return child.returncode, was_stopped

    def tick(self, seconds: float) -> None:
        """Sleep, and count it."""
        before = time.monotonic()
        time.sleep(seconds)
        write(self.out / "clock.json", {"spent": self.spent + time.monotonic() - before})

    def _environment(self) -> dict[str, str]:
        """Return the environment of the commands: prepared data, and compiled code that is kept in OUT."""
        more = {"OMP_WAIT_POLICY": "PASSIVE", "TORCHINDUCTOR_CACHE_DIR": str(self.out / "compiled")}
        if (data := self.out / "prepared" / "data").is_dir():
            more["DVAE_DATA_DIR"] = str(data)
        return {**os.environ, **more}


def shown(command: list[str]) -> str:
    """Return a command as one types it, without the text of a program."""
    words = ["..." if before == "-c" else word for before, word in pairwise(command)]
    return " ".join(["python", *words])


def last_line(out: Path, stage: str) -> str:
    """Return the last line of a stage's log."""
    lines = (out / "logs" / f"{stage}.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def read(path: Path) -> Row:
    """Return the JSON object in a file; empty if there is none, or it was cut off."""
    try:
        found: Row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def write(path: Path, content: Mapping[str, Any] | str) -> None:
    """Write a text or a JSON object, whole or not at all."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


# --- stages: each returns the rows of its table -----------------------------------------------------------------


def prepare(run: Run) -> list[Row]:
    """Copy the data set and make the machines; it needs no GPU."""
    import numpy as np

    from dvae_core.data import load

    folder = run.out / "prepared"
    folder.mkdir(exist_ok=True)
    copy_data(run.size.dataset, folder / "data")
    rows: list[Row] = []
    for shape in run.size.shapes:
        machine, log_z = machine_of_blocks(*shape)
        np.savez(folder / f"machine-{name_of(shape)}.npz", **machine)
        rows.append({"prepared": f"machine {name_of(shape)}", "exact log Z": log_z})
    rows.append({"prepared": run.size.dataset, "training images": len(load(run.size.dataset, quiet=True).train)})
    return rows


def copy_data(dataset: str, folder: Path) -> None:
    """Copy the files of a public data set, downloading what is missing; any other one needs no files."""
    from dvae_core.data import PUBLIC, load
    from dvae_core.data.fetch import data_folder
    from dvae_core.data.public import locate

    if dataset not in PUBLIC:
        return
    load(dataset)  # verified
    folder.mkdir(exist_ok=True)
    files = locate(PUBLIC[dataset], data_folder())
    for file in [data_folder() / PUBLIC[dataset].packed] if None in files else files:
        assert file is not None  # it was loaded
        shutil.copyfile(file, folder / file.name)


def machine_of_blocks(n_left: int, n_right: int) -> tuple[dict[str, Any], float]:
    """Return an RBM whose log Z is known exactly, in nats: independent blocks, their units shuffled.

    Blocks are as wide as they can be enumerated; units that fill no block are independent.
    """
    import numpy as np

    from dvae_eval.test_machines.rbms import blocks

    n_blocks = max(n_left, n_right) // 16 or 1
    shape = (n_left // n_blocks, n_right // n_blocks)
    machine, log_z = blocks(0, n_blocks, shape, 3.0)
    rest = [n_left - n_blocks * shape[0], n_right - n_blocks * shape[1]]
    arrays = {
        "W": np.pad(np.asarray(machine.W), ((0, rest[0]), (0, rest[1]))),
        "b_left": np.pad(machine.b_left, (0, rest[0])),
        "b_right": np.pad(machine.b_right, (0, rest[1])),
    }
    return arrays, float(log_z + sum(rest) * np.log(2))


def name_of(shape: tuple[int, int]) -> str:
    """Return a machine's name, such as 64x64."""
    return "x".join(map(str, shape))


ENVIRONMENT = """
import json, platform, sys, torch
from dvae_core.environment import Effort
x = torch.ones(1, device=sys.argv[1])
found = {"device": torch.cuda.get_device_name() if x.is_cuda else "cpu", "torch": torch.__version__,
    "CUDA": torch.version.cuda, "python": platform.python_version(), "threads": torch.get_num_threads()}
made = Effort().environment()
print(json.dumps(found | {name: made[name] for name in ("processor", "date", "commit")}))
"""


def environment(run: Run) -> list[Row]:
    """Name device and versions; nothing else makes sense without the device."""
    run.python("environment", "-c", ENVIRONMENT, run.device)
    return [json.loads(last_line(run.out, "environment"))]


def tests(run: Run) -> list[Row]:
    """Run the tests that need CUDA; without it they are skipped."""
    every = sorted((ROOT / "tests").glob(run.size.tests))
    files = [p.relative_to(ROOT) for p in every if "pytest.mark.gpu" in p.read_text(encoding="utf-8")]
    options = ("-v", "-rs", "-p", "no:cacheprovider", "-m", "gpu")
    try:
        run.python("tests", "-m", "pytest", *options, *files)
    except LimitError:
        raise
    except StageError as error:
        raise StageError(f"{last_line(run.out, 'tests')} (logs/tests.txt)") from error
    return [{"CUDA tests": last_line(run.out, "tests").strip("= ")}]


def step(name: str, *options: str) -> Callable[[Run], list[Row]]:
    """Return a stage that times a training step."""

    def stage(run: Run) -> list[Row]:
        path = run.out / f"{name}-figures.json"
        where = ("--device", run.device, "--json", path)
        run.python(name, "benchmarks/train_step.py", run.size.architecture, *run.size.step, *where, *options)
        found = read(path)
        whole = found["step"]
        return [
            {
                "step": " ".join(options) or "float32",
                "ms": whole["ms"],
                "products ms": whole["floor_ms"],
                "ratio": whole["ratio"],
                **{f"{part} ms": found["parts"].get(part, {}).get("ms") for part in ("sampling", "backward")},
                "first step s": found["first_step_s"],
            }
        ]

    return stage


def sweeps(run: Run) -> list[Row]:
    """Time Gibbs sweeps and tempering."""
    path, shapes = run.out / "sweeps-figures.json", map(name_of, run.size.shapes)
    where = ("--device", run.device, "--json", path)
    run.python("sweeps", "benchmarks/gibbs.py", "--shapes", *shapes, *run.size.timing, *where)
    return [
        {"machine": result["shape"], "sampler": name, "chain-sweeps per second": row["per_second"]}
        for result in read(path)["results"]
        for name, row in result["rows"].items()
    ]


def temper(shape: tuple[int, int]) -> Callable[[Run], list[Row]]:
    """Return a stage that estimates the log Z of a prepared machine by parallel tempering."""
    name = f"temper-{name_of(shape)}"

    def stage(run: Run) -> list[Row]:
        path = run.out / f"{name}-logz.json"
        # The rest of the stage's time is for starting, and for the checks after the run.
        options = ("--method", "pt-bar", "--device", run.device, *run.time_limit(0.6), *run.size.tempering)
        machine = run.out / "prepared" / f"machine-{name_of(shape)}.npz"
        arguments = ("logz", machine, *options, "-o", path, "--force", "-q")
        run.python(name, "-m", "dvae_cli.main", *arguments, accept=(0, UNTRUSTED))
        exact = next(r["exact log Z"] for r in run.rows("prepare") if r["prepared"] == f"machine {name_of(shape)}")
        return [{"machine": name_of(shape), "exact": exact, **log_z_row(read(path))}]

    return stage


def log_z_row(found: Row) -> Row:
    """Return the numbers of a result of logz."""
    diagnostics, made = found["diagnostics"], found["settings"]
    return {
        "log Z": found["log_z"],
        "std err": found["std_err"],
        "verdict": found["verdict"],
        "rungs": len(diagnostics.get("betas", [])) or None,
        "sweeps": diagnostics.get("n_sweeps"),
        "device": made.get("device"),
        "seconds": found["wall_seconds"],
    }


def train(run: Run) -> list[Row]:
    """Train for what is left of the budget, less the evaluation's share; a stopped run leaves its best model."""
    out, where = run.trained, ("--device", run.device, "-q")
    if (out / "config.json").exists():
        options: tuple[object, ...] = ("--resume", "--out", out)
    else:
        options = (run.size.dataset, "--preset", run.size.preset, *run.size.training, *chosen(run), "--out", out)
    ended = ""
    try:
        if run.python("train", "-m", "dvae_cli.train", *options, *where, accept=(0, INTERRUPTED)):
            ended = STOPPED
    except StageError as error:
        if not (out / "model.pt").exists():
            raise
        ended = str(error)
    if not (out / "model.pt").exists():
        run.python("train", "-m", "dvae_cli.train", "--end", "--out", out, *where, least=GRACE)
    return [{**training_row(out), "preset": run.size.preset, "ended": ended}]


def training_row(out: Path) -> Row:
    """Return the numbers of a training run."""
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs, config = [json.loads(line) for line in lines], read(out / "config.json")["train"]
    return {
        "bfloat16": config["amp"],
        "compiled": config["compile"],
        "epochs": len(epochs),
        "of": config["epochs"],
        "images per second": statistics.median(epoch["images_per_s"] for epoch in epochs),
        "validation bound": max(epoch["valid"]["elbo"] for epoch in epochs),
        "log Z tracked": epochs[-1]["log_z"],
    }


# The benchmarked modes that dvae-train has, with their options.
MODES: dict[str, tuple[str, ...]] = {
    "step-float32": (),
    "step-bfloat16": ("--amp",),
    "step-compile": ("--compile",),
    "step-compile-bfloat16": ("--amp", "--compile"),
}


def chosen(run: Run) -> tuple[str, ...]:
    """Return options of dvae-train: the fastest mode that was timed, and epochs that end within the time.

    The learning rate decays over the epochs, and KL terms are warmed up in the first ones: a run that is stopped
    half-way would waste both.
    """
    seconds = 0.9 * (run.deadline - time.monotonic())
    timed = {mode: run.rows(mode)[0] for mode in MODES if run.rows(mode)}
    if not timed:
        return ()
    images = next(r["training images"] for r in run.rows("prepare") if "training images" in r)

    def epochs(mode: str) -> int:
        row = timed[mode]
        # Compiling starts from what the benchmark has left in OUT/compiled, if that fits; it may not.
        start = row["first step s"] if "--compile" in MODES[mode] else 0.0
        return int((seconds - start) / (1e-3 * row["ms"] * -(-images // run.size.batch_size)))

    best = max(timed, key=epochs)
    n = max(1, min(run.size.max_epochs, epochs(best)))
    warmups = ("--warmup-epochs", str(min(5, n // 6)), "--rbm-warmup-epochs", str(min(20, n // 3)))
    return (*MODES[best], "--epochs", str(n), *warmups)


def log_z(run: Run) -> list[Row]:
    """Estimate log Z of the trained prior, on the CPU if the device fails."""
    path = run.trained / "logz.json"
    evaluate(run, "log-z", "logz", *run.time_limit(0.6), *run.size.tempering, "--force", "-q")
    return [log_z_row(read(path))]


def likelihood(run: Run) -> list[Row]:
    """Estimate the log-likelihood of as many test images as there is time for."""
    path, samples = run.trained / "ll.json", ("--samples", run.size.n_samples, "-q")
    evaluate(run, "likelihood", "ll", *samples, "--limit", run.size.n_probe)
    found = read(path)
    simulated = found["diagnostics"]["simulated"].get("n_images", 0)  # they are not evaluated again
    per_image = found["wall_seconds"] / (found["n_images"] + simulated)
    n = found["n_images"] + int(0.7 * (run.deadline - time.monotonic()) / per_image)
    if n > found["n_images"]:
        try:
            evaluate(run, "likelihood", "ll", *samples, "--limit", n)
        except LimitError:
            pass  # the images of the first call stay
    found = read(path)
    return [
        {
            "log-likelihood": found["log_likelihood"],
            "std err of images": found["std_err_images"],
            "std err of log Z": found["std_err_log_z"],
            "gap": found["gap"],
            "verdict": found["verdict"],
            "images": found["n_images"],
            "samples": found["n_samples"],
            "seconds": found["wall_seconds"],
        }
    ]


def evaluate(run: Run, stage: str, command: str, *options: object) -> None:
    """Run a command of dvae-eval on the trained model, on the device or else on the CPU."""
    for device in dict.fromkeys((run.device, "cpu")):
        where = (run.trained / "model.pt", "--device", device)
        try:
            run.python(stage, "-m", "dvae_cli.main", command, *where, *options, accept=(0, UNTRUSTED))
            return
        except LimitError:
            raise
        except StageError:
            if device == "cpu":
                raise


# --- the list of stages ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A stage: its name, its heading in the summary, its largest share of the budget, and its function."""

    name: str
    heading: str
    share: float
    work: Callable[[Run], list[Row]]
    needs: str = ""  # a stage that must be done before
    cuda: bool = False


def stages(size: Size) -> list[Stage]:
    """Return all stages after `prepare`, in their order: what costs little and shows much comes first."""
    heading, alone = "A training step", ("--cuda-graph",)
    compiled = [
        Stage("step-compile-bfloat16", heading, 0.12, step("step-compile-bfloat16", "--amp", "--compile")),
        Stage("step-compile", heading, 0.12, step("step-compile", "--compile")),
    ]
    return [
        Stage("environment", "Where it ran", 0.1, environment),
        Stage("tests", "CUDA tests", 0.15, tests),
        Stage("step-float32", heading, 0.08, step("step-float32")),
        Stage("step-bfloat16", heading, 0.08, step("step-bfloat16", "--amp")),
        Stage("step-graph", heading, 0.08, step("step-graph", *alone), cuda=True),
        Stage("step-graph-bfloat16", heading, 0.08, step("step-graph-bfloat16", "--amp", *alone), cuda=True),
        Stage("sweeps", "Gibbs sweeps", 0.05, sweeps),
        *(
            Stage(f"temper-{name_of(shape)}", "Parallel tempering", 0.08, temper(shape), needs="prepare")
            for shape in size.shapes
        ),
        *(compiled if size.compiles else []),
        Stage("train", "Training", 1 - EVALUATION, train, needs="prepare"),
        Stage("log-z", "log Z of the trained prior", EVALUATION / 2, log_z, needs="train"),
        Stage("likelihood", "Log-likelihood of test images", 1.0, likelihood, needs="train"),
    ]


def limit_of(run: Run, stage: Stage) -> float:
    """Return the seconds that a stage may take now."""
    share = {"train": 1 - EVALUATION, "log-z": 1.0, "likelihood": 1.0}.get(stage.name, MEASUREMENTS)
    return min(stage.share * run.budget, share * run.budget - run.spent)


def perform(run: Run, stage: Stage) -> None:
    """Run a stage, unless its file exists, and record what came of it."""
    if run.record(stage.name):
        return
    if stage.needs and not run.rows(stage.needs):
        say(f"{stage.name}: left out, {stage.needs} is not done")
        return
    limit = limit_of(run, stage)
    if stage.cuda and run.device == "cpu":
        found: Row = {"status": ABSENT}
    elif stage.name != "prepare" and limit < LEAST:
        say(f"{stage.name}: left out, no time left; more MINUTES and the same command again to run it")
        return
    else:
        say(f"{stage.name}: at most {limit:.0f} of {run.left:.0f} s")
        found = outcome(run, stage, limit)
    write(run.out / f"{stage.name}.json", {"stage": stage.name, "heading": stage.heading, **found})
    say(f"{stage.name}: {found['status']}{', ' + found['why'] if 'why' in found else ''}")


def outcome(run: Run, stage: Stage, limit: float) -> Row:
    """Run a stage within a limit in seconds, and return its record."""
    before, run.deadline = run.spent, time.monotonic() + limit
    try:
        found: Row = {"status": DONE, "rows": stage.work(run)}
    except LimitError as error:
        found = {"status": OVER, "why": str(error)}
    except Exception as error:  # whatever fails, the next stages have their turn
        found = {"status": FAILED, "why": " ".join(f"{error}".split()) or type(error).__name__}
    return {**found, "seconds": round(run.spent - before, 1), "limit": round(limit, 1)}


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"gpu: {text}", file=sys.stderr, flush=True)


# --- the summary ----------------------------------------------------------------------------------------------


def summarise(run: Run, all_stages: list[Stage]) -> None:
    """Write summary.md and summary.json from the records of all stages."""
    records = [run.record(stage.name) for stage in all_stages]
    listed = [
        {
            "stage": stage.name,
            "status": record.get("status", "not run"),
            "seconds": record.get("seconds"),
            "why": record.get("why", ""),
        }
        for stage, record in zip(all_stages, records, strict=True)
    ]
    tables: dict[str, list[Row]] = {}
    for record in filter(None, records):
        tables.setdefault(record["heading"], []).extend(record.get("rows", []))
    numbers = {heading: rows for heading, rows in tables.items() if rows}
    parts = [f"## {heading}\n\n{table(rows)}\n" for heading, rows in numbers.items()]
    head = f"# GPU run\n\nMade by `reproduce/gpu.sh` in {run.spent:.0f} s of {run.budget:.0f} s.\n"
    write(run.out / "summary.md", "\n".join([head, *parts, f"## Stages\n\n{table(listed)}\n"]))
    content = {"seconds": run.spent, "budget": run.budget, "stages": listed, "tables": numbers}
    write(run.out / "summary.json", content)


def table(rows: list[Row]) -> str:
    """Return rows as a table in Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """Return a value as a cell of a table."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value).replace("|", "\\|")


# --- the command ----------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Prepare or make a run as the environment asks; return the exit status."""
    word = arguments[0] if arguments else "run"
    if word not in ("prepare", "run", "retry") or len(arguments) > 1:
        say(f"{' '.join(arguments)}: not understood; give prepare, run or retry, or nothing to run")
        return 2
    try:
        run = run_from(os.environ)
    except ValueError as error:
        say(str(error))
        return 2
    (run.out / "logs").mkdir(parents=True, exist_ok=True)
    first = Stage("prepare", "Prepared inputs", 1.0, prepare)
    all_stages = [first, *stages(run.size)]
    if word == "retry":
        forget_failures(run, all_stages)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for stage in all_stages[: 1 if word == "prepare" else None]:
            perform(run, stage)
            summarise(run, all_stages)
            if stage.name in ("prepare", "environment") and not run.rows(stage.name):
                # Without inputs or the device no other stage can run, and the next call begins here again.
                (run.out / f"{stage.name}.json").unlink()
                return 1
    except KeyboardInterrupt:
        say(f"stopped after {run.spent:.0f} s; run the same command again to continue")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    say(f"made {run.out / 'summary.md'}")
    return 0


def run_from(variables: Mapping[str, str]) -> Run:
    """Return the run that variables of the environment ask for; ValueError if one cannot be used."""
    size, minutes = variables.get("SIZE", "full"), variables.get("MINUTES", "15")
    if size not in SIZES:
        raise ValueError(f"SIZE={size}: not a size; give {' or '.join(SIZES)}")
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", minutes) or not float(minutes):
        raise ValueError(f"MINUTES={minutes}: not a time; give a number above 0, such as 15")
    out = Path(variables.get("OUT", f"runs/gpu-{SIZES[size].preset}")).resolve()
    return Run(out, variables.get("DEVICE", "cuda"), SIZES[size], 60 * float(minutes))


def forget_failures(run: Run, all_stages: list[Stage]) -> None:
    """Remove the records of stages that failed or exceeded their limit, so that they run again."""
    for stage in all_stages:
        if run.record(stage.name).get("status") in (FAILED, OVER):
            (run.out / f"{stage.name}.json").unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
