"""Data sets: what is in them, how they are made binary, and what is known exactly about them."""

import functools
import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from scipy import stats

from dvae_core import data
from dvae_core.data import stable
from dvae_core.data.bars import MAX_SIDE, sample
from dvae_core.errors import DataError
from tests.oracles import enumerate_states

real_data = pytest.mark.skipif(
    os.environ.get("DVAE_DATA_DIR") is None,
    reason="DVAE_DATA_DIR is not set: no folder with mnist.npz and the other public data sets",
)
load = functools.cache(data.load)

# name, sizes, image shape, levels, number of classes
EXPECTED = [
    ("digits", (1297, 200, 300), (8, 8), 16, 10),
    ("bars-and-stripes", (1024, 500, 1000), (4, 4), 1, 2),
    pytest.param("mnist", (50000, 10000, 10000), (28, 28), 255, 10, marks=real_data),
    pytest.param("mnist-static", (50000, 10000, 10000), (28, 28), 1, None, marks=real_data),
    pytest.param("omniglot", (23000, 1345, 8115), (28, 28), 255, 50, marks=real_data),
    pytest.param("caltech101", (4100, 2264, 2307), (28, 28), 1, 101, marks=real_data),
]
# means of the images over levels, to six digits: train, valid, test
MEANS = [
    ("digits", (0.305154, 0.307339, 0.304333)),
    pytest.param("mnist", (0.130961, 0.129156, 0.132515), marks=real_data),
    pytest.param("mnist-static", (0.130562, 0.131127, 0.132512), marks=real_data),
    pytest.param("omniglot", (0.083004, 0.082916, 0.081983), marks=real_data),
    pytest.param("caltech101", (0.551055, 0.535959, 0.539015), marks=real_data),
]
# SHA-256 of the test images, binarised once and for all; they must never change
FIXED = [
    ("digits", "9385f9782a064083ed4d1e3c9ee52076b77bbd7ec5a946513d1c3fa43ae26ef0"),
    pytest.param("mnist", "cd4a388cc7222a79425b8dcd1dfabfc72681cb6b2b600b4a9bf2ac55267ef481", marks=real_data),
    pytest.param("omniglot", "478ed1353d2fb90f75c5930a49e7b1d62d05c998c782fb32795f71a4819442f5", marks=real_data),
]


@pytest.mark.parametrize(("name", "sizes", "shape", "levels", "n_classes"), EXPECTED)
def test_sizes_types_and_ranges(name, sizes, shape, levels, n_classes):
    d = load(name)
    assert d.name == name
    assert (d.image_shape, d.n_pixels, d.levels) == (shape, shape[0] * shape[1], levels)
    assert d.binarisation == ("static" if levels == 1 else "dynamic")
    for split, n in zip(data.SPLITS, sizes, strict=True):
        s = d.split(split)
        assert s.images.shape == (n, *shape)
        assert s.images.dtype == np.uint8
        assert (s.images.min(), s.images.max()) == (0, levels)
        if n_classes is None:
            # The original files have none, but the order of the test images tells theirs.
            assert (s.labels is None) == (split != "test")
        else:
            assert s.labels.shape == (n,)
            assert s.labels.dtype == np.int64
            assert len(np.unique(s.labels)) == n_classes


@pytest.mark.parametrize(("name", "means"), MEANS)
def test_pixel_means(name, means):
    d = load(name)
    assert [d.split(s).images.mean() / d.levels for s in data.SPLITS] == pytest.approx(means, abs=1e-6)
    assert d.pixel_means().shape == (d.n_pixels,)
    assert d.pixel_means().mean() == pytest.approx(means[0], abs=1e-6)


@pytest.mark.parametrize(("name", "sha256"), FIXED)
def test_fixed_binarisation_never_changes(name, sha256):
    fixed = load(name).fixed("test")
    assert fixed.dtype == np.uint8
    assert hashlib.sha256(fixed.tobytes()).hexdigest() == sha256


def test_raw_words_never_change():
    """The first words of PCG64 seeded with b"a"; NumPy promises to keep them."""
    assert stable.words("a", 2).tolist() == [12438148951059196178, 7974734884358366952]


# --- what is known about the contents ------------------------------------------------------------------------


def test_digits_are_those_of_the_uci_repository():
    """Same multiset of images and labels as scikit-learn's copy, and the order that digits.txt describes."""
    theirs = sklearn.datasets.load_digits()
    d = load("digits")
    order = stable.permutation("digits partition", 1797)
    ours = np.concatenate([d.split(s).images for s in data.SPLITS])
    labels = np.concatenate([d.split(s).labels for s in data.SPLITS])
    np.testing.assert_array_equal(ours, theirs.images[order])
    np.testing.assert_array_equal(labels, theirs.target[order])


def rows(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("name", ["digits", pytest.param("mnist", marks=real_data)])
def test_no_image_is_in_two_splits(name):
    splits = [rows(load(name).split(s).images) for s in data.SPLITS]
    for one, other in itertools.combinations(splits, 2):
        assert not one & other


@real_data
def test_caltech_shares_four_images_between_train_and_test():
    d = load("caltech101")
    assert len(rows(d.train.images) & rows(d.test.images)) == 4


@real_data
def test_mnist_splits_keep_the_order_of_the_files():
    d = load("mnist")
    assert d.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert d.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(np.concatenate([d.train.labels, d.valid.labels])).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


@real_data
def test_static_mnist_test_set_is_a_binarisation_of_the_grey_one_sorted_by_digit():
    """A pixel that is black or white in every grey image of its class order stays so when binarised."""
    grey, binary = load("mnist").test, load("mnist-static").test
    order = np.argsort(grey.labels, kind="stable")
    np.testing.assert_array_equal(binary.labels, grey.labels[order])
    p = grey.images[order] / 255
    assert not binary.images[p == 0].any()
    assert binary.images[p == 1].all()
    z = (binary.images - p).sum() / np.sqrt((p * (1 - p)).sum())
    assert abs(z) < 4  # one draw of 1998, made once; a wrong order gave thousands of violations above


@real_data
def test_omniglot_partition_is_a_fixed_shuffle():
    with np.load(os.path.join(os.environ["DVAE_DATA_DIR"], "omniglot.npz"), allow_pickle=False) as file:
        train, labels = file["train"], file["train_labels"]
    order = stable.permutation("omniglot partition", len(train))
    assert sorted(order) == list(range(24345))
    d = load("omniglot")
    np.testing.assert_array_equal(d.train.images, train[order[:23000]])
    np.testing.assert_array_equal(d.valid.images, train[order[23000:]])
    np.testing.assert_array_equal(d.valid.labels, labels[order[23000:]])


@real_data
def test_provenance_says_where_a_data_set_differs_from_the_papers():
    assert "8115" in load("omniglot").provenance
    assert "background 1" in load("caltech101").provenance
    assert "last 10000" in load("mnist").provenance


def test_digest_depends_on_pixels_levels_and_splits():
    x = np.random.default_rng(0).integers(2, size=(30, 2, 3), dtype=np.uint8)
    splits = [data.Split(x[:10]), data.Split(x[10:20]), data.Split(x[20:])]
    digests = {data.DataSet("a", *s, levels, "").digest() for s in (splits, splits[::-1]) for levels in (1, 2)}
    assert len(digests) == 4
    assert data.DataSet("b", *splits, 1, "other words").digest() in digests


# --- making pixels binary ------------------------------------------------------------------------------------


def test_dynamic_binarisation_has_the_right_means():
    """Sum of z^2 over the grey pixels of 40 images, 500 draws: chi-square, false-alarm rate 1e-4, seed fixed."""
    d = load("digits")
    some = data.DataSet("some", *[data.Split(d.test.images[:40])] * 3, 16, "")
    rng = np.random.default_rng(1)
    mean = np.mean([some.binary("test", rng) for _ in range(500)], axis=0)
    assert_bernoulli(mean, d.test.images[:40].reshape(40, 64) / 16, 500)


def test_fixed_binarisation_has_the_right_means():
    """The same for draws from raw words: one image, 4000 times under one key."""
    image = load("digits").test.images[0].reshape(-1)
    draws = stable.bernoulli("test of means", np.tile(image, (4000, 1)), 16)
    assert_bernoulli(draws.mean(axis=0), image / 16, 4000)


def test_the_check_of_means_rejects_a_wrong_scale():
    image = load("digits").test.images[0].reshape(-1)
    draws = stable.bernoulli("test of means", np.tile(image, (4000, 1)), 17)
    with pytest.raises(AssertionError):
        assert_bernoulli(draws.mean(axis=0), image / 16, 4000)


def assert_bernoulli(mean, p, n):
    certain = (p == 0) | (p == 1)
    assert (mean[certain] == p[certain]).all()
    mean, p = mean[~certain], p[~certain]
    chi2 = ((mean - p) ** 2 / (p * (1 - p) / n)).sum()
    assert 5e-5 < stats.chi2.sf(chi2, p.size) < 1 - 5e-5


def test_resampling_follows_the_generator_alone():
    d = load("digits")
    first, again, other = (d.binary("train", np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (1297, 64)
    assert first.dtype == np.uint8
    assert set(np.unique(first)) == {0, 1}
    rng = np.random.default_rng(1)
    assert (d.binary("train", rng) != d.binary("train", rng)).any()


def test_fixed_is_the_same_between_calls_and_differs_between_splits():
    d = load("digits")
    np.testing.assert_array_equal(d.fixed("valid"), d.fixed("valid"))
    same = data.DataSet("same", d.test, d.test, d.test, 16, "")
    assert (same.fixed("valid") != same.fixed("test")).any()


def test_static_images_pass_through_as_copies():
    d = data.load("bars-and-stripes")
    rng = np.random.default_rng(0)
    for vectors in (d.binary("test", rng), d.fixed("test")):
        np.testing.assert_array_equal(vectors.reshape(d.test.images.shape), d.test.images)
        vectors[:] = 7
    assert d.test.images.max() == 1
    assert rng.random() == np.random.default_rng(0).random()  # nothing was drawn


def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match=r'no split "tset"; choose from train, valid, test'):
        load("digits").fixed("tset")


# --- bars and stripes ----------------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 4), (4, 1), (2, 3), (3, 3), (4, 3)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bars_and_stripes_probabilities_sum_to_one(height, width):
    every = enumerate_states(height * width).astype(np.uint8)
    log_p = data.log_prob_bars_and_stripes(every, height, width)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)
    assert np.isneginf(log_p).sum() == len(every) - len(
        rows(data.load(f"bars-and-stripes-{height}x{width}").train.images)
    )


def test_bars_and_stripes_probabilities_by_hand():
    ones, stripe, neither = np.ones((2, 3), np.uint8), np.array([[1, 1, 1], [0, 0, 0]]), np.eye(2, 3)
    log_p = data.log_prob_bars_and_stripes(np.array([ones, stripe, neither], np.uint8), 2, 3)
    np.testing.assert_allclose(np.exp(log_p), [1 / 8 + 1 / 16, 1 / 8, 0])


@pytest.mark.parametrize(("height", "width"), [*SIZES, (4, 4), (MAX_SIDE, 3)])
def test_training_frequencies_are_exact(height, width):
    d = data.load(f"bars-and-stripes-{height}x{width}")
    assert len(d.train) >= 1000
    images, counts = np.unique(d.train.images, axis=0, return_counts=True)
    p = np.exp(data.log_prob_bars_and_stripes(images, height, width))
    np.testing.assert_allclose(counts / len(d.train), p, rtol=1e-12)


def p_value(images, height, width):
    """Chi-square test of draws against the exact probabilities."""
    found, counts = np.unique(images, axis=0, return_counts=True)
    p = np.exp(data.log_prob_bars_and_stripes(found, height, width))
    assert p.sum() == pytest.approx(1, abs=1e-12)  # every pattern turned up
    return stats.chisquare(counts, p * len(images)).pvalue


@pytest.mark.parametrize(("height", "width"), [(2, 3), (4, 4), (5, 2)])
def test_sampler_agrees_with_the_probabilities(height, width):
    """False-alarm rate 1e-4 a size, key fixed."""
    assert p_value(sample(20_000, height, width, "a test").images, height, width) > 1e-4


def test_the_chi_square_rejects_a_sampler_that_is_wrong():
    patterns = np.unique(data.load("bars-and-stripes").train.images, axis=0)
    assert p_value(patterns[np.random.default_rng(0).integers(30, size=20_000)], 4, 4) < 1e-12


def test_bars_and_stripes_entropy_is_told():
    d = data.load("bars-and-stripes")
    p = np.array([2 / 32] * 2 + [1 / 32] * 28)
    assert f"{(p * np.log(p)).sum():.6f} nats" in d.provenance


@pytest.mark.parametrize("size", ["0x3", "13x2", "9999x9999"])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(DataError, match="sides are 1 to 12"):
        data.load(f"bars-and-stripes-{size}")


# --- names ---------------------------------------------------------------------------------------------------


def test_every_name_is_described_and_loads(monkeypatch, tmp_path):
    monkeypatch.setenv("DVAE_DATA_DIR", str(tmp_path))
    listings = data.describe()
    assert [listing.name for listing in listings] == list(data.NAMES)
    assert [listing.place.partition(" to ")[0] for listing in listings] == ["built in"] * 2 + [
        "to be downloaded"
    ] * 4
    assert all(len(listing.description) < 90 for listing in listings)


@real_data
def test_describe_tells_what_is_there():
    assert {listing.place for listing in data.describe()[2:]} == {os.environ["DVAE_DATA_DIR"]}


@pytest.mark.parametrize(
    ("name", "hint"), [("minst", 'did you mean "mnist"'), ("imagenet", "choose from digits"), ("", "choose from")]
)
def test_unknown_names_are_refused_with_a_hint(name, hint):
    with pytest.raises(DataError, match=hint):
        data.load(name)


def test_import_is_light():
    """Neither importing the package nor loading what ships with it imports torch, scipy, pooch or rich."""
    code = (
        "import sys, dvae_core.data as d; d.load('digits').fixed('test'); d.load('bars-and-stripes');"
        "print([m for m in ('torch', 'scipy', 'pooch', 'requests', 'rich') if m in sys.modules])"
    )
    root = Path(data.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
