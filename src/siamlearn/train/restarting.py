"""A run that is started again: in its own folder, from where it was, and refused if it is another.

Only the first rank looks at the folder, makes it and writes into it; the others are told.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siamlearn import ranks
from siamlearn.train.callbacks import Callback
from siamlearn.train.checkpoint import latest, put_back
from siamlearn.train.ending import require_free
from siamlearn.train.loading import CHECKPOINTS, LOG, Run, is_run
from siamlearn.train.reporting import Progress
from siamlearn.train.runs import (
    CONFIG,
    new_run_folder,
    plain,
    read_config,
    settings_of,
    write_config,
)
from siamlearn.train.telling import from_first

__all__ = ["advice", "going_on", "run_folder", "say"]

# What a run may go on with otherwise: on another computer, with less memory, and from weights that
# it has left.
FREE = ("fit.device", "fit.micro_batch", "fit.weights")


def run_folder(folder: str | Path | None, resume: bool | str | Path | None) -> tuple[Any, bool]:
    """Where a run keeps its files, if anywhere, and whether it was begun there before.

    Args:
        folder: the one to make, or another name beside it where there is something in it.
        resume: True for exactly this folder, with what is in it; or the folder of a run to go on
            with, without ``folder``.

    Raises:
        ValueError: there is nothing to go on with, another program is training there, or the
            folder holds something else.

    Example:
        >>> import tempfile
        >>> run_folder(Path(tempfile.mkdtemp()) / "runs", True)
        (PosixPath('...runs'), False)
    """
    found, begun = from_first(lambda: _looked_at(folder, resume))
    return None if found is None else Path(found), bool(begun)


def going_on(where: Path, begun: bool, sections: dict[str, Any]) -> tuple[bool, Path | None]:
    """Write a run's config, or see that it is the one that it was begun with.

    Args:
        where: the folder.
        begun: whether the run was begun before.
        sections: of the config.

    Returns:
        Whether the run is finished, and the folder of checkpoints to go on from if it has any.

    Raises:
        ValueError: settings or data differ from those that the run was begun with.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> going_on(folder, False, {"fit": {"epochs": 8}})
        (False, None)
        >>> going_on(folder, True, {"fit": {"epochs": 9}})
        Traceback (most recent call last):
        ValueError: the run in ... was begun with other settings: fit.epochs was 8 and is 9; ...
    """
    finished, kept = from_first(lambda: _taken_up(where, begun, sections))
    return bool(finished), where / CHECKPOINTS if kept else None


def advice(where: Path | None, resume: bool | str | Path | None) -> str:
    """How to go on with a run that was stopped.

    Example:
        >>> advice(Path("runs"), None)
        "to go on, call fit as before, with resume='runs' instead of folder"
    """
    if where is None:
        return "nothing of it was kept; pass folder='runs' to be able to go on"
    if resume is not True:
        return f"to go on, call fit as before, with resume={str(where)!r} instead of folder"
    if hasattr(sys, "ps1") or "IPython" in sys.modules:
        return "to go on, call fit again as before"
    again = f": {shlex.join(sys.orig_argv)}" if ranks.alone() else ""
    return f"to go on, start the program again{again}"


def say(callbacks: Sequence[Callback], sentence: str) -> None:
    """Write a line where progress is written, or nowhere if it is not.

    Example:
        >>> lines = []
        >>> say([Progress(write=lines.append)], "runs is finished")
        >>> lines
        ['runs is finished\\n']
    """
    for each in callbacks:
        if isinstance(each, Progress) and ranks.first():
            (each.write or sys.stderr.write)(f"{sentence}\n")


def _looked_at(folder: str | Path | None, resume: bool | str | Path | None) -> tuple[Any, bool]:
    if resume is None or resume is False:
        if folder is None:
            return None, False
        where = Path(folder)
        return str(where if _is_empty(where) else new_run_folder(where)), False
    if resume is True:
        if folder is None:
            msg = "resume=True goes on in the run's folder, if there is one: pass folder='runs' too"
            raise ValueError(msg)
        where = Path(folder)
        if not where.exists() or _is_empty(where):
            where.mkdir(parents=True, exist_ok=True)
            return str(where), False
    else:
        where = Path(resume)
        if folder is not None or not where.is_dir():
            msg = f"resume is the folder of an earlier run, without folder=; got {str(resume)!r}"
            raise ValueError(msg)
        if _is_empty(where):
            return str(where), False
    if not is_run(where):
        msg = f"{where} holds something, but no run (no {CONFIG}); name another folder"
        raise ValueError(msg)
    require_free(where)
    return str(where), True


def _taken_up(where: Path, begun: bool, sections: dict[str, Any]) -> tuple[bool, bool]:
    if not begun:
        write_config(where, **sections)
        return False, False
    if (where / CONFIG).exists():
        _refuse_changes(where, read_config(where), sections)
    finished = Run(where).finished
    put_back(where / CHECKPOINTS)
    kept = latest(where / CHECKPOINTS) is not None
    if not kept and not finished:
        # It was cut off before its first checkpoint: nothing is lost by starting anew.
        (where / LOG).unlink(missing_ok=True)
    return finished, kept


def _refuse_changes(where: Path, config: dict[str, Any], sections: dict[str, Any]) -> None:
    compared = [name for name in ("net", "split", "fit") if name in sections]
    # As JSON holds it: lists for tuples. What an earlier version did not write is not compared.
    now = settings_of({name: json.loads(json.dumps(plain(sections[name]))) for name in compared})
    changed = {
        name: f"{name} was {was!r} and is {now.get(name, 'missing')!r}"
        for name, was in settings_of({name: config.get(name, {}) for name in compared}).items()
        if name not in FREE and was != now.get(name)
    }
    if changed:
        longer = f"; to train longer, begin with weights={str(where / 'net')!r}"
        msg = (
            f"the run in {where} was begun with other settings: {', '.join(changed.values())}; "
            f"pass what was passed then, or begin another run in another folder"
            f"{longer if 'fit.epochs' in changed else ''}"
        )
        raise ValueError(msg)


def _is_empty(folder: Path) -> bool:
    # A crash may have left a file that was being written, under a hidden name.
    return folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())
