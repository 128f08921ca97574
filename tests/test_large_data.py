"""Data larger than memory: mapped files, rows decoded on demand, prediction by parts."""

import ctypes
import multiprocessing
import os
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import GridSearchCV, train_test_split

from antibackdoor import (
    ABLClassifier,
    PoisonSearch,
    UndefendedClassifier,
    make_poisoned,
    write_report,
)
from antibackdoor.datasets import load_image_folder, open_image_folder
from antibackdoor.inspection import SuspectsDisplay
from antibackdoor.training import Samples
from antibackdoor.training._mapped import find_place, is_mapped
from antibackdoor.utils import LazyRows, resolve_layout

CPU = torch.device("cpu")

# A machine of one processor is told that two processes are many.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


class Held(LazyRows):
    """Rows of an array, and who has asked for how many of them at once."""

    def __init__(self, rows, **how):
        super().__init__(rows.shape, rows.dtype, **how)
        self.rows = rows
        self.asked = []

    def decode(self, numbers):
        self.asked.append(len(numbers))
        return self.rows[numbers]


def quick(**changes):
    settings = {"backbone": "small-cnn", "epochs": 2, "batch_size": 32, "random_state": 0}
    return UndefendedClassifier(**{**settings, **changes})


def searching(epochs=2, backbone="small-cnn"):
    """A defence with its search: features, transplants, probes."""
    return ABLClassifier(
        backbone=backbone,
        batch_size=32,
        detector=PoisonSearch(epochs=epochs),
        epochs=1,
        random_state=0,
    )


def weights(classifier):
    return [tensor.numpy() for tensor in classifier.module_.state_dict().values()]


def assert_same_fit(one, other):
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(one.isolate_scores_, other.isolate_scores_)
    np.testing.assert_array_equal(one.isolate_, other.isolate_)


@pytest.fixture(scope="module")
def poisoned(digits):
    """Images of four digits, some with a trigger: uint8 (160, 8, 8), and their labels."""
    X, y = digits
    rows = np.flatnonzero(y < 4)[:160]
    X_bad, y_bad, _ = make_poisoned(X[rows], y[rows], poison_rate=0.15, random_state=0)
    return X_bad, y_bad


@pytest.fixture(scope="module")
def searched(poisoned):
    return searching().fit(*poisoned)


@pytest.fixture
def mapped(poisoned, tmp_path):
    np.save(tmp_path / "X.npy", poisoned[0])
    return np.load(tmp_path / "X.npy", mmap_mode="r")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noise of two classes, 20 images each, of several sizes and modes."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir()
        for number in range(20):
            shape = (12, 8, 3) if number == 3 else (8, 8) if number == 4 else (8, 8, 3)
            pixels = rng.integers(0, 128, shape, dtype=np.uint8) + np.uint8(120 * label)
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


# The same bits, wherever the rows are ------------------------------------------------------------


def test_fit_on_a_mapped_file_is_that_on_the_array(poisoned, searched, mapped):
    from_file = searching().fit(mapped, poisoned[1])
    assert len(searched.isolate_) > 0
    assert_same_fit(from_file, searched)
    np.testing.assert_array_equal(from_file.predict_proba(mapped), searched.predict_proba(mapped))


def test_fit_on_lazy_rows_is_that_on_the_array(poisoned, searched):
    X = Held(poisoned[0])
    lazily = searching().fit(X, poisoned[1])
    assert_same_fit(lazily, searched)
    assert (lazily.n_features_in_, lazily.input_shape_) == (8, (8, 8))
    np.testing.assert_array_equal(lazily.predict_proba(X), searched.predict_proba(poisoned[0]))


def test_worker_processes_change_nothing_and_end_with_the_fit(poisoned):
    X, y = poisoned[0][:150], poisoned[1][:150]
    expected = quick().fit(X, y)
    idle = set(multiprocessing.active_children())  # joblib keeps those of earlier tests
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    lazy = Held(X, n_jobs=2)
    decoded = quick().fit(lazy, y)
    assert set(multiprocessing.active_children()) <= idle
    np.testing.assert_array_equal(decoded.predict_proba(lazy), expected.predict_proba(X))
    assert set(multiprocessing.active_children()) <= idle
    assert_same_fit(decoded, expected)
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]
    # What is a single chunk is decoded here, the batches of the epochs elsewhere.
    assert set(lazy.asked) == {150, 1}


def test_never_all_rows_are_asked_for(poisoned):
    """Not by the search either, which looks at whole classes."""
    X = Held(np.tile(poisoned[0], (15, 1, 1)))
    y = np.arange(len(X)) % 4  # whose classes are of more rows than a chunk
    searching(epochs=1, backbone="mlp").fit(X, y)
    assert sum(X.asked) > 3 * len(X)
    assert max(X.asked) <= 512
    quick(epochs=1).fit(X, y).predict(X)
    assert max(X.asked) <= 512


def test_what_is_kept_knows_the_values_wherever_the_rows_are(poisoned, tmp_path):
    X, y = poisoned[0][:100], poisoned[1][:100]
    fit = quick(cache_dir=tmp_path).fit(Held(X), y)
    again = quick(cache_dir=tmp_path).fit(X, y)
    assert_same_fit(fit, again)
    assert len(list(tmp_path.glob("train-*.safetensors"))) == 1
    other = X.copy()
    other[7, 3, 3] ^= 1
    quick(cache_dir=tmp_path).fit(Held(other), y)
    assert len(list(tmp_path.glob("train-*.safetensors"))) == 2


# Mapped files ------------------------------------------------------------------------------------


def test_views_of_a_mapped_file_are_read_at_their_place(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (60, 4, 6), dtype=np.uint8)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    rows = np.array([5, 6, 7, 0, 19, 5])
    views = [
        mapped,
        mapped[20:],
        mapped.reshape(60, 24),
        np.asarray(mapped)[10:].reshape(-1, 2, 4, 3),
        mapped[::2],
        mapped[::-1],
        mapped.view(np.ndarray)[3:],
    ]
    for view in views:
        assert find_place(view) is not None
        samples = Samples(view, resolve_layout(view.shape[1:]), CPU, torch.float32, resident=False)
        stored = samples.stored(torch.from_numpy(rows)).numpy()
        np.testing.assert_array_equal(stored.reshape(view[rows].shape), view[rows])
        batches = [torch.tensor([0]), torch.arange(20), torch.from_numpy(rows)]
        for index, stored in zip(batches, samples.stored_batches(batches), strict=True):
            np.testing.assert_array_equal(stored.numpy().ravel(), view[index.numpy()].ravel())
        with pytest.raises(IndexError, match="rows"):
            samples.stored(torch.tensor([len(view)]))
        samples.close()


def test_what_cannot_be_read_from_its_file_is_read_through_the_mapping(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (30, 4, 6), dtype=np.uint8)
    X.tofile(tmp_path / "X")
    written = np.memmap(tmp_path / "X", np.uint8, "c", shape=X.shape)
    written[2] = 7  # in memory alone
    across = np.memmap(tmp_path / "X", np.uint8, "r", shape=X.shape).transpose(0, 2, 1)
    for array in (written, across):
        assert is_mapped(array)
        assert find_place(array) is None
        samples = Samples(
            array, resolve_layout(array.shape[1:]), CPU, torch.float32, resident=False
        )
        np.testing.assert_array_equal(
            samples.stored(torch.tensor([2, 0])).numpy()[..., 0], array[[2, 0]]
        )
    assert not is_mapped(X)
    assert not is_mapped(across[[1, 2]])


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open stays there")
def test_another_file_of_the_same_name_is_not_taken_for_it(poisoned, mapped, tmp_path):
    np.save(tmp_path / "other.npy", 255 - poisoned[0])
    os.replace(tmp_path / "other.npy", mapped.filename)
    assert find_place(mapped) is None
    (tmp_path / "X.npy").unlink()
    assert find_place(mapped) is None


def test_what_was_written_to_a_mapped_array_is_read(tmp_path):
    X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(20, 3))
    X[:] = np.arange(60).reshape(20, 3)
    assert find_place(X) is not None
    samples = Samples(X, None, CPU, torch.float32, resident=False)
    assert samples.stored(torch.tensor([19])).tolist() == [[57.0, 58.0, 59.0]]
    samples.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut short there")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_a_file_cut_short_is_an_error_before_training(tmp_path, dtype):
    np.save(tmp_path / "X.npy", np.ones((4000, 8, 8), dtype))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    os.truncate(tmp_path / "X.npy", 5000)
    classifier = quick()
    with pytest.raises(ValueError, match=r"^X is mapped from .*X\.npy.*cut short.* 5,000 bytes"):
        classifier.fit(X, np.arange(4000) % 2)
    assert not hasattr(classifier, "n_features_in_")


@pytest.mark.skipif(sys.platform == "win32", reason="a mapped file cannot be cut short there")
def test_a_file_cut_short_in_mid_fit_is_an_error(poisoned, mapped):
    def cut(*_):
        os.truncate(mapped.filename, 5000)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))

    with pytest.raises(ValueError, match=r"^X is mapped from .*cut short.* 5,000 bytes"):
        quick(backbone=cut).fit(mapped, poisoned[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_found_where_they_are_read(tmp_path, bad):
    X = np.ones((300, 5), np.float32)
    X[250, 2] = bad
    np.save(tmp_path / "X.npy", X)
    y = np.arange(300) % 2
    for rows in (np.load(tmp_path / "X.npy", mmap_mode="r"), Held(X)):
        classifier = quick(backbone="mlp")
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            classifier.fit(rows, y)
        assert not hasattr(classifier, "n_features_in_")


def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def average_first(shape, n_classes):
    return torch.nn.Sequential(
        torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(72, n_classes)
    )


def measure_growth(path, answers):
    """Tell by how many MB more a fit on many rows takes than one on few."""
    # glibc gives each large piece back at once: what it would keep differs by 80 MB.
    m_mmap_threshold = -3
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(m_mmap_threshold, 65536)
    peaks = []
    for n_rows in (600, 4000):
        X, y = np.load(path, mmap_mode="r")[:n_rows], np.arange(n_rows) % 4
        quick(backbone=average_first, epochs=1).fit(X, y).predict(X)
        peaks.append(peak())
    answers.put(peaks[1] - peaks[0])


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="asks Linux for the peak")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_memory_does_not_grow_with_a_mapped_file(tmp_path):
    # 74 MB, of which the first fit sees 11.
    shape = (4000, 64, 96, 3)
    pixels = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", dtype=np.uint8, shape=shape)
    pixels[:] = np.arange(96 * 3, dtype=np.uint8).reshape(96, 3)
    pixels[:, ::5] = np.random.default_rng(0).integers(0, 256, (4000, 1, 1, 1), dtype=np.uint8)
    del pixels
    # In a process of its own, whose peak is as high as its memory where it begins.
    forked = multiprocessing.get_context("fork")
    answers = forked.SimpleQueue()
    process = forked.Process(target=measure_growth, args=(tmp_path / "X.npy", answers))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert answers.get() < 40


def test_prediction_copies_no_array(digits, monkeypatch):
    X = np.tile(digits[0], (2, 1, 1))
    classifier = quick(epochs=1).fit(X[:100], digits[1][:100])
    sizes = []
    to_device = Samples._to_device
    monkeypatch.setattr(
        Samples,
        "_to_device",
        lambda samples, rows: sizes.append(len(rows)) or to_device(samples, rows),
    )
    classifier.predict(X)
    assert sum(sizes) == len(X)
    assert max(sizes) <= 512


def test_chunks_hold_fewer_large_images():
    for side, wanted in ((8, 512), (32, 512), (64, 128), (224, 10), (1024, 1)):
        X = Held(np.broadcast_to(np.uint8(0), (600, side, side, 3)))
        samples = Samples(X, resolve_layout(X.shape[1:]), CPU, torch.float32, resident=False)
        assert len(next(samples.chunks())) == wanted


# Lazy rows ---------------------------------------------------------------------------------------


def test_parts_of_lazy_rows_are_lazy(poisoned):
    X, y = poisoned
    lazy = Held(X)
    mask = y == 3
    parts = [slice(5, 90, 4), [7, -1, 7], np.array([3, 2]), mask, slice(0, 0)]
    for part in parts:
        assert isinstance(lazy[part], Held)
        assert lazy[part].shape == X[part].shape
        np.testing.assert_array_equal(np.asarray(lazy[part]), X[part])
    np.testing.assert_array_equal(np.asarray(lazy[10:][mask[10:]][::2]), X[10:][mask[10:]][::2])
    np.testing.assert_array_equal(lazy[-2], X[-2])
    np.testing.assert_array_equal(np.stack(list(lazy[:4])), X[:4])
    first, second = train_test_split(lazy, random_state=0)
    assert isinstance(first, Held) and isinstance(second, Held)
    np.testing.assert_array_equal(np.asarray(second), train_test_split(X, random_state=0)[1])
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(second))), second)
    assert np.asarray(lazy[:2], dtype=np.float32).dtype == np.float32
    assert (len(lazy), lazy.ndim, lazy.dtype) == (160, 3, np.uint8)


def test_lazy_rows_are_indexed_by_rows_alone(poisoned):
    lazy = Held(poisoned[0])
    for key in ((0, 1), (slice(None), 1), np.zeros((2, 2), int), 160, [160], "a"):
        with pytest.raises(IndexError):
            lazy[key]


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [((4,), np.uint8, "shape"), ((4, -1), np.uint8, "shape"), ((4, 2), np.int64, "dtype")],
)
def test_lazy_rows_of_no_x_are_refused(shape, dtype, message):
    class Empty(LazyRows):
        def decode(self, numbers):
            raise AssertionError

    with pytest.raises(ValueError, match=message):
        Empty(shape, dtype)


@pytest.mark.parametrize(
    "spoil", [lambda rows: rows[:-1], lambda rows: rows[:, :4], lambda rows: rows.astype(float)]
)
def test_rows_that_are_not_what_was_said_are_refused(poisoned, spoil):
    class Wrong(Held):
        def decode(self, numbers):
            return spoil(self.rows[numbers])

    with pytest.raises(ValueError, match=r"^X: Wrong\.decode gave .* wanted uint8 of shape"):
        quick().fit(Wrong(poisoned[0]), poisoned[1])


def test_bad_lazy_rows_are_refused_as_bad_arrays_are(poisoned, searched):
    X, y = poisoned
    with pytest.raises(ValueError, match="X and y"):
        quick().fit(Held(X), y[:-1])
    with pytest.raises(ValueError, match="rows of shape"):
        searched.predict(Held(X.reshape(len(X), 16, 4)[:, :8]))
    with pytest.raises(ValueError, match="uint8"):
        searched.predict(Held(X.astype(np.float32)))
    with pytest.raises(ValueError, match="no rows"):
        searched.predict(Held(X)[:0])


def test_search_over_lazy_rows(poisoned):
    X, y = poisoned[0][:120], poisoned[1][:120] % 3
    results = [
        GridSearchCV(quick(epochs=1), {"momentum": [0.5, 0.9]}, cv=2).fit(rows, y)
        for rows in (X, Held(X))
    ]
    scores = [result.cv_results_["mean_test_score"] for result in results]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert_same_fit(*(result.best_estimator_ for result in results))


def test_reports_read_only_the_rows_they_show(poisoned, searched, tmp_path):
    X, y = poisoned
    lazy = Held(X)
    pages = [
        write_report(searched, rows, y, tmp_path / f"{kind}.html", max_images=20).read_bytes()
        for kind, rows in (("array", X), ("lazy", lazy))
    ]
    assert pages[0] == pages[1]
    shown = [SuspectsDisplay.from_estimator(searched, rows, y, max_images=5) for rows in (X, lazy)]
    np.testing.assert_array_equal(shown[0].images, shown[1].images)
    # Those that are shown, and some of a suspect class, whose average is taken.
    assert max(lazy.asked) <= max(20, np.isin(y, searched.isolate_classes_).sum())
    assert max(lazy.asked) < len(X) / 2


# Folders of images -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"size": 6}, {"size": 6, "crop": False}])
def test_an_opened_folder_is_the_loaded_one(folder, how):
    loaded, opened = load_image_folder(folder, **how), open_image_folder(folder, **how)
    assert isinstance(opened.X, LazyRows)
    assert opened.X.dtype == loaded.X.dtype
    np.testing.assert_array_equal(np.asarray(opened.X), loaded.X)
    np.testing.assert_array_equal(opened.y, loaded.y)
    assert (opened.file_names, opened.skipped) == (loaded.file_names, loaded.skipped)
    assert opened.n_cropped == loaded.n_cropped
    assert (opened.n_cropped == 0) == (how.get("crop") is False)


def test_fit_on_an_opened_folder(folder):
    loaded, opened = load_image_folder(folder), open_image_folder(folder, n_jobs=2)
    expected = quick(batch_size=8).fit(loaded.X, loaded.y)
    assert_same_fit(quick(batch_size=8).fit(opened.X, opened.y), expected)


def test_what_is_no_image_is_skipped_at_the_opening(folder, tmp_path):
    for name in ("dark", "light"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "dark" / "2.png").write_bytes(b"no image")
    opened = open_image_folder(tmp_path)
    assert opened.X.shape == (2, 8, 8, 1)
    assert [name for name, _ in opened.skipped] == ["dark/2.png"]
    (tmp_path / "light" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="two classes"):
        open_image_folder(tmp_path)
    for name, value, error in (("size", "8", TypeError), ("n_jobs", 0, ValueError)):
        with pytest.raises(error, match=f"^{name}="):
            open_image_folder(folder, **{name: value})


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_image_that_breaks_in_mid_fit_is_named(folder, tmp_path, n_jobs):
    for path in folder.glob("*/*.png"):
        copy = tmp_path / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    opened = open_image_folder(tmp_path, n_jobs=n_jobs)
    broken = tmp_path / "light" / "07.png"

    def breaking(shape, n_classes):
        broken.write_bytes(broken.read_bytes()[:60])
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, n_classes))

    classifier = quick(backbone=breaking, batch_size=8)
    idle = set(multiprocessing.active_children())  # joblib keeps those of earlier tests
    with pytest.raises(ValueError, match=r"^X: .*07\.png' cannot be decoded") as raised:
        classifier.fit(opened.X, opened.y)
    assert "Traceback" not in str(raised.value)
    assert set(multiprocessing.active_children()) <= idle
    assert not hasattr(classifier, "n_features_in_")
