"""Every reader on files that were tampered with: it returns something sound, or says what is wrong in one line.

The inputs are mutations of small sound files: bits flipped, numbers replaced by awkward ones, pieces cut out,
doubled or taken from other files; inside archives as well, with their checksums mended.  Each follows from a
number, which hypothesis draws and, for an input that fails, reports.  A short run belongs to the default tests
and draws the same inputs each time; `make fuzz` draws many new ones.  No error but ours may come out, no reader
may take much memory, and none may take long.
"""

import contextlib
import faulthandler
import gzip
import io
import json
import os
import random
import re
import resource
import struct
import zipfile
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dvae_core import containers, data
from dvae_core.checkpoint import load_model, save_model
from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.errors import DvaeError
from dvae_core.model import DVAE
from dvae_eval.exact import exact_log_z
from dvae_eval.log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine
from dvae_eval.readers import ReadConfig, read_machine
from dvae_eval.readers.inspection import inspect_file
from dvae_eval.results import GradientResult, LikelihoodResult, Result, load_result

N_EXAMPLES = int(os.environ.get("DVAE_FUZZ_EXAMPLES", "20"))
IS_SHORT = "DVAE_FUZZ_EXAMPLES" not in os.environ
FORMATS = Path(__file__).parent / "data" / "formats"
BATCH = 20
ROOM = 1 << 30  # bytes that reading a file of some kilobytes may take, at the very most
SECONDS = 60  # that an input may take before the process is ended with a traceback of where it hangs

TOKENS = [
    *(b"nan -inf 1e999 -1 0 2147483648 99999999999999999999 null true NaN Infinity [[ {}".split()),
    *(b"", b"\xff"),
]
KINDS = ("flip", "flip", "number", "number", "token", "token", "cut", "truncate", "double", "splice")
WORD = re.compile(rb"[0-9A-Za-z_.+-]+")
NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


# --- inputs ---------------------------------------------------------------------------------------------------


def tampered(rng, seeds):
    """Return a sound file's bytes after a few edits, in its archive's members or in the bytes themselves."""
    content = rng.choice(seeds)
    for _ in range(rng.randint(1, 3)):
        content = edited_inside(rng, content, seeds) if rng.random() < 0.5 else edited(rng, content, seeds)
    return content


def edited_inside(rng, content, seeds):
    """Return an archive with one member edited, and checksums that fit; of other files the file itself edited."""
    with contextlib.suppress(Exception):  # it was tampered with before
        if content.startswith(b"\x1f\x8b"):
            return gzip.compress(edited(rng, gzip.decompress(content), seeds), 1, mtime=0)
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
            name = rng.choice(sorted(members))
            members[name] = edited(rng, members[name], seeds)
            return zipped(members)
    return edited(rng, content, seeds)


def zipped(members):
    """Return an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def edited(rng, content, seeds):
    """Return bytes after one edit; half of the edits are near the beginning, where headers are."""
    n = len(content)
    at = rng.randint(0, min(n, 200) if rng.random() < 0.5 else n)
    kind = rng.choice(
        ("flip", "flip", "number", "number", "token", "token", "cut", "truncate", "double", "splice")
    )
    if kind == "flip" and at < n:
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == "number":
        width = rng.choice((1, 2, 4, 8))
        number = (rng.choice(NUMBERS) & (256**width - 1)).to_bytes(width, rng.choice(("little", "big")))
        return content[:at] + number + content[at + width :]
    if kind == "token" and (word := WORD.search(content, at)):
        return content[: word.start()] + rng.choice(TOKENS) + content[word.end() :]
    length = rng.randint(1, 64 if rng.random() < 0.5 else max(n, 1))
    if kind == "truncate":
        return content[:at]
    if kind == "double":
        return content[: at + length] + content[at:]
    if kind == "splice":
        other = rng.choice(seeds)
        start = rng.randint(0, len(other))
        return content[:at] + other[start : start + length] + content[at:]
    return content[:at] + content[at + length :]


# --- readers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A reader, what its files are called, the sound files to begin with, and what to ask of what it returns."""

    read: object
    name: str
    seeds: tuple
    check: object = lambda found: None


def saved(save, *arrays, **named):
    """The bytes that a function writes into a file."""
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def originals(*names):
    """Files that other libraries wrote."""
    return tuple((FORMATS / name).read_bytes() for name in names)


def check_reading(found):
    """What a reader returns is a machine of finite numbers, with a finite constant."""
    machine = found.machine
    arrays = (machine.W, machine.b_left, machine.b_right) if hasattr(machine, "W") else (machine.J, machine.b)
    assert all(array.dtype == np.float64 and np.isfinite(array).all() for array in arrays)
    assert np.isfinite(found.constant)
    json.dumps(found.description, allow_nan=False)


def machine_target(name, *seeds, config=None):
    """A target of the readers of machines."""
    return Target(lambda path: read_machine(path, config), name, seeds, check_reading)


def idx(array):
    """An IDX file."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@cache
def targets():
    rng = np.random.default_rng(0)
    images = (rng.random((12, 3, 3)) < 0.5).astype(np.uint8)
    W, b, c = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
    amat = b"".join(b" ".join(b"%d" % x for x in row.ravel()) + b"\n" for row in images)
    rbms = gzip.decompress((FORMATS / "rbms.h5.gz").read_bytes())
    machines = {
        "npz": machine_target(
            "x.npz",
            saved(np.savez, W=W, b_left=b, b_right=c),
            saved(np.savez_compressed, J=np.triu(np.ones((3, 3)), 1), b=b),
            *originals("sparse-csr.npz", "sparse-csc.npz", "sparse-coo.npz"),
        ),
        "pytorch": machine_target("x.pt", *originals("rbm.pt", "grbm.pt", "grbm-0.1.pt")),
        "safetensors": machine_target("x.safetensors", *originals("rbm.safetensors")),
        "hdf5": machine_target("x.h5", rbms, *originals("rbm-v73.mat")),
        "matlab": machine_target("x.mat", *originals("rbm-v5.mat"), mat(W=W, b=b, c=c)),
        "skops": machine_target("x.skops", *originals("rbm.skops", "pipeline.skops")),
        "bqm": machine_target("x.bqm", *originals("spin-1.bqm", "spin-2.bqm", "binary-1.bqm", "binary-2.bqm")),
        "coo": machine_target("x.coo", *originals("spin.coo", "binary.coo")),
        "uai": machine_target("x.uai", *originals("markov.uai"), b"MARKOV\n2\n2 2\n1\n2 0 1\n\n4\n1 2 3 4\n"),
    }
    everything = tuple(seed for target in machines.values() for seed in target.seeds)
    own = {
        "npy": Target(containers.read_npy, "x.npy", (saved(np.save, images), saved(np.save, W.T))),
        "images": Target(
            lambda path: data.load(str(path)),
            "x.npz",
            (saved(np.savez, train=images, y_train=images[:, 0, 0]),),
        ),
        "idx": Target(lambda path: containers.read_idx(path, 3), "x-ubyte", (idx(images),)),
        "packed idx": Target(
            lambda path: containers.read_idx(path, 3), "x.gz", (gzip.compress(idx(images), mtime=0),)
        ),
        "amat": Target(lambda path: containers.read_amat(path, 9), "x.amat", (amat,)),
        "model": Target(load_model, "model.pt", (small_model(),), check_model),
        "result": Target(load_result, "x.json", small_results(), lambda found: found.to_json()),
        "any": machine_target("x", *everything, config=ReadConfig(units="auto")),
        "inspect": Target(
            inspect_file, "x", (*everything, small_model(), *small_results(), idx(images), amat), json.dumps
        ),
    }
    return machines | own


def mat(**arrays):
    """A MATLAB file that is not packed."""
    from scipy.io import savemat

    return saved(savemat, arrays)


@cache
def small_model():
    """A model file, as small as can be."""
    config = RunConfig("digits", ModelConfig(n_left=2, n_right=2, n_groups=1, encoder_hidden=()), TrainConfig())
    config = replace(config, model=replace(config.model, n_layers=0, decoder_hidden=()))
    torch.manual_seed(0)
    state = DVAE(config.model, 4).state_dict()
    path = Path(os.devnull)
    with pytest.MonkeyPatch.context() as patch:
        written = []
        patch.setattr("dvae_core.checkpoint.write_bytes", lambda path, content: written.append(content))
        save_model(path, state, config, (2, 2), {"command": []})
    return written[0]


def check_model(found):
    assert all(torch.isfinite(value).all() for value in found.model.state_dict().values())


@cache
def small_results():
    """A result file of every kind."""
    log_z = estimate_log_z(BipartiteMachine.from_arrays([[1.0]], [0.0], [0.5]))
    shared = {f.name: getattr(log_z, f.name) for f in fields(Result)}
    numbers = {"log_likelihood": -1.0, "std_err_images": 0.1, "std_err_log_z": 0.0, "elbo": -2.0, "log_z": 1.0}
    parts = {"elbo_parts": {"kl": 1.0}, "per_image": {"index": [0.0], "log_likelihood": [-1.0], "ess": [2.0]}}
    sizes = {"n_samples": 2, "n_images": 1}
    estimators = {"dvae": {"terms": {"elbo": {"variance": 1.0, "snr": 2.0}}}}
    results = (
        log_z,
        LikelihoodResult(**shared, **numbers, **parts, **sizes, log_z_source="here"),
        GradientResult(**shared, **sizes, estimators=estimators, reference={}, n_units=2),
    )
    return tuple(result.to_json().encode() for result in results)


# --- the test -------------------------------------------------------------------------------------------------


@pytest.fixture
def bounded():
    """Let nothing take more than ROOM of address space, or more than SECONDS for one input."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("name", targets())
def test_tampered_files_are_read_soundly_or_refused_in_one_line(name, tmp_path, bounded):
    target = targets()[name]
    for seed in target.seeds:  # sound to begin with
        (tmp_path / target.name).write_bytes(seed)
        target.check(target.read(tmp_path / target.name))
    counts = {"read": 0, "refused": 0}

    @settings(
        max_examples=-(-N_EXAMPLES // BATCH),
        deadline=None,
        database=None,
        derandomize=IS_SHORT,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**64 - 1))
    def tamper(number):
        # Drawing a number takes hypothesis longer than most readers take for a file.
        for k in range(BATCH):
            if not IS_SHORT:
                faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                give(tampered(random.Random(BATCH * number + k), target.seeds))
            except Exception as error:
                error.add_note(f"input {k} of {number}")
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()

    def give(content):
        path = tmp_path / target.name
        path.write_bytes(content)
        try:
            found = target.read(path)
        except DvaeError as error:
            counts["refused"] += 1
            message = str(error)
            assert message.splitlines() == [message]
            assert len(message) < 1500
        else:
            counts["read"] += 1
            target.check(found)
        assert os.listdir(tmp_path) == [target.name]

    tamper()
    print(f"{name}: {sum(counts.values())} inputs, {counts['read']} read, {counts['refused']} refused")


def test_a_reader_that_trusts_its_input_is_found_out(tmp_path):
    """The harness at work: a reader that takes a length at its word."""

    def trusting(path):
        content = path.read_bytes()
        return np.frombuffer(content[4:], "<f8", int.from_bytes(content[:4], "little"))

    seed = struct.pack("<I2d", 2, 1.0, 2.0)

    @settings(max_examples=200, database=None, derandomize=True, phases=(Phase.generate,))
    @given(st.integers(0, 2**64 - 1))
    def tamper(number):
        (tmp_path / "x").write_bytes(tampered(random.Random(number), (seed,)))
        trusting(tmp_path / "x")

    with pytest.raises(Exception, match=r"buffer|bytes|size"):
        tamper()


def test_seeds_are_models_whose_log_z_is_known():
    """The corpus is not made of files that are refused anyway."""
    assert len(targets()["any"].seeds) > 15
    reading = read_machine(FORMATS / "spin-1.bqm")
    assert np.isfinite(exact_log_z(reading.machine) + reading.constant)
