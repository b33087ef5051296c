"""What is handed in runs nothing, hangs nothing and fills nothing: files that are none, and what the code calls.

Each command is given what is no file at all, an endless one, a program in a pickle and more, and must say so in
one line, with exit status 2, in little memory, leaving the directory as it was.
"""

import ast
import contextlib
import gzip
import importlib.util
import itertools
import json
import os
import pickle
import re
import resource
import signal
import struct
import tomllib
import tracemalloc
import zipfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.errors import CheckpointError, DataError
from dvae_core.io import containers
from dvae_core.io.files import sha256_file
from dvae_core.model.dvae import DVAE
from dvae_core.training.checkpoint import load_model, save_model, save_tensors
from dvae_eval.samples.grid import SampleGrid
from tests.places import ROOT

PACKAGES = ("dvae_core", "dvae_eval", "reports/dvae_reports", "cli/dvae_cli")
ROOM = 1 << 30  # bytes of address space that refusing a file may take
SECONDS = 120  # after which a command is taken to hang; it takes a fraction of a second


# --- files that are none --------------------------------------------------------------------------------------


class Hostile:
    """Makes a directory when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def archive(path):
    """An archive that leads out of its folder."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../W.npy", b"\x93NUMPY\1\0")


HOSTILE = {
    "a directory": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Hostile(path.parent / "ran"))),
    "a pickle of PyTorch": lambda path: torch.save(Hostile(path.parent / "ran"), path),
    "an archive that leads out": archive,
    "brackets": lambda path: path.write_text("[" * 100_000),
    "a long number": lambda path: path.write_text('{"kind": ' + "9" * 10_000 + "}"),
    "a list": lambda path: path.write_text("[1, 2]"),
    "numbers for parts": lambda path: path.write_text('{"dataset": "digits", "model": 1.5, "train": [3]}'),
}
COMMANDS = {
    "logz": (dvae_eval, "m.npz", ["logz", "{file}", "-o", "{tmp}/out.json"]),
    "inspect": (dvae_eval, "m.pt", ["inspect", "{file}"]),
    "convert": (dvae_eval, "m.mat", ["convert", "{file}", "{tmp}/out.npz"]),
    "ll": (dvae_eval, "model.pt", ["ll", "{file}"]),
    "samples": (dvae_eval, "model.pt", ["samples", "{file}"]),
    "gradients": (dvae_eval, "model.pt", ["gradients", "{file}"]),
    "table": (dvae_eval, "ll.json", ["table", "{file}"]),
    "figure": (dvae_eval, "logz.json", ["figure", "logz", "{file}", "-o", "{tmp}/out.png"]),
    "train npy": (dvae_train, "m.npy", ["{file}", "--out", "{tmp}/run"]),
    "train npz": (dvae_train, "m.npz", ["{file}", "--out", "{tmp}/run"]),
    "graph": (dvae_train, "g.txt", ["digits", "--prior", "graph", "--graph", "{file}", "--out", "{tmp}/run"]),
}


@contextmanager
def within_bounds():
    """Let a command take little memory, and end it if it hangs."""

    def hangs(*_):
        raise TimeoutError("the command hangs")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(cli, main, *args):
    """Run a command that must refuse its input, within bounds; return its one line."""
    with within_bounds():
        captured = cli(*args, main=main)
    assert (captured.status, captured.out) == (2, ""), captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    assert "; run again with --debug" not in captured.err
    return captured.err


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_sound_file_is_refused_in_one_line(tmp_path, cli, command, kind):
    main, name, args = COMMANDS[command]
    HOSTILE[kind](tmp_path / name)
    line = refused(cli, main, *[arg.format(file=tmp_path / name, tmp=tmp_path) for arg in args])
    assert len(line) < 2000
    assert os.listdir(tmp_path) == [name]


# --- run directories ------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """A run directory with samples of its model, and no results."""
    directory = tmp_path / "run"
    directory.mkdir()
    model = ModelConfig(n_left=2, n_right=2, n_groups=1, encoder_hidden=(), n_layers=0, decoder_hidden=())
    config = RunConfig("digits", model, TrainConfig())
    (directory / "config.json").write_text(json.dumps({**config.to_dict(), "provenance": {}}))
    (directory / "metrics.jsonl").write_text("")
    save_model(directory / "model.pt", DVAE(model, 64).state_dict(), config, (8, 8), {"command": []})
    images = np.zeros((1, 1, 1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
    meta = {"model": {"sha256": sha256_file(directory / "model.pt")}}
    SampleGrid(*images, meta).save(directory / "samples.npz")
    return directory


NO_FILES = ("a directory", "a pipe", "an endless device")
NOTHING = ("empty", "a link to nothing", "a link to itself")  # like a file that is not there


# Of a model a report takes the digest alone, and the last line of the metrics may be half-written.
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in ("metrics.jsonl", "model.pt") for kind in NO_FILES),
        *(
            (name, kind)
            for name in ("config.json", "logz.json", "ll.json", "ll.images.npz", "samples.npz")
            for kind in HOSTILE
            if kind not in NOTHING
        ),
    ],
)
def test_a_report_of_a_run_that_was_tampered_with_is_refused(run, cli, name, kind):
    (run / name).unlink(missing_ok=True)
    HOSTILE[kind](run / name)
    before = sorted(os.listdir(run))
    assert name in refused(cli, dvae_eval, "report", run)
    assert sorted(os.listdir(run)) == before


@pytest.mark.parametrize("meta", [{}, {"model": {}}, {"model": "mine"}, {"model": {"sha256": 3}}])
def test_samples_of_no_model_are_refused(run, cli, meta):
    with np.load(run / "samples.npz") as stored:
        arrays = dict(stored)
    text = json.dumps({"kind": "samples", "schema": 1, **meta})
    np.savez(run / "samples.npz", **arrays | {"meta": np.frombuffer(text.encode(), np.uint8)})
    assert "samples.npz" in refused(cli, dvae_eval, "report", run)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["config.json", "checkpoint.pt"])
def test_a_run_that_was_tampered_with_is_not_gone_on_with(run, cli, name, kind):
    (run / name).unlink(missing_ok=True)
    HOSTILE[kind](run / name)
    before = os.listdir(run)
    refused(cli, dvae_train, "--resume", "--out", run)
    assert set(os.listdir(run)) <= {*before, ".lock"}


@pytest.mark.parametrize("parts", [{}, {"model": 3}, {"model": {"W": torch.ones(2)}}, {"epoch": "many"}])
def test_a_checkpoint_whose_parts_do_not_fit_is_refused(run, cli, parts):
    config = json.loads((run / "config.json").read_text())
    del config["provenance"]
    stored = RunConfig.from_dict(config).to_dict()
    save_tensors(run / "checkpoint.pt", "dvae-training", {"config": stored, **parts})
    assert "checkpoint.pt" in refused(cli, dvae_train, "--resume", "--out", run)


def test_a_model_that_claims_to_be_huge_takes_no_memory(run):
    content = torch.load(run / "model.pt", weights_only=True)
    for change in ({"n_left": 100_000, "n_right": 100_000}, {"encoder_hidden": [100_000, 100_000]}):
        model = content["config"]["model"] | change
        torch.save(content | {"config": content["config"] | {"model": model}}, run / "huge.pt")
        with within_bounds(), pytest.raises(CheckpointError, match="do not fit together"):
            load_model(run / "huge.pt")
    torch.save(content | {"image_shape": [10**6, 10**6]}, run / "huge.pt")
    with within_bounds(), pytest.raises(CheckpointError, match="do not fit together"):
        load_model(run / "huge.pt")


@pytest.mark.parametrize("kind", ["idx", "amat"])
def test_packed_images_without_end_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(containers, "LIMIT_BYTES", 1 << 20)
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1 << 24, 1, 1) if kind == "idx" else b""
    path = tmp_path / f"x.{kind}.gz"
    path.write_bytes(gzip.compress(head + bytes(1 << 24), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="more than 1048576 bytes"):
        containers.read_idx(path, 3) if kind == "idx" else containers.read_amat(path, 784)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


# --- names that are no Unicode --------------------------------------------------------------------------------


def test_a_file_whose_name_is_no_unicode_is_measured(tmp_path, cli):
    path = tmp_path / os.fsdecode(b"m\xff.npz")
    np.savez(path, W=np.ones((3, 2)), b_left=np.zeros(3), b_right=np.zeros(2))
    for args in (["logz", path, "--json"], ["logz", path, "-o", tmp_path / "z.json"], ["inspect", path, "--json"]):
        status, printed, _ = cli(*args, "--quiet")
        assert status == 0
        printed.encode()
        if "--json" in args:
            assert "m\\xff.npz" in printed.replace("\\\\", "\\").replace("\\udcff", "\\xff")
    assert cli("inspect", path).status == 0
    assert json.loads((tmp_path / "z.json").read_text(encoding="utf-8"))["kind"] == "logz"


# --- the code -------------------------------------------------------------------------------------------------

# What runs what it is handed, wherever the name stands; `pickle.loads` is looked at by itself.
FORBIDDEN = {
    "system",
    "popen",
    "eval",
    "exec",
    "compile",
    "literal_eval",
    "unsafe_load",
    "extractall",
    "__import__",
}
MODULES = {"marshal", "shelve", "dill", "yaml", "telnetlib", "ftplib", "smtplib", "http", "socket", "urllib"}


def sources():
    """Every source file of the packages, with its tree."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def calls(tree):
    """Every call as (dotted name, node)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(tree):
    """Every module that is imported, its first name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def offences(tree):
    """What in a source file could run what a user hands in, or reach out."""
    for name, node in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in FORBIDDEN or name in ("os.system", "os.popen", "re.template"):
            yield name
        if keywords.get("shell", "False") != "False" or keywords.get("allow_pickle", "False") != "False":
            yield f"{name} with a shell, or with pickles"
        if name == "torch.load" and keywords.get("weights_only") != "True":
            yield "torch.load without weights_only"
        if name in ("np.load", "numpy.load", "joblib.load", "torch.jit.load") or name.endswith("pickle.load"):
            yield name
        if name.endswith(("pickle.loads", "Unpickler")):
            yield f"{name} of {ast.unparse(node.args[0])}"
    yield from (f"import of {name}" for name in imports(tree) if name in MODULES)


def test_nothing_that_is_handed_in_is_run():
    found = {(path, offence) for path, tree in sources() for offence in offences(tree)}
    # A process unpickles what the one that leads it has pickled, in memory that they share.
    assert found == {("dvae_eval/runtime/pool.py", "_Unpickler of io.BytesIO(pickled.data)")}


@pytest.mark.parametrize(
    "code",
    [
        "subprocess.run(x, shell=True)",
        "np.load(x)",
        "numpy.lib.format.read_array(x, allow_pickle=yes)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "pickle.load(x)",
        "eval(x)",
        "os.system(x)",
        "import urllib.request",
        "from http import client",
    ],
)
def test_the_search_finds_what_it_is_for(code):
    assert list(offences(ast.parse(code)))
    assert not list(offences(ast.parse("model.eval(); torch.load(x, weights_only=True); subprocess.run([x])")))


def test_only_the_data_sets_are_fetched():
    reach_out = {"pooch", "requests", "httpx", "aiohttp"}
    assert {path for path, tree in sources() if reach_out & set(imports(tree))} == {"dvae_core/data/fetch.py"}


def test_processes_are_started_in_two_places_from_lists_of_arguments():
    found = {path for path, tree in sources() if "subprocess" in set(imports(tree))}
    assert found == {"cli/dvae_cli/commands/sweep/grid.py", "dvae_eval/benchmark/host.py"}


# --- dependencies ---------------------------------------------------------------------------------------------

PIN = re.compile(r"([A-Za-z0-9_.-]+)==(\S+)")
# What PyTorch's builds for CUDA bring along; which of them, its own release pins.
OF_CUDA = ("nvidia-", "cuda-", "triton")


def needed():
    """The names of all that the project and its extras need, directly or not, as far as it is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    waiting, seen = [Requirement(line) for line in lines], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = [(name, extra) for extra in ("", *requirement.extras) if (name, extra) not in seen]
        seen.update(asked)
        with contextlib.suppress(metadata.PackageNotFoundError):
            for line in map(Requirement, (metadata.requires(name) or []) if asked else []):
                if line.marker is None or any(line.marker.evaluate({"extra": extra}) for _, extra in asked):
                    waiting.append(line)
    return {name for name, _ in seen}


def test_everything_that_is_needed_is_pinned():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {canonicalize_name(PIN.fullmatch(line)[1]) for line in lines}
    assert len(pins) == len(lines)
    unpinned = {name for name in needed() - pins if not name.startswith(OF_CUDA)}
    assert not unpinned, f"constraints.txt lacks {', '.join(sorted(unpinned))}"


def test_an_audit_fails_for_what_is_known_and_for_nothing_else():
    path = ROOT / "tests" / "audit.py"
    spec = importlib.util.spec_from_file_location("audit", path)
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    sound = {"name": "a", "version": "1", "vulns": []}
    bad = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    unknown = {"name": "c", "skip_reason": "not found"}
    for pins, status, words in (
        ([sound, bad], 1, "b 2: CVE-1, fixed in 3"),
        ([sound, unknown], 0, "in the 1 of 2 pins"),
        ([unknown], 0, "not done"),
    ):
        found, lines = audit.verdict(json.dumps({"dependencies": pins, "fixes": []}))
        assert (found, words in lines[0]) == (status, True)
    assert audit.verdict("") == (0, ["audit: not done, the advisories cannot be reached"])
