"""Files of images: the public ones in every container, the user's own, and damage of all kinds."""

import dataclasses
import functools
import gzip
import hashlib
import io
import os
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from dvae_core import data
from dvae_core.data import caltech, mnist, omniglot, public
from dvae_core.data.fetch import Remote
from dvae_core.errors import DataError
from dvae_core.io import containers
from tests.places import CASES

REAL = os.environ.get("DVAE_DATA_DIR")
real_data = pytest.mark.skipif(
    REAL is None, reason="DVAE_DATA_DIR is not set: no folder with mnist.npz and the other public data sets"
)


def arrays_of(name):
    with np.load(Path(REAL) / name, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def refused(load, *parts):
    """Return the message of the one-line DataError that `load` must raise, all `parts` in it."""
    with pytest.raises(DataError) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
    return message


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty data folder in which nothing can be downloaded."""

    def no_network(remote, folder, *, quiet):
        raise AssertionError(f"{remote.name} would be downloaded")

    monkeypatch.setattr(public, "fetch", no_network)
    monkeypatch.setenv("DVAE_DATA_DIR", str(tmp_path))
    return tmp_path


@functools.cache
def reference(name):
    """Return a data set from the real data folder, whatever the variable says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVAE_DATA_DIR", REAL)
        return data.load(name)


def same(d):
    """Whether a data set is the one in the real data folder, labels too."""
    other = reference(d.name)
    for split in data.SPLITS:
        np.testing.assert_array_equal(d.split(split).labels, other.split(split).labels)
    return d.digest() == other.digest()


# --- the public files in their original form ------------------------------------------------------------------


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IDX = {  # npz name: file, published SHA-256 of the unpacked file
    "train_images": (
        "train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train_labels": (
        "train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "test_images": (
        "t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "test_labels": (
        "t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}  # fmt: skip


@real_data
def test_mnist_from_idx_files_plain_and_gzipped(folder):
    """The files made from the arrays are the published ones, so the digests of pixels are theirs."""
    for key, array in arrays_of("mnist.npz").items():
        name, sha256 = IDX[key]
        content = idx(array)
        assert hashlib.sha256(content).hexdigest() == sha256
        if array.ndim == 1:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)
    assert same(data.load("mnist"))


@real_data
def test_mnist_under_the_names_of_keras(folder):
    ours = arrays_of("mnist.npz")
    np.savez(folder / "mnist.npz", **{
        "x_train": ours["train_images"], "y_train": ours["train_labels"],
        "x_test": ours["test_images"], "y_test": ours["test_labels"],
    })  # fmt: skip
    assert same(data.load("mnist"))


def amat(bits):
    """Return the text of zeros and ones, blanks between, as bytes."""
    cells = np.full((*bits.shape, 2), ord(" "), np.uint8)
    cells[:, :, 0] = bits + ord("0")
    cells[:, -1, 1] = ord("\n")
    return cells.tobytes()


@real_data
def test_static_mnist_from_text(folder):
    """The text made from the NPZ file is byte for byte the published one."""
    packed = arrays_of("binarized_mnist.npz")
    for remote, split in zip(mnist.STATIC_REMOTES, data.SPLITS, strict=True):
        path = folder / remote.name
        path.write_bytes(amat(np.unpackbits(packed[split], axis=1)))
        assert path.stat().st_size == remote.n_bytes
        remote.read(path)
    from_text = data.load("mnist-static")
    for remote in mnist.STATIC_REMOTES:  # 110 MB
        (folder / remote.name).unlink()
    assert same(from_text)


@real_data
def test_caltech_from_the_matlab_file(folder):
    shutil.copy(Path(REAL) / "raw" / caltech.CALTECH_MAT.name, folder)
    content = (folder / caltech.CALTECH_MAT.name).read_bytes()
    assert len(content) == caltech.CALTECH_MAT.n_bytes
    assert hashlib.md5(content).hexdigest() == "4483e9c14b188fd09937f9ea6f9ea777"  # published
    assert caltech.CALTECH_MAT.read(folder / caltech.CALTECH_MAT.name) == content
    assert same(data.load("caltech101"))


def chardata(folder, monkeypatch, n_train=1400, n_test=30):
    """Write a file of chardata.mat's layout and return its images; its digest becomes the expected one."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(n_train + n_test, 28, 28), dtype=np.uint8)
    labels = rng.integers(50, size=n_train + n_test)
    columns = images.transpose(0, 2, 1).reshape(-1, 784).T / 255
    one_hot = np.eye(50)[labels].T
    path = folder / "chardata.mat"
    savemat(path, {
        "data": columns[:, :n_train], "target": one_hot[:, :n_train],
        "testdata": columns[:, n_train:], "testtarget": one_hot[:, n_train:],
    })  # fmt: skip
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(omniglot, "CHARDATA", Remote("chardata.mat", (), f"md5:{md5}"))
    return images, labels


def test_omniglot_from_a_matlab_file_of_columns(folder, monkeypatch):
    images, labels = chardata(folder, monkeypatch)
    d = data.load("omniglot")
    order = data.stable.permutation("omniglot partition", 1400)
    np.testing.assert_array_equal(d.train.images, images[order[:-1345]])
    np.testing.assert_array_equal(d.valid.images, images[order[-1345:]])
    np.testing.assert_array_equal(d.test.images, images[1400:])
    np.testing.assert_array_equal(d.test.labels, labels[1400:])
    assert "the paper's own source" in d.provenance


def test_chardata_is_checked_by_its_published_md5(folder, monkeypatch):
    published = omniglot.CHARDATA
    chardata(folder, monkeypatch)
    monkeypatch.setattr(omniglot, "CHARDATA", published)
    refused(lambda: data.load("omniglot"), "chardata.mat", "21ecaf34373511aa7691cf2e0802aa3d", "delete the file")
    monkeypatch.setattr(omniglot, "CHARDATA", dataclasses.replace(published, n_bytes=1000))
    refused(lambda: data.load("omniglot"), "chardata.mat", "more than 1000 bytes", "delete the file")


def test_a_file_that_is_not_the_published_one_never_reaches_the_matlab_reader(folder, monkeypatch):
    """`loadmat` trusts lengths that a file claims, so that it may only see files whose digest is known."""
    monkeypatch.setattr("scipy.io.loadmat", lambda *_, **__: pytest.fail("was read"))
    for load, remote in (("omniglot", omniglot.CHARDATA), ("caltech101", caltech.CALTECH_MAT)):
        (folder / remote.name).write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + bytes(60))
        refused(lambda load=load: data.load(load), remote.name, "damaged or altered")


# --- damage to the public files -------------------------------------------------------------------------------


@pytest.fixture
def caltech_npz(folder):
    shutil.copy(Path(REAL) / "caltech101_silhouettes.npz", folder)
    path = folder / "caltech101_silhouettes.npz"
    path.chmod(0o644)
    return path


@real_data
def test_a_truncated_npz(caltech_npz):
    caltech_npz.write_bytes(caltech_npz.read_bytes()[:-1000])
    refused(lambda: data.load("caltech101"), caltech_npz, "damaged", "delete the file", "DVAE_DATA_DIR")


@real_data
def test_one_flipped_bit_in_an_npz(caltech_npz):
    content = bytearray(caltech_npz.read_bytes())
    content[100_000] ^= 4
    caltech_npz.write_bytes(content)
    refused(lambda: data.load("caltech101"), caltech_npz, "damaged", "delete the file")


@real_data
@pytest.mark.parametrize("key", ["train", "valid", "test", "train_labels", "test_labels"])
def test_one_altered_pixel_or_label(caltech_npz, key):
    """A sound archive with other pixels: both digests are told."""
    arrays = arrays_of(caltech_npz.name)
    arrays[key].flat[-1] ^= 1
    found = hashlib.sha256(arrays[key].tobytes()).hexdigest()
    np.savez(caltech_npz, **arrays)
    refused(
        lambda: data.load("caltech101"),
        caltech_npz,
        f'array "{key}"',
        found,
        caltech.CALTECH_SHA256[key],
        "delete",
    )


@real_data
def test_a_wrong_dtype(caltech_npz):
    arrays = arrays_of(caltech_npz.name)
    np.savez(caltech_npz, **{**arrays, "test": arrays["test"].astype(np.float32)})
    refused(lambda: data.load("caltech101"), caltech_npz, 'array "test"', "float32, expected uint8")


@real_data
def test_a_missing_array(caltech_npz):
    arrays = arrays_of(caltech_npz.name)
    np.savez(caltech_npz, **{key: array for key, array in arrays.items() if key != "test"})
    refused(lambda: data.load("caltech101"), caltech_npz, 'holds no array "test"')


@real_data
def test_one_flipped_bit_in_a_matlab_file(folder):
    content = bytearray((Path(REAL) / "raw" / caltech.CALTECH_MAT.name).read_bytes())
    content[-1] ^= 1
    (folder / caltech.CALTECH_MAT.name).write_bytes(content)
    refused(lambda: data.load("caltech101"), caltech.CALTECH_MAT.name, caltech.CALTECH_MAT.digest[7:], "delete")


@real_data
def test_one_flipped_bit_among_packed_pixels(folder):
    arrays = arrays_of("binarized_mnist.npz")
    arrays["valid"][5, 5] ^= 128
    np.savez(folder / "binarized_mnist.npz", **arrays)
    refused(lambda: data.load("mnist-static"), 'array "valid"', mnist.STATIC_SHA256["valid"])


def test_static_mnist_of_another_type_or_shape(folder):
    for array in (np.zeros(10), np.zeros(10, np.uint8), np.zeros((), np.uint8)):
        np.savez(folder / "binarized_mnist.npz", train=array, valid=array, test=array)
        refused(lambda: data.load("mnist-static"), "binarized_mnist.npz", "expected", "delete the file")


def test_only_what_is_missing_is_downloaded(folder, monkeypatch):
    (folder / "train-images-idx3-ubyte").write_bytes(b"")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    wanted = []
    monkeypatch.setattr(public, "fetch", lambda remote, *_, **__: wanted.append(remote.name) or folder / "none")
    refused(lambda: data.load("mnist"), "train-images-idx3-ubyte", "not an IDX file")
    assert wanted == ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"]


def test_the_data_folder_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("DVAE_DATA_DIR", str(tmp_path / "none"))
    refused(lambda: data.load("mnist"), tmp_path / "none", "no such folder", "DVAE_DATA_DIR")


# --- readers --------------------------------------------------------------------------------------------------


def test_idx_of_any_shape(tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "b.gz").write_bytes(gzip.compress(idx(array)))
    for name in ("a", "b.gz"):
        np.testing.assert_array_equal(containers.read_idx(tmp_path / name, 3), array)


BAD_IDX = {
    "empty": b"",
    "another number of axes": idx(np.zeros(3, np.uint8)),
    "floats": b"\0\0\x0d\x03" + bytes(20),
    "no sizes": b"\0\0\x08\x03\0\0",
    "truncated": idx(np.zeros((2, 3, 4), np.uint8))[:-1],
    "trailing": idx(np.zeros((2, 3, 4), np.uint8)) + b"\0",
    "immense": b"\0\0\x08\x03" + b"\xff" * 12,
}


@pytest.mark.parametrize("content", BAD_IDX.values(), ids=BAD_IDX)
def test_damaged_idx(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    refused(lambda: containers.read_idx(path, 3), path)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_damaged_gzip(tmp_path, cut):
    path = tmp_path / "x.gz"
    path.write_bytes(
        gzip.compress(idx(np.random.default_rng(0).integers(256, size=(9, 9, 9), dtype=np.uint8)))[:-cut]
    )
    refused(lambda: containers.read_idx(path, 3), path, "damaged")


def test_amat_agrees_with_numpys_reader(tmp_path):
    bits = np.random.default_rng(0).integers(2, size=(20, 9), dtype=np.uint8)
    np.savetxt(tmp_path / "x.amat", bits, fmt="%d")
    assert (tmp_path / "x.amat").read_bytes() == amat(bits)
    np.testing.assert_array_equal(containers.read_amat(tmp_path / "x.amat", 9), np.loadtxt(tmp_path / "x.amat"))


@pytest.mark.parametrize(
    "content",
    [b"0 1 2\n", b"0 1 1", b"0 1 1\n0 1 \n", b"0\t1 1\n", b"0 1 1 ", b"0 1\n1 ", b"nan inf\n", b"\xff" * 6],
)
def test_damaged_amat(tmp_path, content):
    path = tmp_path / "x.amat"
    path.write_bytes(content)
    refused(lambda: containers.read_amat(path, 3), path, "not lines of 3 values")


# --- the user's own files -------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(40, 5, 6), dtype=np.uint8)
BITS = RNG.integers(2, size=(40, 5, 6), dtype=np.uint8)


def save(path, *arrays, **named):
    np.save(path, *arrays) if arrays else np.savez(path, **named)
    return data.load(str(path))


@pytest.mark.parametrize("array", [BITS, BITS.astype(bool), BITS.astype(np.int64), BITS.astype(np.float32)])
def test_binary_values_are_static(tmp_path, array):
    d = save(tmp_path / "x.npz", train=array, valid=array[:3], test=array[:4])
    assert d.levels == 1
    np.testing.assert_array_equal(d.train.images, BITS)
    assert (len(d.valid), len(d.test)) == (3, 4)
    assert d.provenance.startswith(
        "The user's own file. The three splits are the file's. 3 of 3 validation images"
    )
    assert len(d.notes) == 2


@pytest.mark.parametrize("array", [GREY, GREY.astype(np.int32), GREY / 255, (GREY / 255).astype(np.float32)])
def test_grey_values_are_dynamic(tmp_path, array):
    d = save(tmp_path / "x.npz", train=array, valid=array, test=array)
    assert d.levels == 255
    np.testing.assert_array_equal(d.test.images, GREY)


def test_a_single_array_is_split_80_10_10(tmp_path):
    for d in (
        save(tmp_path / "x.npy", GREY),
        save(tmp_path / "x.npz", pictures=GREY),
        save(tmp_path / "y.npz", train=GREY),
    ):
        assert [len(d.split(s)) for s in data.SPLITS] == [32, 4, 4]
        together = np.concatenate([d.split(s).images for s in data.SPLITS])
        assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in GREY)
        assert "4 images for valid and 4 images for test" in d.provenance
        assert d.digest() == data.load(str(tmp_path / "x.npy")).digest()


def test_a_missing_validation_set_is_split_off(tmp_path):
    labels = np.arange(40)
    d = save(tmp_path / "x.npz", x_train=GREY, y_train=labels, x_test=GREY[:7], y_test=labels[:7])
    assert [len(d.split(s)) for s in data.SPLITS] == [36, 4, 7]
    np.testing.assert_array_equal(d.valid.images, GREY[d.valid.labels])
    np.testing.assert_array_equal(d.train.images, GREY[d.train.labels])
    assert d.test.labels.dtype == np.int64
    assert "4 images for valid were split off" in d.provenance


def test_other_names_of_splits(tmp_path):
    d = save(
        tmp_path / "x.npz", train_images=GREY, valid_images=GREY, test_images=GREY, test_labels=np.zeros(40, "u1")
    )
    assert d.train.labels is None
    assert d.test.labels.tolist() == [0] * 40


@pytest.mark.parametrize(("d", "shape"), [(9, (3, 3)), (10, (1, 10)), (1, (1, 1))])
def test_vectors_become_squares_where_they_can(tmp_path, d, shape):
    assert save(tmp_path / "x.npy", np.tile(np.eye(2, d, dtype=bool), (10, 1))).image_shape == shape


def test_fortran_order_and_big_endian(tmp_path):
    d = save(tmp_path / "x.npz", train=np.asfortranarray(GREY.astype(">f8") / 255), test=GREY.astype(">f8") / 255)
    np.testing.assert_array_equal(d.test.images, GREY)
    assert d.train.images.flags.c_contiguous


BAD_ARRAYS = {
    "NaN": (np.where(BITS, np.nan, 0), "finite numbers from 0 to 1"),
    "infinite": (np.where(BITS, np.inf, 0), "finite numbers from 0 to 1"),
    "floats 0..255": (GREY.astype(float), "finite numbers from 0 to 1"),
    "negative": (-BITS.astype(int), "integers 0..255"),
    "too large": (GREY.astype(int) + 1, "integers 0..255"),
    "another scale": (GREY // 16, "divide by the value that means 1"),
    "complex": (BITS.astype(complex), "an array of numbers"),
    "text": (BITS.astype(str), "an array of numbers"),
    "one axis": (BITS[:, 0, 0], "(n, height, width)"),
    "four axes": (BITS[..., None], "(n, height, width)"),
    "no images": (BITS[:0], "(n, height, width)"),
    "no pixels": (BITS[:, :0], "(n, height, width)"),
    "a scalar": (np.uint8(1), "(n, height, width)"),
    "too few": (BITS[:9], "at least 10"),
    "structured": (np.zeros(20, [("a", "u1")]), "an array of numbers"),
    "structured, in Greek": (np.zeros(20, [("α", "u1")]), "an array of numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("array", "advice"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_unusable_arrays(tmp_path, array, advice):
    refused(lambda: save(tmp_path / "x.npy", array), tmp_path / "x.npy", advice)


BAD_NPZ = {
    "two names": (dict(train=BITS, x_train=BITS), "keep only one"),
    "nothing known": (dict(a=BITS, b=BITS), "holds no array with a known name"),
    "empty": ({}, "holds no array with a known name"),
    "no train": (dict(test=BITS), "give train"),
    "no test": (dict(train=BITS, valid=BITS), 'no "test"'),
    "labels without images": (dict(train=BITS, test_labels=np.zeros(40, int)), "labels only with their images"),
    "other sizes": (dict(train=BITS, test=BITS[:, 1:]), "different sizes"),
    "other kinds": (dict(train=GREY, test=GREY / 255), "different types"),
    "binary and grey": (dict(train=GREY, test=BITS), "divide by the value that means 1"),
    "float labels": (dict(train=BITS, train_labels=np.zeros(40)), "give 40 integers"),
    "few labels": (dict(train=BITS, train_labels=np.zeros(39, int)), "give 40 integers"),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "advice"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_unusable_archives(tmp_path, arrays, advice):
    refused(lambda: save(tmp_path / "x.npz", **arrays), tmp_path / "x.npz", advice)


def test_a_pickle_is_never_loaded(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    array = np.array([Harmful()] * 20, dtype=object)
    for name in ("x.npy", "x.npz"):
        refused(
            lambda name=name: save(tmp_path / name, *([array] if name == "x.npy" else []), train=array), "object"
        )
    shutil.copy(tmp_path / "x.npy", tmp_path / "pickle.npz")
    refused(lambda: data.load(str(tmp_path / "pickle.npz")), "pickle.npz")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
@pytest.mark.parametrize(
    "content", [b"", b"text\nwith lines\n", b"PK\3\4", b"\x93NUMPY\1\0", b"\x93NUMPY\2\0\xff\xff\xff\xff"]
)
def test_what_is_no_such_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(lambda: data.load(str(tmp_path / name)), tmp_path / name, "damaged, or no NP", "numpy.savez")


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_no_file_or_a_folder(tmp_path, name):
    refused(lambda: data.load(str(tmp_path / name)), tmp_path / name, "no such file", "check the path")
    (tmp_path / name).mkdir()
    refused(lambda: data.load(str(tmp_path / name)), tmp_path / name)


def npy_header(shape, descr="|u1"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 28, 28), (2, 3), (-1, -6), (10**30,)])
def test_headers_that_lie_allocate_nothing(tmp_path, shape):
    content = npy_header(shape) + bytes(5)
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("train.npy", content)
    for name in ("x.npy", "x.npz"):
        refused(lambda name=name: data.load(str(tmp_path / name)), name, "holds 5 bytes where shape")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "LIMIT_BYTES", 10_000)
    refused(lambda: save(tmp_path / "x.npz", train=np.zeros((20, 28, 28))), "x.npz", "more than 10000 bytes")
    np.savez_compressed(tmp_path / "y.npz", train=np.zeros((20, 28, 28)))
    assert (tmp_path / "y.npz").stat().st_size < 1000
    refused(lambda: data.load(str(tmp_path / "y.npz")), "y.npz", "more than 10000 bytes")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "z.npz"])
def test_random_damage_gives_data_or_one_line(tmp_path, name):
    """Four hundred damaged copies: bytes altered, removed or added. Nothing but DataError may come out."""
    path = tmp_path / name
    if name == "z.npz":
        np.savez_compressed(path, train=BITS, test=BITS)
    else:
        save(path, *([BITS] if name == "x.npy" else []), train=BITS, test=BITS)
    sound, rng, n_refused, n_loaded = path.read_bytes(), np.random.default_rng(3), 0, 0
    for _ in range(400):
        content = bytearray(sound)
        at = int(rng.integers(min(len(sound), 200))) if rng.random() < 0.5 else int(rng.integers(len(sound)))
        kind = rng.integers(3)
        if kind == 0:
            content[at] = rng.integers(256)
        else:
            content[at : at + int(rng.integers(1, 50))] = rng.bytes(int(rng.integers(50)) * int(kind == 2))
        path.write_bytes(content)
        try:
            data.load(str(path))
        except DataError as error:
            n_refused += "\n" not in str(error)
        else:
            n_loaded += 1
    assert n_refused + n_loaded == 400
    assert n_refused > 100


# --- other names, and what is in no split ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["07_val.npz", "07_validation.npz", "08_medmnist.npz"])
def test_cases_of_validation_sets_are_used(name):
    d = data.load(str(CASES / name))
    assert [len(d.split(s)) for s in data.SPLITS] == [40, 10, 10]
    with np.load(CASES / name) as found:
        images = next(found[key] for key in found if key in ("val", "validation", "val_images"))
        np.testing.assert_array_equal(d.valid.images, images)
        if "train_labels" in found:
            np.testing.assert_array_equal(d.train.labels, found["train_labels"].ravel())
            np.testing.assert_array_equal(d.valid.labels, found["val_labels"].ravel())


def test_a_name_with_a_capital_ending():
    assert data.load(CASES / "15_UP.NPY").image_shape == (6, 6)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("train", "dev", "test"),
        ("x_train", "x_val", "x_test"),
        ("X_train", "X_valid", "X_test"),
        ("xtrain", "xval", "xtest"),
        ("trainX", "valX", "testX"),
        ("train_images", "validation_images", "test_images"),
        ("images_train", "images_val", "images_test"),
        ("train_data", "val_data", "test_data"),
        ("Train", "Validation", "Test"),
    ],
)
def test_names_of_splits(tmp_path, names):
    parts = BITS[:30], BITS[30:35], BITS[35:]
    d = save(tmp_path / "x.npz", **dict(zip(names, parts, strict=True)))
    for split, images in zip(data.SPLITS, parts, strict=True):
        np.testing.assert_array_equal(d.split(split).images, images)
    assert d.notes == ()


@pytest.mark.parametrize("name", ["holdout", "test2", "unlabeled", "train_mask", "extra"])
def test_images_under_another_name_are_refused(tmp_path, name):
    refused(lambda: save(tmp_path / "x.npz", train=BITS, test=GREY[:3] % 2, **{name: BITS}), name, "of a split")
    refused(lambda: save(tmp_path / "x.npz", train=BITS, test=GREY[:3] % 2, **{name: BITS.reshape(40, 30)}), name)


def test_other_arrays_are_named(tmp_path):
    d = save(tmp_path / "x.npz", train=BITS, mean=np.zeros(30), classes=np.array(["a", "b"]))
    assert d.notes == ("ignored: classes, mean",)
    assert "Ignored: classes, mean." in d.provenance


def test_images_in_two_splits_are_counted(tmp_path):
    others = RNG.integers(2, size=(6, 5, 6), dtype=np.uint8)
    test = np.concatenate((BITS[:3], others))
    d = save(tmp_path / "x.npz", train=BITS, valid=others, test=test)
    assert d.notes == ("3 of 9 test images are training images, pixel for pixel",)


def test_labels_in_other_forms(tmp_path):
    labels = RNG.integers(5, size=40)
    for form in (labels[:, None], np.eye(5, dtype=int)[labels], np.eye(5)[labels]):
        d = save(tmp_path / "x.npz", train=BITS, train_labels=form)
        np.testing.assert_array_equal(
            d.train.labels, save(tmp_path / "x.npz", train=BITS, y_train=labels).train.labels
        )
    for form, word in ((RNG.integers(2, size=(40, 14)), "several"), (labels.astype(str), "texts")):
        d = save(tmp_path / "x.npz", train=BITS, train_labels=form)
        assert d.train.labels is None
        assert word in d.notes[0]
        assert "ignored" in d.notes[0]
    refused(lambda: save(tmp_path / "x.npz", train=BITS, train_labels=np.zeros((39, 1), int)), "give 40 integers")


def test_masked_pixels_are_refused():
    masked = np.ma.masked_array(BITS)
    assert data.from_arrays("mine", {"train": masked}).levels == 1
    masked[3, 2, 1] = np.ma.masked
    refused(lambda: data.from_arrays("mine", {"train": masked}), "1 values of train are masked")
