"""Pictures with the people they show: from folders, lists, arrays and data sets.

Axes: n pictures, c channels (1 grey, 3 colour), h height, w width.
"""

import csv
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from siamlearn.data.image_set import ImageSet
from siamlearn.data.pixels import as_bytes, as_shape, require_shape
from siamlearn.data.reading import (
    SUFFIXES,
    decode,
    extent,
    natural,
    read_all,
    read_file,
    typical_size,
    without_empty_colour,
)

__all__ = ["ImageSet", "from_arrays", "from_csv", "from_folder", "from_torchvision", "read_image"]


def from_folder(
    root: str | PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    grey: bool | None = None,
    skip_unreadable: bool | int = False,
    progress: bool | None = None,
) -> ImageSet:
    """Pictures from a folder that has one folder for each person, named after them.

    Every file with the ending of a picture is read, by its content, so a wrong ending does no
    harm; hidden files and files of other kinds are passed over. People and pictures are in
    natural order, s2 before s10. Pictures are turned as their EXIF says.

    Args:
        size: height and width in pixels, to which pictures are stretched; None for their own
            where all are alike, else for the median height and width. A size that was not asked
            for is at most 160 pixels on its longer side.
        grey: True for grey pictures, False for colour; None for colour where any picture has some.
        skip_unreadable: go on without pictures that cannot be read, and without people who have
            none, with a warning that counts and names them; True for any number, or how many
            pictures at most. Samplers draw others of the same person in their place.
        progress: whether to show a progress bar; None for one that appears in a terminal when
            reading takes longer than a second.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: when it holds no folders with pictures, when a person has none, or when
            pictures cannot be read, or more than may be: all of them are named.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("anna/1.png", "anna/2.png", "bob/1.png"):
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     Image.new("L", (92, 112)).save(root / name)
        >>> from_folder(root)
        ImageSet(3 pictures of 2 people: anna, bob; grey, 112 x 92; 1 to 2 each)
    """
    folder = Path(root)
    people = _people_in(folder)
    _require_pictures(people, where=folder, skip=skip_unreadable)
    pictures = [
        (f"{person}/{file.name}", person, file)
        for person, files in people.items()
        for file in files
    ]
    return _read(
        pictures, where=folder, size=size, grey=grey, skip=skip_unreadable, progress=progress
    )


def _people_in(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        msg = (
            f"a folder with one folder of pictures for each person is needed, "
            f"but {folder} is {what}; check the path"
        )
        raise FileNotFoundError(msg)
    inside = [
        entry
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    ]
    inside.sort(key=lambda entry: natural(entry.name))
    people = {entry.name: _pictures_in(entry) for entry in inside}
    if not any(people.values()):
        msg = f"one folder of pictures for each person is needed, but {_what_is_in(folder, inside)}"
        raise ValueError(msg)
    return people


def _pictures_in(folder: Path) -> list[Path]:
    files = [
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    ]
    return sorted(files, key=lambda file: natural(file.name))


def _what_is_in(folder: Path, inside: list[Path]) -> str:
    direct = len(_pictures_in(folder))
    if direct:
        return (
            f"{folder} has {direct} pictures and no folders with any; "
            "move the pictures of each person into a folder with the person's name"
        )
    for entry in inside:
        if any(_pictures_in(deeper) for deeper in entry.iterdir() if deeper.is_dir()):
            return f"the pictures in {folder} lie one folder deeper; did you mean {entry}?"
    return (
        f"{folder} has no pictures in its {len(inside)} folders; "
        f"files are taken for pictures that end in {' '.join(sorted(SUFFIXES))}"
    )


def _require_pictures(people: dict[str, list[Path]], *, where: Path, skip: bool | int) -> None:
    without = [person for person, files in people.items() if not files]
    if without:
        what = f"{len(without)} of {len(people)} folders in {where} have no pictures"
        _refuse_or_warn(f"{what}: {', '.join(without)}", "add some, or remove the folders", skip)


def _refuse_or_warn(what: str, remedy: str, skip: bool | int, count: int = 1) -> None:
    """Warn of what may be left out; ``count`` is how many pictures that would be."""
    if skip is not True and count > skip:
        otherwise = "or pass skip_unreadable=True to go on without"
        msg = f"{what}; {remedy}, {f'as skip_unreadable={skip} is fewer' if skip else otherwise}"
        raise ValueError(msg)
    warnings.warn(f"{what}; left out", stacklevel=4)  # where from_folder or from_csv was called


def from_csv(
    file: str | PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    grey: bool | None = None,
    skip_unreadable: bool | int = False,
    progress: bool | None = None,
) -> ImageSet:
    """Pictures from a list: a CSV file with the columns ``path`` and ``identity``.

    Paths start at the folder of the list. The pictures keep its order, and are called as they
    are there; the rest is as for `from_folder`.

    Args:
        file: the list; further columns are passed over.

    Raises:
        FileNotFoundError: when there is no such list.
        ValueError: when a column or an entry is not there, or pictures cannot be read.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("L", (92, 112)).save(folder / "7.png")
        >>> _ = (folder / "people.csv").write_text("path,identity\\n7.png,anna\\n")
        >>> from_csv(folder / "people.csv").people
        ('anna',)
    """
    path = Path(file)
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"path", "identity"} <= rows[0].keys():
        has = f"the columns {', '.join(rows[0])}" if rows else "no rows"
        msg = f"a list needs the columns path and identity, and a row or more, but {path} has {has}"
        raise ValueError(msg)
    for number, row in enumerate(rows, start=1):
        if not row["path"] or not row["identity"]:
            msg = f"every row needs a path and an identity, but row {number} of {path} has not"
            raise ValueError(msg)
    pictures = [(row["path"], row["identity"], path.parent / row["path"]) for row in rows]
    return _read(
        pictures, where=path, size=size, grey=grey, skip=skip_unreadable, progress=progress
    )


def _read(
    pictures: Sequence[tuple[str, str, Path]],
    *,
    where: Path,
    size: tuple[int, int] | None,
    grey: bool | None,
    skip: bool | int,
    progress: bool | None,
) -> ImageSet:
    """Read pictures, given as name, person and file, into a set."""
    _check_size(size)
    if skip < 0:
        msg = f"skip_unreadable must be True, or at least 0 pictures, got {skip}"
        raise ValueError(msg)
    files = [file for _, _, file in pictures]
    pixels, broken = read_all(files, size=size, grey=grey, progress=progress)
    good = [picture for index, picture in enumerate(pictures) if index not in broken]
    people = sorted({person for _, person, _ in good}, key=natural)
    if broken:
        named = ", ".join(f"{pictures[index][0]} ({broken[index]})" for index in sorted(broken))
        what = f"{len(broken)} of {len(pictures)} pictures in {where} cannot be read: {named}"
        if not good:
            raise ValueError(what)
        if lost := {person for _, person, _ in pictures} - set(people):
            what += f"; nothing is left of {', '.join(sorted(lost, key=natural))}"
        _refuse_or_warn(what, "repair or remove them", skip, len(broken))
        pixels = np.delete(pixels, list(broken), axis=0)
    place = {person: label for label, person in enumerate(people)}
    return ImageSet(
        torch.from_numpy(pixels),
        torch.tensor([place[person] for _, person, _ in good]),
        identities=people,
        names=[name for name, _, _ in good],
    )


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and not isinstance(size, Sequence):
        msg = f"size must be (height, width), got {size!r}"
        raise TypeError(msg)
    if size is not None and (len(size) != 2 or min(size) < 1):
        msg = f"size must be (height, width), a pixel or more each, got {size}"
        raise ValueError(msg)


def from_arrays(
    images: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    *,
    names: Sequence[str] | None = None,
) -> ImageSet:
    """Pictures from an array or a tensor, and whom each shows.

    Args:
        images: (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels, uint8 or floats
            from 0 to 1.
        labels: a whole number or a name for each picture. The identities are these, sorted, and
            numbered from 0.
        names: what each picture is called; None for identity and count, such as ``"anna/1"``.

    Raises:
        ValueError: when the shape, type or range of the pictures is another, or there is not one
            label and one name for each.

    Example:
        >>> from_arrays(np.zeros((3, 8, 6)), ["bob", "anna", "bob"])
        ImageSet(3 pictures of 2 people: anna, bob; grey, 8 x 6; 1 to 2 each)
    """
    pixels = as_bytes(images)
    values = _plain(labels)
    if len(values) != len(pixels):
        msg = f"labels must have one entry for each of {len(pixels)} pictures, got {len(values)}"
        raise ValueError(msg)
    kinds = {type(value) for value in values}
    if not (kinds <= {int} or kinds <= {str}):
        msg = (
            "labels must be whole numbers, or names, got "
            f"{' and '.join(sorted(kind.__name__ for kind in kinds))}; convert them"
        )
        raise ValueError(msg)
    present = sorted(set(values), key=lambda value: value if kinds == {int} else natural(value))
    place = {value: label for label, value in enumerate(present)}
    people = [str(value) for value in present]
    chosen = torch.tensor([place[value] for value in values], dtype=torch.int64)
    if names is None:
        names = _counted([people[label] for label in chosen.tolist()])
    return ImageSet(pixels, chosen, identities=people, names=names)


def _plain(labels: Any) -> list[Any]:
    plain: list[Any] = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    # Elements of a list may be numpy's or torch's own numbers still.
    return [value.item() if hasattr(value, "item") else value for value in plain]


def _counted(who: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    names = []
    for person in who:
        seen[person] = seen.get(person, 0) + 1
        names.append(f"{person}/{seen[person]}")
    return names


def from_torchvision(dataset: Any, *, size: tuple[int, int] | None = None) -> ImageSet:
    """Pictures from a data set of torchvision, or any sequence of (picture, label).

    Args:
        dataset: has a length, and pairs of a picture (PIL, array or tensor) and whom it shows.
            Where it has ``classes``, as those of torchvision do, they name the identities.
        size: height and width in pixels; None as for `from_folder`, which asks for each picture
            twice, first to learn its size.

    Raises:
        ValueError: when it is empty, a picture cannot be read, or its pictures or labels are of
            another kind.

    Example:
        >>> anna, bob = Image.new("RGB", (92, 112), "navy"), Image.new("L", (92, 112))
        >>> from_torchvision([(anna, "anna"), (bob, "bob")])
        ImageSet(2 pictures of 2 people: anna, bob; colour, 112 x 92; 1 each)
    """
    count = len(dataset)
    if not count:
        msg = "a data set with pictures is needed, got an empty one"
        raise ValueError(msg)
    _check_size(size)
    sizes = []
    for index in range(0 if size else count):
        with _naming(index):
            sizes.append(_extent(dataset[index][0]))
    height, width = size or typical_size(sizes)
    pixels, labels = np.empty((count, 3, height, width), np.uint8), []
    for index in range(count):
        with _naming(index):
            picture, label = dataset[index]
            pixels[index] = read_image(picture, shape=(3, height, width)).numpy()
        labels.append(label)
    images = from_arrays(torch.from_numpy(without_empty_colour(pixels, range(count))), labels)
    classes = getattr(dataset, "classes", None)
    if classes is None or not isinstance(_plain(labels)[0], int):
        return images
    people = [str(name) for name in classes]
    who = _plain(labels)
    names = _counted([people[label] for label in who])
    return ImageSet(images.pixels, torch.tensor(who), identities=people, names=names)


@contextmanager
def _naming(index: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        msg = f"picture {index} of the data set cannot be read: {error}"
        raise ValueError(msg) from error


def _extent(picture: Image.Image | NDArray[np.generic] | Tensor) -> tuple[int, int]:
    if isinstance(picture, Image.Image):
        return extent(picture)
    _, _, height, width = as_bytes(picture[None]).shape
    return height, width


def read_image(
    source: str | PathLike[str] | Image.Image | NDArray[np.generic] | Tensor,
    *,
    shape: tuple[int, int, int],
) -> UInt8[Tensor, "c h w"]:
    """One picture, from wherever it comes, as bytes of the shape that is asked for.

    Args:
        source: a path, a PIL picture, or an array or tensor (h, w), (h, w, c) or (c, h, w), uint8
            or floats from 0 to 1.
        shape: channels (1 grey, 3 colour), height and width. The picture is stretched to it.

    Raises:
        FileNotFoundError: when there is no such file.
        TypeError: when it is of another type.
        ValueError: when it is no picture, or cannot be read.

    Example:
        >>> read_image(np.zeros((112, 92, 3)), shape=(1, 56, 46)).shape
        torch.Size([1, 56, 46])
    """
    require_shape(shape)
    channels, height, width = shape
    if isinstance(source, (np.ndarray, Tensor)):
        return as_shape(as_bytes(source[None]), shape)[0]
    if isinstance(source, Image.Image):
        return torch.tensor(decode(source, size=(height, width), grey=channels == 1))
    if not isinstance(source, (str, PathLike)):
        msg = f"a picture is a path, a PIL image, an array or a tensor, got {source!r}"
        raise TypeError(msg)
    file = Path(source)
    if not file.is_file():
        msg = f"a picture is needed, but there is no file {file}; check the path"
        raise FileNotFoundError(msg)
    try:
        return torch.tensor(read_file(file, size=(height, width), grey=channels == 1))
    except ValueError as error:
        msg = f"{file} cannot be read: {error}"
        raise ValueError(msg) from error
