"""A folder for each run, and in it what is needed to do the run again."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from siamlearn.data.image_set import ImageSet
from siamlearn.train.writing import replace

__all__ = [
    "CONFIG",
    "new_run_folder",
    "plain",
    "read_config",
    "rebuilt_split",
    "settings_of",
    "split_section",
    "write_config",
]

CONFIG = "config.json"
FORMAT = 1


def new_run_folder(path: str | Path = "runs") -> Path:
    """Make a folder that was not there: ``runs``, or else ``runs1``, ``runs2`` …

    Two programs that ask at the same moment are given two folders.

    Example:
        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> [new_run_folder(parent / "runs").name for _ in range(3)]
        ['runs', 'runs1', 'runs2']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count():
        folder = path.with_name(f"{path.name}{number or ''}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError  # there are always more numbers


def write_config(folder: str | Path, **sections: Any) -> Path:
    """Write ``config.json`` into a run's folder, whole or not at all.

    Args:
        folder: of the run.
        sections: what was run, by name, such as ``net=net.config`` (anything with ``to_dict``),
            ``split=split_section(...)`` and ``settings={"epochs": 20}``. The versions of the
            libraries are added.

    Raises:
        ValueError: when a section is not made of numbers, strings, None, lists and dicts.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = write_config(folder, settings={"epochs": 20})
        >>> read_config(folder)["settings"]
        {'epochs': 20}
    """
    config: dict[str, Any] = {"format": FORMAT, "versions": _versions()}
    for name, section in sections.items():
        config[name] = plain(section)
        try:
            json.dumps(config[name], allow_nan=False)
        except (TypeError, ValueError) as error:
            msg = f"section {name!r} of the config cannot be written as JSON: {error}"
            raise ValueError(msg) from error
    path = Path(folder) / CONFIG
    replace(path, json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    return path


def plain(section: Any) -> Any:
    """A section of a config as numbers, strings, None, lists and dicts.

    Example:
        >>> from siamlearn.nn.nets import NetConfig
        >>> plain(NetConfig.preset("small", input=(1, 8, 8)))["input"]
        [1, 8, 8]
    """
    return section.to_dict() if hasattr(section, "to_dict") else section


def read_config(folder: str | Path) -> dict[str, Any]:
    """The sections that :func:`write_config` wrote.

    Raises:
        ValueError: when there is no config in the folder, it is not readable, or it was written
            by a newer siamlearn.

    Example:
        >>> import tempfile
        >>> config = read_config(write_config(tempfile.mkdtemp(), settings={}).parent)
        >>> list(config)
        ['format', 'versions', 'settings']
    """
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read as the config of a run: {error}"
        raise ValueError(msg) from error
    if not isinstance(config, dict):
        msg = f"{path} must hold a JSON object, got a {type(config).__name__}"
        raise ValueError(msg)
    version = config.get("format", FORMAT)  # earlier versions wrote none
    if not isinstance(version, int) or version > FORMAT:
        msg = f"{path} has format {version}, and this siamlearn reads up to {FORMAT}; upgrade it"
        raise ValueError(msg)
    return config


def settings_of(config: Any, name: str = "") -> dict[str, Any]:
    """Every setting of a config under its path; a part of a split in a few words.

    Example:
        >>> settings_of({"net": {"input": [1, 8, 8]}, "fit": {"seed": 0}})
        {'net.input': [1, 8, 8], 'fit.seed': 0}
        >>> settings_of({"split": {"train": {"people": ["anna", "bob"], "digest": "4f5e"}}})
        {'split.train': '2 people, digest 4f5e'}
    """
    if isinstance(config, dict) and {"people", "digest"} <= config.keys():
        return {name: f"{len(config['people'])} people, digest {config['digest'][:12]}"}
    if isinstance(config, dict):
        parts = [(f"{name}.{key}" if name else str(key), value) for key, value in config.items()]
    elif isinstance(config, list) and any(isinstance(entry, dict) for entry in config):
        parts = [(f"{name}[{place}]", value) for place, value in enumerate(config)]
    else:
        return {name: config}
    return {path: leaf for part, value in parts for path, leaf in settings_of(value, part).items()}


def split_section(images: ImageSet, **parts: ImageSet) -> dict[str, Any]:
    """Which people, and where that does not tell, which pictures, each part of a split has.

    Args:
        images: all pictures, of which the parts are.
        parts: by name, such as ``train=..., test=...``.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(3, 2)
        >>> section = split_section(faces, test=faces.only(["s2"]))
        >>> section["test"]["people"]
        ['s2']
        >>> rebuilt_split(faces, section)["test"].names
        ('s2/1', 's2/2')
    """
    section = {}
    for name, part in parts.items():
        section[name] = {"people": list(part.people), "digest": part.digest}
        if images.only(part.people).digest != part.digest:
            section[name]["pictures"] = list(part.names)
    return section


def rebuilt_split(images: ImageSet, section: dict[str, Any]) -> dict[str, ImageSet]:
    """The parts that :func:`split_section` described, from the same pictures.

    Raises:
        ValueError: when a part does not come out as it was: the pictures are other ones.

    Example:
        >>> from siamlearn.data.drawn import DrawnFaces
        >>> faces = DrawnFaces(3, 2)
        >>> rebuilt_split(faces, split_section(faces, one=faces.subset([4])))["one"].names
        ('s3/1',)
    """
    place = {name: index for index, name in enumerate(images.names)}
    parts = {}
    for name, described in section.items():
        try:
            if "pictures" in described:
                part = images.subset([place[picture] for picture in described["pictures"]])
            else:
                part = images.only(described["people"])
        except (KeyError, ValueError) as error:
            msg = f"part {name!r} of the split has people or pictures that are not here: {error}"
            raise ValueError(msg) from error
        if part.digest != described["digest"]:
            msg = (
                f"part {name!r} of the split is not what it was: its digest was "
                f"{described['digest'][:12]}… and is {part.digest[:12]}…; the pictures differ"
            )
            raise ValueError(msg)
        parts[name] = part
    return parts


def _versions() -> dict[str, str]:
    libraries = {name: metadata.version(name) for name in ("siamlearn", "torch", "numpy")}
    return {"python": platform.python_version(), **libraries}
