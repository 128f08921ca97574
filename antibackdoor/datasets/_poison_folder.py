"""Poisoning of a folder of images."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from antibackdoor.attacks import BaseAttack
from antibackdoor.datasets._image_files import Listing, class_of, list_image_files
from antibackdoor.datasets._images import UnreadableImageError, find_depth, read_image
from antibackdoor.datasets._poison import draw_rows


@dataclass(frozen=True)
class PoisonedFile:
    """One image of a poisoned folder: its new and old name, and whether it is poison.

    Attributes
    ----------
    name : str
        Path in the poisoned folder, with ``/``. Its first part is the label.
    original_name : str
    original_label : str
    is_poison, is_cover : bool
        Whether it has the trigger; whether it is a changed cover image, which keeps its label.

    Examples
    --------
    >>> from antibackdoor.datasets import PoisonedFile
    >>> file = PoisonedFile("cat/00001.png", "dog/7.jpg", "dog", is_poison=True, is_cover=False)
    >>> file.name.split("/")[0], file.original_label
    ('cat', 'dog')
    """

    name: str
    original_name: str
    original_label: str
    is_poison: bool
    is_cover: bool


def poison_image_folder(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    attack: BaseAttack,
    poison_rate: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[list[PoisonedFile], list[tuple[str, str]]]:
    """Write a poisoned copy of a folder of images, to try defences on it.

    Poisoned images and cover images are written as PNG files in their own size; all others are
    copied unchanged. All get new names, numbers in random order: a kept name would reveal the
    original class. Nothing in the copy shows which images are poisoned.

    Parameters
    ----------
    directory : str or path
        Folder of the class folders. Never changed.
    out : str or path
        Folder of the copy: new or empty. It is written completely or not at all.
    attack : BaseAttack
        Its labels are the names of the class folders. An attack with a learned trigger is fitted
        on all images, which must have one size then. Any other attack is fitted for each size.
    poison_rate : float, default=0.1
        Poisoned images as a share of ALL images.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of images and of the numbers in their names.

    Returns
    -------
    files : list of PoisonedFile
        All images of the copy, sorted by their names.
    skipped : list of (str, str)
        Files that were not copied, and why: broken images and other files.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, FileExistsError
        If there is no such folder, or `out` is not empty.
    OSError
        If a file cannot be read or written.
    ValueError
        If an argument is out of range, there are too few images, or the attack cannot be used
        on images of these sizes.
    TypeError
        If an argument is of a wrong type.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from antibackdoor.attacks import BadNets
    >>> from antibackdoor.datasets import poison_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, "photos", name).mkdir(parents=True)
    ...         for i in range(3):
    ...             Image.new("L", (8, 8)).save(Path(folder, "photos", name, f"{i}.png"))
    ...     files, skipped = poison_image_folder(
    ...         Path(folder, "photos"),
    ...         Path(folder, "poisoned"),
    ...         attack=BadNets(target_label="cat"),
    ...         poison_rate=0.2,
    ...         random_state=0,
    ...     )
    >>> [(file.original_label, file.name.split("/")[0]) for file in files if file.is_poison]
    [('dog', 'cat')]
    """
    target = Path(out).expanduser()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise _there_already(out)
    listing = list_image_files(directory)
    depth = find_depth(listing.root / name for name in listing.names)
    names, shapes = _measure(listing, depth)
    labels = np.array([class_of(name) for name in names])
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"directory={str(directory)!r} holds images of {len(np.unique(labels))} classes; "
            f"wanted two or more, a folder for each."
        )
    rng = check_random_state(random_state)
    poisoned, cover = draw_rows(attack, labels, poison_rate, rng)
    numbers = rng.permutation(len(names)) + 1
    changed = _stamp(
        _Originals(listing, names, labels, shapes, depth), attack, poisoned, cover, rng
    )
    is_poison = np.zeros(len(names), dtype=bool)
    is_poison[poisoned] = True
    new_labels = np.where(is_poison, attack.transform_target(labels), labels)
    digits = len(str(len(names)))
    files = [
        PoisonedFile(
            name=f"{new_labels[row]}/{numbers[row]:0{digits}d}"
            f"{'.png' if row in changed else Path(name).suffix.lower()}",
            original_name=name,
            original_label=str(labels[row]),
            is_poison=bool(is_poison[row]),
            is_cover=row in changed and not is_poison[row],
        )
        for row, name in enumerate(names)
    ]
    _write(target, listing, files, changed)
    return sorted(files, key=lambda file: file.name), sorted(listing.skipped)


@dataclass(frozen=True)
class _Originals:
    """The images that can be poisoned, with paths and sizes."""

    listing: Listing
    names: list[str]
    labels: np.ndarray
    shapes: list[tuple[int, ...]]
    depth: int | None

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Return images of one size, uint8 (n, H, W) or (n, H, W, 3)."""
        return np.stack([_decode(self.listing, self.names[row], self.depth) for row in rows])

    def by_shape(self, rows: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
        """Return the rows of each shape, in their order."""
        groups = defaultdict(list)
        for row in rows.tolist():
            groups[self.shapes[row]].append(row)
        return {shape: np.array(members) for shape, members in groups.items()}


def _measure(listing: Listing, depth: int | None) -> tuple[list[str], list[tuple[int, ...]]]:
    """Decode all images to find broken ones, and return the shapes of the others."""
    names, shapes = [], []
    for name in listing.names:
        try:
            pixels = _decode(listing, name, depth)
        except UnreadableImageError as error:
            listing.skipped.append((name, str(error)))
        else:
            names.append(name)
            shapes.append(pixels.shape)
    return names, shapes


def _decode(listing: Listing, name: str, depth: int | None) -> np.ndarray:
    return np.asarray(read_image(listing.root / name, depth)[0])


def _stamp(
    originals: _Originals,
    attack: BaseAttack,
    poisoned: np.ndarray,
    cover: np.ndarray,
    rng: np.random.RandomState,
) -> dict[int, np.ndarray]:
    """Return the changed images, by row."""
    if attack.trigger_is_learned:
        _check_one_shape(attack, originals.shapes)
    changed: dict[int, np.ndarray] = {}
    poisoned_by_shape, cover_by_shape = originals.by_shape(poisoned), originals.by_shape(cover)
    none = np.array([], dtype=np.int64)
    for shape in sorted(poisoned_by_shape.keys() | cover_by_shape.keys()):
        to_poison, to_cover = poisoned_by_shape.get(shape, none), cover_by_shape.get(shape, none)
        fitted = _fit(attack, originals, np.concatenate([to_poison, to_cover])[0])
        for rows, transform in (
            (to_poison, fitted.transform_training),
            (to_cover, fitted.transform_cover),
        ):
            if len(rows) == 0:
                continue
            before = originals.decode(rows)
            after = transform(before, originals.labels[rows], random_state=rng)
            differ = (after != before).reshape(len(rows), -1).any(axis=1)
            changed.update(zip(rows[differ].tolist(), after[differ], strict=True))
    if not any(row in changed for row in poisoned):
        raise ValueError(
            f"attack={attack!r} changes none of the {len(poisoned)} images it was given: the "
            f"trigger is not visible in them; give other parameters."
        )
    return changed


def _fit(attack: BaseAttack, originals: _Originals, example: int) -> BaseAttack:
    """Return a copy of the attack, fitted to images of the shape of this one."""
    fitted: BaseAttack = clone(attack)
    if fitted.layout == "auto":
        fitted.set_params(layout="channels_last")  # as they are decoded, whatever their size
    if attack.trigger_is_learned:
        return fitted.fit(originals.decode(np.arange(len(originals.names))), originals.labels)
    # It learns only their shape.
    images = originals.decode(np.array([example]))
    try:
        return fitted.fit(images)
    except ValueError as error:
        height, width = images.shape[1:3]
        raise ValueError(f"images of {width} x {height} pixels: {error}") from error


def _check_one_shape(attack: BaseAttack, shapes: list[tuple[int, ...]]) -> None:
    n_shapes = len(set(shapes))
    if n_shapes > 1:
        raise ValueError(
            f"attack={attack!r} makes its trigger from the images themselves, which must have one "
            f"size and be all grey or all in colour for that; here they are of {n_shapes} kinds. "
            f"Resize them first, or choose an attack whose trigger is not learned, such as "
            f"'badnets'."
        )


def _write(
    target: Path, listing: Listing, files: list[PoisonedFile], changed: dict[int, np.ndarray]
) -> None:
    """Write next to the target, and move it there when it is complete."""
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".poison-") as part:
        copy = Path(part) / "copy"
        for row, file in enumerate(files):
            path = copy / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if row in changed:
                Image.fromarray(changed[row]).save(path, format="PNG")
            else:
                shutil.copyfile(listing.root / file.original_name, path)
        try:
            if target.exists():
                target.rmdir()  # empty; some systems do not move a folder onto another
            copy.rename(target)
        except OSError as error:
            if target.is_dir() and any(target.iterdir()):  # another process was faster
                raise _there_already(target) from error
            raise


def _there_already(out: str | os.PathLike[str]) -> FileExistsError:
    return FileExistsError(
        f"out={os.fspath(out)!r} is there already; wanted a new or empty folder."
    )
