"""Data sets by name and from .npz files; what is not there or not right is refused by name."""

import csv
import gzip
import hashlib
import pickle
import struct
import sys
import zipfile
from http.client import IncompleteRead

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from sklearn.model_selection import train_test_split

from antibackdoor.datasets import DATASETS, Dataset, load_dataset, load_digits_images

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def refused(kind, *words, name, **options):
    """Load, and check that it fails with each of the words in the message."""
    with pytest.raises(kind) as caught:
        load_dataset(name, **options)
    for word in words:
        assert str(word) in str(caught.value)


# Digits ------------------------------------------------------------------------------------------


def test_digits_hold_out_a_stratified_quarter():
    X, y = load_digits_images()
    data = load_dataset("digits")
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    np.testing.assert_array_equal(data.X_train, X_train)
    np.testing.assert_array_equal(data.y_train, y_train)
    np.testing.assert_array_equal(data.X_test, X_test)
    np.testing.assert_array_equal(data.y_test, y_test)
    assert (data.X_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)
    assert data.class_names == tuple("0123456789")
    share = np.bincount(data.y_test) / np.bincount(y)
    assert (np.abs(share - 0.25) < 0.01).all()


def test_digits_need_no_folder(tmp_path):
    assert load_dataset("digits", data_root=tmp_path / "absent").X_test.shape == (450, 8, 8)


# The arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CIFAR-10", "", "data.npy", "npz"])
def test_unknown_name_lists_the_names(name):
    refused(ValueError, f"name={name!r}", *DATASETS, "ends in .npz", name=name)


@pytest.mark.parametrize("name", [None, 3, ["digits"]])
def test_name_of_a_wrong_type(name):
    refused(TypeError, f"name={name!r}", "wanted one of", name=name)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (TypeError, {"data_root": 3}),
        (TypeError, {"data_root": None}),
        (TypeError, {"download": "yes"}),
        (TypeError, {"download": 1}),
        (TypeError, {"image_size": "32"}),
        (TypeError, {"image_size": 32.0}),
        (TypeError, {"image_size": True}),
        (ValueError, {"image_size": 0}),
        (ValueError, {"image_size": 16}),
    ],
)
def test_bad_options_of_a_data_set_that_is_there(kind, options):
    ((argument, value),) = options.items()
    refused(kind, f"{argument}={value!r}", name="digits", **options)


def test_image_size_of_an_npz_is_refused(tmp_path):
    refused(ValueError, "image_size=8", "gtsrb", name=tmp_path / "absent.npz", image_size=8)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_data_root_that_is_a_file(name, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    refused(NotADirectoryError, f"data_root={str(path)!r}", name=name, data_root=path)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits"}))
@pytest.mark.parametrize("folder", ["", "absent"])
def test_not_on_disk_says_where_it_looked_and_what_to_do(name, folder, tmp_path):
    root = tmp_path / folder
    advice = "val/CLASS/" if name == "imagefolder" else "download=True (`--download`"
    refused(FileNotFoundError, f"name={name!r}", root, advice, name=name, data_root=root)
    assert not list(tmp_path.iterdir())


def test_a_new_data_set_is_one_function(monkeypatch, tmp_path):
    seen = {}

    def load_mine(data_root, *, download, image_size=5):
        seen.update(data_root=data_root, download=download, image_size=image_size)
        X, y = pixels(4, image_size, image_size), np.arange(4) % 2
        return Dataset(X, y, X, y, ("a", "b"))

    monkeypatch.setitem(DATASETS, "mine", load_mine)
    assert load_dataset("mine", data_root=tmp_path, download=True).X_train.shape == (4, 5, 5)
    assert seen == {"data_root": tmp_path, "download": True, "image_size": 5}
    assert load_dataset("mine", image_size=7).X_train.shape == (4, 7, 7)


# Through torchvision: tiny files in its own formats -----------------------------------------------


def write_pickle(path, content):
    path.write_bytes(pickle.dumps(content))
    return [path.name, md5(path)]


@pytest.fixture
def cifar(monkeypatch, tmp_path):
    """CIFAR-10 with two images a batch; returns the images (n, 3, 32, 32), labels and class."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images, labels = pixels(12, 3, 32, 32), np.arange(12) % 2
    files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    sums = [
        write_pickle(
            folder / file,
            {"data": images[2 * i : 2 * i + 2].reshape(2, -1), "labels": [0, 1]},
        )
        for i, file in enumerate(files)
    ]
    meta = write_pickle(folder / "batches.meta", {"label_names": ["cat", "dog"]})
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": meta[0], "md5": meta[1], "key": "label_names"}
    )
    return images, labels, CIFAR10


def test_cifar10(cifar, tmp_path):
    images, labels, _ = cifar
    data = load_dataset("cifar10", data_root=str(tmp_path))
    np.testing.assert_array_equal(data.X_train, images[:10].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(data.X_test, images[10:].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(data.y_train, labels[:10])
    assert (data.X_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)
    assert data.class_names == ("cat", "dog")


def test_cifar10_array_is_not_copied(cifar, monkeypatch, tmp_path):
    made = []
    load_meta = cifar[2]._load_meta
    monkeypatch.setattr(
        cifar[2], "_load_meta", lambda self: (made.append(self.data), load_meta(self))
    )
    data = load_dataset("cifar10", data_root=tmp_path)
    assert data.X_train is made[0]
    assert data.X_test is made[1]


def test_damaged_cifar10_is_no_missing_one(cifar, tmp_path):
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"x")
    with pytest.raises(
        OSError, match="name='cifar10'.*incomplete or damaged.*--download"
    ) as caught:
        load_dataset("cifar10", data_root=tmp_path)
    assert not isinstance(caught.value, FileNotFoundError)


def test_download_is_passed_on_and_its_failure_told(cifar, monkeypatch, tmp_path):
    asked = []

    def fail(self):
        asked.append(self.root)
        raise IncompleteRead(b"")

    monkeypatch.setattr(cifar[2], "download", fail)
    load_dataset("cifar10", data_root=tmp_path)
    assert not asked
    with pytest.raises(OSError, match=r"could not be downloaded.*IncompleteRead"):
        load_dataset("cifar10", data_root=tmp_path / "new", download=True)
    assert asked == [tmp_path / "new"]


def test_cifar100_takes_the_fine_labels(monkeypatch, tmp_path):
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    images = pixels(4, 3, 32, 32)
    entry = {"data": images.reshape(4, -1), "fine_labels": [2, 0, 1, 2], "coarse_labels": [0] * 4}
    train, test = (write_pickle(folder / part, entry) for part in ("train", "test"))
    meta = write_pickle(folder / "meta", {"fine_label_names": ["apple", "bear", "crab"]})
    monkeypatch.setattr(CIFAR100, "train_list", [train])
    monkeypatch.setattr(CIFAR100, "test_list", [test])
    monkeypatch.setattr(
        CIFAR100, "meta", {"filename": meta[0], "md5": meta[1], "key": "fine_label_names"}
    )
    data = load_dataset("cifar100", data_root=tmp_path)
    np.testing.assert_array_equal(data.X_train, images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(data.y_train, [2, 0, 1, 2])
    assert data.class_names == ("apple", "bear", "crab")


def test_svhn(monkeypatch, tmp_path):
    from torchvision.datasets import SVHN

    images, files = pixels(5, 32, 32, 3), {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        # In the file the images are last, and the digit 0 is a 10.
        savemat(path, {"X": np.moveaxis(images, 0, -1), "y": [[10], [1], [2], [10], [9]]})
        files[part] = ["nowhere", path.name, md5(path)]
    monkeypatch.setattr(SVHN, "split_list", files)
    data = load_dataset("svhn", data_root=tmp_path)
    np.testing.assert_array_equal(data.X_train, images)
    np.testing.assert_array_equal(data.y_test, [0, 1, 2, 0, 9])
    assert data.y_train.dtype == np.int64
    (tmp_path / "test_32x32.mat").unlink()
    refused(FileNotFoundError, "no " + str(tmp_path / "test_32"), name="svhn", data_root=tmp_path)


def write_idx(path, array):
    """The format of MNIST: a magic number with the count of axes, their lengths, the bytes."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    images = pixels(6, 28, 28)
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.array([0, 9, 1, 8, 2, 7]))
    return images, folder


def test_fashion_mnist(fashion, tmp_path):
    data = load_dataset("fashion-mnist", data_root=tmp_path)
    np.testing.assert_array_equal(data.X_train, fashion[0])
    np.testing.assert_array_equal(data.y_test, [0, 9, 1, 8, 2, 7])
    assert (data.X_train.dtype, data.y_train.dtype) == (np.uint8, np.int64)
    assert (len(data.class_names), data.class_names[9]) == (10, "Ankle boot")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        gzip.compress(b"x", mtime=0),
        b"\0\0\x08\x03" * 4,
        b"\0\0\x0a\x03" * 4,
        struct.pack(">4Ih", 0x0B03, 1, 1, 1, 0),
    ],
)
def test_damaged_fashion_mnist(content, fashion, tmp_path):
    (fashion[1] / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(OSError, match="name='fashion-mnist'.*incomplete or damaged"):
        load_dataset("fashion-mnist", data_root=tmp_path)


@pytest.mark.parametrize("content", [b"", b"x"])
def test_damaged_fashion_mnist_of_an_old_torchvision(content, fashion, tmp_path):
    folder = tmp_path / "FashionMNIST" / "processed"
    folder.mkdir()
    for part in ("training", "test"):
        (folder / f"{part}.pt").write_bytes(content)
    with pytest.raises(OSError, match="name='fashion-mnist'.*incomplete or damaged"):
        load_dataset("fashion-mnist", data_root=tmp_path)


def test_fashion_mnist_with_a_label_too_few(fashion, tmp_path):
    write_idx(fashion[1] / "train-labels-idx1-ubyte", np.array([0, 9, 1, 8, 2]))
    refused(
        ValueError,
        "name='fashion-mnist'",
        "X_train has 6 rows, but y_train has 5 labels",
        name="fashion-mnist",
        data_root=tmp_path,
    )


def save_image(path, colour, size=(20, 12), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def gtsrb(tmp_path):
    folder = tmp_path / "gtsrb"
    for number, colour in enumerate([RED, GREEN, BLUE]):
        save_image(folder / f"GTSRB/Training/{number:05d}/a.ppm", colour)
        save_image(folder / f"GTSRB/Final_Test/Images/{number:05d}.ppm", colour)
    with open(folder / "GT-final_test.csv", "w", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerows([["Filename", "ClassId"], ["00000.ppm", 0], ["00002.ppm", 2]])
    return folder


def test_gtsrb_is_resized(gtsrb, tmp_path):
    data = load_dataset("gtsrb", data_root=tmp_path)
    assert (data.X_train.shape, data.X_train.dtype) == ((3, 32, 32, 3), np.uint8)
    assert (data.X_train[[0, 1, 2]] == np.array([RED, GREEN, BLUE])[:, None, None]).all()
    assert (data.X_test == np.array([RED, BLUE])[:, None, None]).all()
    np.testing.assert_array_equal(data.y_train, [0, 1, 2])
    np.testing.assert_array_equal(data.y_test, [0, 2])
    assert data.class_names == ("0", "1", "2")
    assert load_dataset("gtsrb", data_root=tmp_path, image_size=8).X_test.shape == (2, 8, 8, 3)


def test_gtsrb_without_a_training_folder_or_labels(gtsrb, tmp_path):
    # torchvision counts the folders that are there: the numbers behind a missing one would shift.
    (gtsrb / "GTSRB/Training/00001/a.ppm").unlink()
    (gtsrb / "GTSRB/Training/00001").rmdir()
    refused(ValueError, "y_test holds labels that y_train", name="gtsrb", data_root=tmp_path)
    (gtsrb / "GT-final_test.csv").unlink()
    with pytest.raises(OSError, match="incomplete or damaged.*GT-final_test.csv"):
        load_dataset("gtsrb", data_root=tmp_path)


def test_gtsrb_names_the_file_that_is_no_image(gtsrb, tmp_path):
    path = gtsrb / "GTSRB/Training/00001/a.ppm"
    path.write_bytes(b"P6 what")
    refused(ValueError, "name='gtsrb'", path, "decoded", name="gtsrb", data_root=tmp_path)


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("operator missing")])
def test_torchvision_that_does_not_import(error, monkeypatch, fashion, tmp_path):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torchvision":
                raise error

    for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    refused(
        ImportError,
        "name='fashion-mnist'",
        error,
        ".npz",
        name="fashion-mnist",
        data_root=tmp_path,
    )
    assert len(load_dataset("digits").X_train) == 1347


# Folders of images -------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    save_image(tmp_path / "train/cat/1.png", RED)
    save_image(tmp_path / "train/cat/2.jpg", 200, mode="L")
    save_image(tmp_path / "train/dog/1.png", (*GREEN, 0), size=(3, 50), mode="RGBA")
    save_image(tmp_path / "val/cat/1.png", RED, size=(1, 1))
    save_image(tmp_path / "val/dog/1.png", BLUE)
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    return tmp_path


def test_image_folder(folders):
    data = load_dataset("imagefolder", data_root=folders, image_size=6)
    assert (data.X_train.shape, data.X_train.dtype) == ((3, 6, 6, 3), np.uint8)
    colours = np.array([RED, (200, 200, 200), WHITE])
    assert (data.X_train == colours[:, None, None]).all()
    assert (data.X_test == np.array([RED, BLUE])[:, None, None]).all()
    np.testing.assert_array_equal(data.y_train, [0, 0, 1])
    np.testing.assert_array_equal(data.y_test, [0, 1])
    assert (data.y_train.dtype, data.class_names) == (np.int64, ("cat", "dog"))


def test_image_folder_is_seen_whole_and_at_224_pixels(folders):
    half = np.zeros((10, 40, 3), np.uint8)
    half[:, 20:] = 255
    Image.fromarray(half).save(folders / "val/dog/1.png")
    data = load_dataset("imagefolder", data_root=folders)
    assert data.X_train.shape == (3, 224, 224, 3)
    image = data.X_test[1]
    assert (image[:, :100] == 0).all()
    assert (image[:, 124:] == 255).all()


def test_image_folder_takes_test_where_there_is_no_val(folders):
    (folders / "val").rename(folders / "test")
    assert load_dataset("imagefolder", data_root=folders, image_size=4).X_test.shape[0] == 2


def test_image_folder_with_other_classes(folders):
    save_image(folders / "train/emu/1.png", RED)
    save_image(folders / "val/fox/1.png", RED)
    (folders / "train/dog/1.png").write_bytes(b"not looked at yet")
    refused(
        ValueError,
        "name='imagefolder'",
        f"{folders / 'train'} has 'emu'",
        f"{folders / 'val'} has 'fox'",
        name="imagefolder",
        data_root=folders,
    )


def test_image_folder_with_too_little_in_it(folders):
    (folders / "val/dog/1.png").unlink()
    refused(FileNotFoundError, folders / "val", "dog", name="imagefolder", data_root=folders)
    (folders / "val/dog").rmdir()
    for file in (folders / "train/dog").iterdir():
        file.unlink()
    (folders / "train/dog").rmdir()
    refused(ValueError, "one class folder, 'cat'", name="imagefolder", data_root=folders)
    (folders / "val/cat/1.png").unlink()
    (folders / "val/cat").rmdir()
    refused(FileNotFoundError, folders / "val", name="imagefolder", data_root=folders)
    (folders / "val").rmdir()
    refused(
        FileNotFoundError,
        f"no folder {folders / 'val'} and no {folders / 'test'}",
        "cannot be downloaded",
        name="imagefolder",
        data_root=folders,
        download=True,
    )


@pytest.mark.parametrize("keep", [0, 40, 2000])
def test_image_folder_names_the_file_that_is_no_image(keep, folders):
    path = folders / "train/cat/1.png"
    Image.fromarray(pixels(40, 40, 3)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(
        ValueError, path, "decoded as an image", name="imagefolder", data_root=folders, image_size=4
    )


# .npz files --------------------------------------------------------------------------------------


def parts(**changes):
    arrays = {
        "X_train": pixels(6, 4, 4),
        "y_train": np.array([0, 1, 2] * 2),
        "X_test": pixels(3, 4, 4),
        "y_test": np.array([2, 1, 2]),
    }
    arrays.update(changes)
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.fixture
def npz(tmp_path):
    """Function that writes arrays and returns the file's path."""

    def write(**arrays):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays)
        return path

    return write


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3), (3, 4, 4), (5,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_npz_gives_the_arrays_as_they_are(save, shape, dtype, tmp_path):
    arrays = parts(X_train=pixels(6, *shape).astype(dtype), X_test=pixels(3, *shape).astype(dtype))
    save(tmp_path / "mine.npz", **arrays, more=pixels(2))
    for name in (tmp_path / "mine.npz", str(tmp_path / "mine.npz")):
        data = load_dataset(name, data_root=tmp_path / "absent")
        for part, array in arrays.items():
            np.testing.assert_array_equal(getattr(data, part), array, strict=True)
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "aa", "c"], ("aa", "b", "c")),
        ([7, -1, 3], ("-1", "3", "7")),
        ([True, False, True], ("False", "True")),
    ],
)
def test_npz_of_one_part_holds_out_a_quarter(labels, names, npz):
    X, y = pixels(60, 4, 4), np.array(labels * 20)
    data = load_dataset(npz(X=X, y=y))
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    np.testing.assert_array_equal(data.X_train, X_train)
    np.testing.assert_array_equal(data.X_test, X_test)
    np.testing.assert_array_equal(data.y_train, y_train, strict=True)
    np.testing.assert_array_equal(data.y_test, y_test, strict=True)
    assert data.class_names == names


def test_npz_in_the_home_folder(npz, monkeypatch, tmp_path):
    npz(**parts())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_dataset("~/mine.npz").X_train.shape == (6, 4, 4)


def test_npz_that_is_not_there(tmp_path):
    refused(FileNotFoundError, "name=", "absent.npz", "no such file", name=tmp_path / "absent.npz")
    (tmp_path / "folder.npz").mkdir()
    refused(FileNotFoundError, "no such file", name=tmp_path / "folder.npz")


def test_npz_that_is_no_archive(npz, tmp_path):
    path = npz(**parts())
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], pickle.dumps([1]), b"PK\x03\x04"):
        path.write_bytes(content)
        refused(ValueError, f"name={str(path)!r}", "no .npz file", "numpy.savez", name=path)
    np.save(tmp_path / "one.npy", pixels(3))
    refused(ValueError, "no .npz", name=(tmp_path / "one.npy").rename(tmp_path / "one.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_damaged_bytes(save, tmp_path):
    path = tmp_path / "mine.npz"
    save(path, **parts(X_train=pixels(6, 40, 40), X_test=pixels(3, 40, 40)))
    content = bytearray(path.read_bytes())
    for place in range(300, 330):
        content[place] ^= 0x5A
    path.write_bytes(content)
    refused(ValueError, f"name={str(path)!r}", "damaged", name=path)


def test_npz_with_a_member_that_is_no_array(npz):
    path = npz(**parts(X_train=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("X_train.npy", b"hello")
    refused(ValueError, "X_train is no array", name=path)
    path = npz(**parts(X_train=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("X_train.npy", b"\x93NUMPY\x01\x00\x04\x00oops")
    refused(ValueError, "X_train cannot be read", name=path)


class Marks:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["X_train", "y_train", "X_test", "y_test"])
def test_npz_with_a_pickle_is_refused_and_not_run(name, npz, tmp_path):
    path = npz(**parts(**{name: np.array([Marks(tmp_path / "ran")] * 3, dtype=object)}))
    refused(ValueError, f"{name} is an array of Python objects", "pickle", "refused", name=path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, ["lacks 'X_train', 'y_train', 'X_test', 'y_test'", "holds nothing"]),
        (parts(y_test=None), ["lacks 'y_test';", "holds 'X_train', 'y_train', 'X_test'"]),
        ({"X": pixels(8, 2), "labels": pixels(8)}, ["'X' and 'y'", "holds 'X', 'labels'"]),
        ({"X": pixels(8, 2), "y": pixels(8), "X_test": pixels(8, 2)}, ["lacks 'X_train'"]),
        (parts(X_train=pixels(6)), ["X_train has shape (6,)", "(n, H, W)"]),
        (parts(X_train=np.array(3)), ["X_train has shape ()"]),
        (parts(X_test=pixels(3, 1, 2, 3, 4)), ["X_test has shape (3, 1, 2, 3, 4)"]),
        (parts(X_train=pixels(5, 4, 4)), ["X_train has 5 rows, but y_train has 6 labels"]),
        (parts(X_test=pixels(2, 4, 4)), ["X_test has 2 rows, but y_test has 3 labels"]),
        (parts(X_test=pixels(3, 4, 5)), ["(4, 4)", "X_test has rows of shape (4, 5)"]),
        (parts(X_test=np.zeros((3, 4, 4))), ["X_train is uint8, but X_test is float64"]),
        (parts(X_train=np.full((6, 4, 4), "a")), ["X_train is <U1", "numbers"]),
        (parts(X_train=np.zeros((6, 4, 4), complex)), ["X_train is complex128", "numbers"]),
        (parts(y_train=np.array([[0], [1]] * 3)), ["y_train has shape (6, 1)"]),
        (parts(y_test=np.array([2.0, 1.0, 2.0])), ["y_test is float64", "whole numbers"]),
        (parts(y_train=np.array([b"a", b"b"] * 3)), ["y_train is |S1", "strings"]),
        (parts(y_test=np.array([2, 1, 5])), ["y_test holds labels that y_train lacks: 5"]),
        (parts(y_test=np.array(["2", "1", "2"])), ["y_train is int64, but y_test is <U1"]),
        (parts(y_train=np.full(6, 2)), ["y_train holds one class, 2", "two or more"]),
        (
            parts(X_train=pixels(0, 4, 4), y_train=np.zeros(0, int)),
            ["X_train has shape (0, 4, 4)", "nothing"],
        ),
        (
            parts(X_test=pixels(0, 4, 4), y_test=np.zeros(0, int)),
            ["X_test has shape (0, 4, 4)", "nothing"],
        ),
        (parts(X_train=pixels(6, 0, 4), X_test=pixels(3, 0, 4)), ["X_train has shape (6, 0, 4)"]),
        ({"X": pixels(8, 2), "y": np.arange(7)}, ["X has 8 rows, but y has 7 labels"]),
        ({"X": pixels(8, 2), "y": np.ones(8, int)}, ["y holds one class, 1"]),
        ({"X": pixels(8, 2), "y": np.array([0] * 7 + [1])}, ["no quarter of X and y", "class"]),
        ({"X": pixels(0, 2), "y": np.zeros(0, int)}, ["X has shape (0, 2)"]),
    ],
)
def test_npz_that_makes_no_data_set(arrays, words, npz):
    path = npz(**arrays)
    refused(ValueError, f"name={str(path)!r}", *words, name=path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["X_train", "X_test"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npz_with_a_value_that_is_not_finite(value, part, dtype, npz):
    arrays = parts(X_train=np.ones((6, 4, 4), dtype), X_test=np.ones((3, 4, 4), dtype))
    arrays[part][1, 2, 3] = value
    refused(ValueError, part, "NaN" if np.isnan(value) else "infinity", name=npz(**arrays))


def test_many_classes_are_counted_and_not_listed(npz):
    path = npz(**parts(X_test=pixels(40, 4, 4), y_test=np.arange(40)))
    refused(ValueError, "lacks: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 27 more", name=path)
