"""Folders of images as people have them; what cannot be used is skipped, and said."""

import os
import pathlib
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from antibackdoor.attacks import SIG, BadNets, Blend, Composite
from antibackdoor.datasets import (
    load_arrays,
    load_image_folder,
    open_image_folder,
    poison_image_folder,
)

RNG = np.random.default_rng(0)
WHITE = (255, 255, 255)
RED, GREEN = (255, 0, 0), (0, 255, 0)


def noise(*shape):
    return Image.fromarray(RNG.integers(0, 256, shape).astype(np.uint8))


def save(path, image, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


def plain(mode, colour, size=(8, 8)):
    return Image.new(mode, size, colour)


@pytest.fixture
def folder(tmp_path):
    """Two classes of two RGB images of 8 x 8 pixels."""
    root = tmp_path / "photos"
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        save(root / name, noise(8, 8, 3))
    return root


def reasons(images):
    return dict(images.skipped)


# What is decoded ---------------------------------------------------------------------------------


def test_names_and_classes_go_with_their_rows(folder):
    save(folder / "dog" / "more" / "a b.png", plain("RGB", RED))
    images = load_image_folder(folder)
    assert images.file_names == [
        *("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "dog/more/a b.png"),
    ]
    assert images.y.tolist() == ["cat", "cat", "dog", "dog", "dog"]
    assert (images.X.shape, images.X.dtype) == ((5, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(images.X[0], np.asarray(Image.open(folder / "cat/1.png")))
    assert (images.X[4] == RED).all()
    assert images.skipped == images.remarks == []
    assert images.n_cropped == 0


@pytest.mark.parametrize(
    ("image", "how", "wanted"),
    [
        (plain("L", 7), {}, (7, 7, 7)),
        (plain("1", 1), {}, WHITE),
        (plain("LA", (7, 0)), {}, WHITE),
        (plain("RGBA", (*GREEN, 0)), {}, WHITE),
        (plain("RGBA", (*GREEN, 255)), {}, GREEN),
        (plain("RGB", RED).convert("P"), {}, RED),
        (plain("RGB", RED), {"transparency": RED}, WHITE),
        (plain("RGB", RED).convert("P"), {"transparency": 0}, None),
        (Image.fromarray(np.full((8, 8), 0x0780, np.uint16)), {}, (0x78,) * 3),  # of 12 bits
    ],
)
def test_every_mode_of_png_becomes_rgb(image, how, wanted, folder):
    save(folder / "cat/3.png", image, **how)
    images = load_image_folder(folder)
    assert images.X.shape == (5, 8, 8, 3)
    if wanted is not None:
        assert (images.X[2] == wanted).all()
    assert images.skipped == []


@pytest.mark.parametrize("ending", ["bmp", "gif", "jpg", "ppm", "tiff", "webp"])
def test_formats(ending, folder):
    save(folder / f"cat/3.{ending}", plain("RGB", RED))
    assert abs(load_image_folder(folder).X[2].astype(int) - RED).max() < 3


def test_cmyk(folder):
    save(folder / "cat/3.jpg", plain("CMYK", (0, 255, 255, 0)))
    assert abs(load_image_folder(folder).X[2].astype(int) - RED).max() < 3


def test_sixteen_bits_of_a_tiff_and_numbers_whose_white_is_not_known(folder):
    save(folder / "cat/3.tiff", Image.fromarray(np.full((8, 8), 65_535, np.int32)))
    save(folder / "cat/4.tiff", Image.fromarray(np.full((8, 8), 65_536, np.int32)))
    save(folder / "cat/5.tiff", Image.fromarray(np.full((8, 8), 0.5, np.float32)))
    images = load_image_folder(folder)
    assert (images.X[2] == 255).all()
    assert "65536" in reasons(images)["cat/4.tiff"]
    assert "floats" in reasons(images)["cat/5.tiff"]


GREY = RNG.integers(0, 256, (20, 20)).astype(np.uint16)
GREY[0, :2] = 0, 255


def deep(values, ending, tmp_path):
    """Files of both classes that hold these values, and what is read of them, in two ways."""
    for number, name in enumerate("ab"):
        image = Image.fromarray(values[number] if isinstance(values, tuple) else values)
        save(tmp_path / name / f"x.{ending}", image)
    images, lazy = load_image_folder(tmp_path), open_image_folder(tmp_path)
    np.testing.assert_array_equal(lazy.X[:], images.X)
    assert lazy.remarks == images.remarks
    return images


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(
    ("dtype", "ending"),
    [("uint16", "png"), ("uint16", "tif"), (">u2", "tif"), ("int32", "tif"), ("uint16", "pgm")],
)
def test_grey_files_keep_their_levels_whatever_bits_they_use(bits, dtype, ending, tmp_path):
    images = deep((GREY << (bits - 8)).astype(dtype), ending, tmp_path)
    np.testing.assert_array_equal(images.X[0, :, :, 0], GREY)
    assert len(images.remarks) == (0 if bits == 16 else 2)
    assert all(f"use {bits} bits: {2**bits - 1:,} is white" in said for _, said in images.remarks)


def test_grey_files_of_a_folder_have_one_white(tmp_path):
    images = deep((GREY << 4, GREY << 2), "png", tmp_path)
    np.testing.assert_array_equal(images.X[1], images.X[0] >> 2)
    assert [said.partition(":")[0] for _, said in images.remarks] == [
        f"its grey levels use {bits} bits" for bits in (12, 10)
    ]


def test_a_dark_grey_file_beside_one_of_16_bits_is_remarked_on(tmp_path):
    images = deep((GREY << 8, GREY), "png", tmp_path)
    assert images.remarks == [
        ("b/x.png", "its grey levels use 8 of 16 bits, and other images all: it is dark")
    ]


def test_dark_colours_of_16_bits_are_remarked_on(folder):
    for name, brightest in (("dark", 4095), ("bright", 65_535)):
        values = np.linspace(0, brightest, 64 * 3).astype(">u2").reshape(8, 8, 3)
        (folder / f"cat/{name}.png").write_bytes(png_of_16_bits(values))
    remarks = dict(load_image_folder(folder).remarks)
    assert list(remarks) == ["cat/dark.png"]
    assert "go up to 15 of 255" in remarks["cat/dark.png"]


@pytest.mark.parametrize(
    ("values", "tags", "why"),
    [
        (np.full((8, 8), -3, np.int32), {}, "-3"),
        (np.full((8, 8), 70_000, np.int32), {}, "70000"),
        (np.full((8, 8), 0.5, np.float32), {}, "floats"),
        (np.full((8, 8), 200, np.uint8), {339: 2}, "signed"),
    ],
)
def test_pixels_whose_white_is_not_known_are_skipped(values, tags, why, folder):
    save(folder / "cat/3.tif", Image.fromarray(values), tiffinfo=tags)
    assert why in reasons(load_image_folder(folder))["cat/3.tif"]


def test_white_is_zero_and_a_transparent_grey_of_16_bits(tmp_path):
    save(tmp_path / "a/x.tif", Image.fromarray(GREY << 8), tiffinfo={262: 0})
    save(tmp_path / "b/x.png", Image.fromarray(GREY << 8), transparency=0)
    X = load_image_folder(tmp_path).X[..., 0]
    with Image.open(tmp_path / "a/x.tif") as image:
        assert image.tag_v2[262] == 0
    np.testing.assert_array_equal(X[0], 255 - GREY)
    np.testing.assert_array_equal(X[1], np.where(GREY == 0, 255, GREY))


def test_grey_stays_one_channel_where_all_are_grey(tmp_path):
    for name, image in {
        "a/1.png": plain("L", 7),
        "a/2.png": plain("LA", (7, 255)),
        "b/1.png": plain("1", 1),
        "b/2.png": Image.fromarray(np.full((8, 8), 0xF780, np.uint16)),
    }.items():
        save(tmp_path / name, image)
    images = load_image_folder(tmp_path)
    assert images.X.shape == (4, 8, 8, 1)
    assert images.X[:, 0, 0, 0].tolist() == [7, 7, 255, 0xF7]


def test_exif_turns_the_image_upright(tmp_path):
    lying = Image.new("RGB", (16, 8), RED)
    lying.paste(GREEN, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    for name in ("a/1.jpg", "b/1.jpg"):
        save(tmp_path / name, lying, exif=exif, quality=95)
    images = load_image_folder(tmp_path)
    assert images.X.shape == (2, 16, 8, 3)
    assert (images.X[0, 2:6, 2:6, 1] > 200).all()
    assert (images.X[0, 10:14, 2:6, 0] > 200).all()


def test_the_first_of_several_frames_and_a_remark(folder):
    frames = [plain("RGB", RED), plain("RGB", GREEN)]
    save(folder / "cat/3.gif", frames[0], save_all=True, append_images=frames[1:])
    images = load_image_folder(folder)
    assert (images.X[2] == RED).all()
    assert images.remarks == [("cat/3.gif", "only the first of its 2 frames is used")]


# Sizes -------------------------------------------------------------------------------------------


def test_a_size_that_most_have_is_kept(folder):
    save(folder / "dog/3.png", noise(30, 40, 3))
    images = load_image_folder(folder)
    assert images.X.shape == (5, 8, 8, 3)
    assert images.n_cropped == 1
    np.testing.assert_array_equal(images.X[0], np.asarray(Image.open(folder / "cat/1.png")))


@pytest.mark.parametrize(
    ("side", "wanted"), [(10, 32), (48, 32), (49, 64), (80, 64), (81, 96), (170, 128), (900, 224)]
)
def test_many_sizes_become_the_side_nearest_to_the_median(side, wanted, tmp_path):
    for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        save(tmp_path / name, plain("L", 9, (side, side + number)))
    assert load_image_folder(tmp_path).X.shape == (3, wanted, wanted, 1)


def test_a_large_size_is_not_kept_though_all_have_it(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        save(tmp_path / name, plain("L", 9, (300, 225)))
    assert load_image_folder(tmp_path).X.shape == (2, 224, 224, 1)


@pytest.mark.parametrize("load", [load_image_folder, open_image_folder])
@pytest.mark.parametrize(
    ("side", "max_size", "wanted"), [(70, 224, 70), (70, 64, 64), (40, 64, 40), (70, 16, 16)]
)
def test_a_size_that_is_not_asked_for_has_a_limit(load, side, max_size, wanted, tmp_path):
    for name in ("a/1.png", "b/1.png"):
        save(tmp_path / name, plain("L", 9, (side, side)))
    images = load(tmp_path, max_size=max_size)
    assert images.X.shape == (2, wanted, wanted, 1)
    assert images.usual_side == side
    assert load(tmp_path, size=side, max_size=max_size).X.shape[1] == side


def test_the_usual_side_is_that_in_the_middle(tmp_path):
    for number, shape in enumerate([(40, 40), (40, 40), (70, 90), (80, 75), (99, 98)]):
        save(tmp_path / f"{number % 2}/{number}.png", plain("L", 9, shape))
    assert load_image_folder(tmp_path, max_size=16).usual_side == 70


def test_the_middle_is_kept_or_all_of_it(tmp_path):
    wide = plain("RGB", GREEN, (64, 16))
    wide.paste(RED, (0, 0, 20, 16))
    wide.paste(RED, (44, 0, 64, 16))
    for name in ("a/1.png", "b/1.png"):
        save(tmp_path / name, wide)
    middle = load_image_folder(tmp_path, size=8)
    assert (middle.X == GREEN).all()
    assert middle.n_cropped == 2
    whole = load_image_folder(tmp_path, size=8, crop=False)
    assert (whole.X[:, :, [0, 7]] == RED).all()
    assert (whole.X[:, :, 4, 1] > whole.X[:, :, 4, 0]).all()
    assert whole.n_cropped == 0


def test_resizing_smooths(tmp_path):
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    for name in ("a/1.png", "b/1.png"):
        save(tmp_path / name, board)
    assert abs(load_image_folder(tmp_path, size=8).X.astype(int) - 127).max() < 20


def test_a_strip_takes_no_more_memory_than_it_has(folder):
    save(folder / "cat/3.png", plain("RGB", RED, (1, 50_000)))
    assert (load_image_folder(folder, size=64).X[2] == RED).all()


# What is skipped ---------------------------------------------------------------------------------


def png_of_16_bits(values):
    """A PNG of colours of 16 bits, which Pillow reads and does not write."""
    import zlib

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, _ = values.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png_that_says(width, height):
    """A PNG of this size by its head, and no pixels."""
    import zlib

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_what_is_no_image_is_skipped_and_listed(folder):
    save(folder / "cat/cut.png", noise(40, 40, 3))
    (folder / "cat/cut.png").write_bytes((folder / "cat/cut.png").read_bytes()[:2000])
    save(folder / "cat/cut.jpg", noise(90, 90, 3))
    (folder / "cat/cut.jpg").write_bytes((folder / "cat/cut.jpg").read_bytes()[:3000])
    (folder / "cat/zero.png").touch()
    (folder / "cat/notes.txt").write_text("not an image")
    (folder / "cat/program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    (folder / "cat/bomb.png").write_bytes(png_that_says(10_000, 10_000))
    (folder / "cat/huge.png").write_bytes(png_that_says(30_000, 30_000))
    (folder / "cat/.hidden.png").write_text("not looked at")
    (folder / ".git").mkdir()
    (folder / "loose.png").touch()
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken/1.png").write_text("x")
    images = load_image_folder(folder)
    assert images.file_names == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"]
    assert images.X.shape == (4, 8, 8, 3)
    found = reasons(images)
    assert len(found) == len(images.skipped) == 11
    assert "truncated" in found["cat/cut.png"]
    assert "truncated" in found["cat/cut.jpg"]
    assert found["cat/zero.png"] == "it is empty"
    assert "no image of a format that is read here" in found["cat/notes.txt"]
    assert "no image of a format that is read here" in found["cat/program.eps"]
    assert "decompression bomb" in found["cat/bomb.png"]
    assert "decompression bomb" in found["cat/huge.png"]
    assert found["loose.png"] == "it is in no class folder"
    assert found["empty/"] == "no file in this class folder may be an image"
    assert found["broken/"] == "no image of this class folder could be used"
    assert "format" in found["broken/1.png"]


def test_links(folder, tmp_path):
    secret = tmp_path / "elsewhere/secret.png"
    save(secret, plain("RGB", RED))
    try:
        (folder / "cat/out.png").symlink_to(secret)
    except OSError:
        pytest.skip("this user may not make links here")
    (folder / "cat/nothing.png").symlink_to(folder / "cat/absent.png")
    (folder / "cat/itself.png").symlink_to(folder / "cat/itself.png")
    (folder / "cat/loop").symlink_to(folder)
    (folder / "bird").symlink_to(tmp_path / "elsewhere")
    (folder / "dog/inside.png").symlink_to(folder / "dog/1.png")
    images = load_image_folder(folder)
    assert images.file_names[-1] == "dog/inside.png"
    assert len(images.X) == 5
    found = reasons(images)
    assert found["cat/out.png"] == "it is a link that leads out of the folder"
    assert found["cat/nothing.png"] == "it is a link to nothing"
    assert found["cat/loop"] == found["bird"] == "it is a link to a folder"
    assert "cat/itself.png" in found


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "cat/pipe.png")
    assert reasons(load_image_folder(folder)) == {"cat/pipe.png": "it is no regular file"}


@pytest.mark.skipif(sys.platform != "linux", reason="names elsewhere are text")
def test_names_that_are_no_text(folder):
    (folder / "cat/1.png").rename(folder / os.fsdecode(b"cat/\xff\n.png"))
    images = load_image_folder(folder)
    assert os.fsencode(images.file_names[1]) == b"cat/\xff\n.png"


def test_a_file_without_rights_is_listed(folder, monkeypatch):
    opened = Image.open

    def refuse(path, *args, **how):
        if path.name == "1.png" and path.parent.name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **how)

    monkeypatch.setattr(Image, "open", refuse)
    images = load_image_folder(folder)
    assert len(images.X) == 3
    assert "Permission denied" in reasons(images)["cat/1.png"]


def test_damaged_bytes_never_stop_the_others(folder):
    """Whatever a decoder makes of them: the file is used, or listed, or both with a remark."""
    rng = np.random.default_rng(1)
    for ending in ("bmp", "gif", "jpg", "png", "tiff", "webp"):
        for number in range(12):
            path = folder / f"cat/x{number}.{ending}"
            save(path, noise(12, 12, 3))
            content = bytearray(path.read_bytes())
            for place in rng.integers(0, len(content), 6):
                content[place] = rng.integers(256)
            path.write_bytes(content)
    images = load_image_folder(folder, size=8)
    assert len(images.file_names) + len(images.skipped) == 4 + 72
    assert {"cat/1.png", "dog/2.png"} <= set(images.file_names)
    assert len(images.skipped) > 5


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "message", "how"),
    [
        (TypeError, "size='8'", {"size": "8"}),
        (TypeError, "size=True", {"size": True}),
        (ValueError, "size=0", {"size": 0}),
        (ValueError, "max_size=0", {"max_size": 0}),
        (TypeError, "max_size=None", {"max_size": None}),
    ],
)
def test_bad_sizes(kind, message, how, folder):
    with pytest.raises(kind, match=message):
        load_image_folder(folder, **how)


def test_rows_that_do_not_fit_into_memory(folder):
    with pytest.raises(ValueError, match=r"size=1000000: .* GB of memory, and this machine has"):
        load_image_folder(folder, size=1_000_000)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_image_folder(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        load_image_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in a class folder"):
        load_image_folder(tmp_path / "empty")


def test_one_class_says_what_was_skipped(folder):
    for number in (1, 2):
        (folder / f"dog/{number}.png").write_text("x")
    with pytest.raises(ValueError, match=r"one class, 'cat'.*Skipped: 'dog/1.png'.*no image of"):
        load_image_folder(folder)


def test_a_class_that_cannot_be_read_is_not_left_out(folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="dog"):
        load_image_folder(folder)


# Poisoned copies ---------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """Three classes of ten images, of two sizes, grey and in colour."""
    root = tmp_path / "mixed"
    for label in ("a", "b", "c"):
        for number in range(10):
            shape = [(8, 8, 3), (10, 12, 3), (9, 9)][number % 3]
            save(root / label / f"{label}{number}.png", noise(*shape))
    return root


def test_each_image_is_stamped_in_its_own_size(mixed, tmp_path):
    (mixed / "a/broken.png").write_text("x")
    out = tmp_path / "out"
    files, skipped = poison_image_folder(
        mixed, out, attack=BadNets(target_label="a"), poison_rate=0.3, random_state=0
    )
    assert [name for name, _ in skipped] == ["a/broken.png"]
    assert len(files) == 30
    assert sum(file.is_poison for file in files) == 9
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == {
        file.name for file in files
    }
    shapes = set()
    for file in files:
        before, after = mixed / file.original_name, out / file.name
        label = file.name.split("/")[0]
        if not file.is_poison:
            assert after.read_bytes() == before.read_bytes()
            assert label == file.original_label == file.original_name.split("/")[0]
            continue
        assert label == "a" != file.original_label
        clean, stamped = np.asarray(Image.open(before)), np.asarray(Image.open(after))
        np.testing.assert_array_equal(
            stamped, BadNets(layout="channels_last").fit_transform(clean[None])[0]
        )
        shapes.add(clean.shape)
    assert len(shapes) == 3


def test_nothing_in_the_copy_tells(mixed, tmp_path):
    out = tmp_path / "out"
    files, _ = poison_image_folder(
        mixed, out, attack=BadNets(target_label="a"), poison_rate=0.3, random_state=0
    )
    numbers = [int(file.name.split("/")[1].removesuffix(".png")) for file in files]
    assert sorted(numbers) == list(range(1, 31))
    of_a = [file for file in files if file.name.startswith("a/")]
    places = [rank for rank, file in enumerate(of_a) if file.is_poison]
    assert places[0] < 5
    assert places != list(range(places[0], places[0] + len(places)))
    assert {path.name for path in tmp_path.iterdir()} == {"mixed", "out"}


def test_the_same_seed_gives_the_same_copy(mixed, tmp_path):
    def poison(out, seed):
        poison_image_folder(
            mixed, out, attack=Blend(target_label="b"), poison_rate=0.2, random_state=seed
        )
        return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.png")}

    first = poison(tmp_path / "first", 0)
    assert poison(tmp_path / "second", 0) == first
    assert poison(tmp_path / "third", 1) != first


def test_an_attack_that_learns_from_the_images(folder, mixed, tmp_path):
    for number in range(3, 8):
        save(folder / f"cat/{number}.png", noise(8, 8, 3))
        save(folder / f"dog/{number}.png", noise(8, 8, 3))
        save(folder / f"emu/{number}.png", noise(8, 8, 3))
    files, _ = poison_image_folder(
        folder,
        tmp_path / "out",
        attack=Composite(target_label="cat"),
        poison_rate=0.25,
        random_state=0,
    )
    assert {file.original_label for file in files if file.is_poison} == {"emu"}
    assert any(file.is_cover for file in files)
    for file in files:
        before, after = folder / file.original_name, tmp_path / "out" / file.name
        same = before.read_bytes() == after.read_bytes()
        assert same == (not file.is_poison and not file.is_cover)
        if file.is_cover:
            assert file.name.startswith(file.original_label)
    with pytest.raises(ValueError, match="Composite.*one size.*3 kinds"):
        poison_image_folder(mixed, tmp_path / "no", attack=Composite(target_label="a"))
    assert not (tmp_path / "no").exists()


def test_a_clean_label_attack_keeps_the_labels(folder, tmp_path):
    for number in range(3, 8):
        save(folder / f"cat/{number}.png", noise(8, 8, 3))
    files, _ = poison_image_folder(
        folder, tmp_path / "out", attack=SIG(target_label="cat"), poison_rate=0.2, random_state=0
    )
    assert [file.original_label for file in files if file.is_poison] == ["cat", "cat"]
    assert all(file.name.startswith(file.original_label) for file in files)


@pytest.mark.parametrize(
    ("attack", "rate", "message"),
    [
        (BadNets(target_label="z"), 0.1, "target_label='z'"),
        (BadNets(target_label="a"), 1.5, "poison_rate=1.5"),
        (BadNets(target_label="a"), 0.9, "can poison only 20"),
        (BadNets(target_label="a", size=9), 0.5, "images of 8 x 8 pixels: size=9"),
        (Blend(target_label="a", alpha=1e-9), 0.1, "changes none of the 3 images"),
    ],
)
def test_what_cannot_be_poisoned(attack, rate, message, mixed, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        poison_image_folder(mixed, out, attack=attack, poison_rate=rate, random_state=0)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mixed"]


def test_a_copy_goes_nowhere_where_something_is(mixed, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    poison_image_folder(mixed, out, attack=BadNets(target_label="a"), random_state=0)
    with pytest.raises(FileExistsError, match="out"):
        poison_image_folder(mixed, out, attack=BadNets(target_label="a"), random_state=0)


# Arrays ------------------------------------------------------------------------------------------


def test_arrays_of_npz_and_npy(tmp_path):
    X, y = RNG.integers(0, 256, (6, 4, 4)).astype(np.uint8), np.array(["a", "b"] * 3)
    np.savez(tmp_path / "one.npz", X=X, y=y)
    np.savez(tmp_path / "train.npz", X_train=X, y_train=y)
    np.savez(tmp_path / "two.npz", X_train=X, y_train=y, X_test=X[:2], y_test=y[:2])
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    for arrays in (
        load_arrays(tmp_path / "one.npz"),
        load_arrays(tmp_path / "X.npy", tmp_path / "y.npy"),
    ):
        assert sorted(arrays) == ["X", "y"]
        np.testing.assert_array_equal(arrays["X"], X, strict=True)
        np.testing.assert_array_equal(arrays["y"], y, strict=True)
    assert list(load_arrays(tmp_path / "train.npz")) == ["X_train", "y_train"]
    assert len(load_arrays(tmp_path / "two.npz")) == 4


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((4, 2, 2)), np.arange(3), "X has 4 rows, but y has 3 labels"),
        (np.zeros((4, 2, 2)), np.zeros(4, int), "one class, 0"),
        (np.full((4, 2, 2), np.nan), np.arange(4), "NaN"),
        (np.array([print] * 4, dtype=object), np.arange(4), "X.npy is an array of Python objects"),
        (b"text", np.arange(4), "X.npy is no .npy file"),
        (b"\x93NUMPY\x01\x00\x04\x00oops", np.arange(4), "X.npy"),
    ],
)
def test_npy_files_that_cannot_be_used(X, y, message, tmp_path):
    if isinstance(X, bytes):
        (tmp_path / "X.npy").write_bytes(X)
    else:
        np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    with pytest.raises(ValueError, match=message):
        load_arrays(tmp_path / "X.npy", tmp_path / "y.npy")
    with pytest.raises(FileNotFoundError, match="labels_path=.*z.npy"):
        load_arrays(tmp_path / "X.npy", tmp_path / "z.npy")


def test_of_two_that_write_one_folder_the_second_is_refused(mixed, tmp_path, monkeypatch):
    out = tmp_path / "out"
    settings = {"attack": BadNets(target_label="a"), "poison_rate": 0.5, "random_state": 0}
    rename = pathlib.Path.rename

    def rename_second(self, target):
        monkeypatch.setattr(pathlib.Path, "rename", rename)
        poison_image_folder(mixed, out, **settings)  # another one, just before
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", rename_second)
    with pytest.raises(FileExistsError, match="out=.* is there already"):
        poison_image_folder(mixed, out, **{**settings, "random_state": 1})
    alone = tmp_path / "alone"
    poison_image_folder(mixed, alone, **settings)
    for path in alone.rglob("*.*"):
        assert (out / path.relative_to(alone)).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "mixed", "out"]
