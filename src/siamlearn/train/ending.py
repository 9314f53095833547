"""How a run stands, as its folder tells: under way, ended, or cut off.

While it is under way, its program holds a lock on ``.lock``, which the operating system takes
back however the program ends. When training ends, ``ending.json`` says how. A folder with neither
is that of a run that was killed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, final

from siamlearn.nn.nets import EmbeddingNet
from siamlearn.train.callbacks import Callback, EarlyStopping
from siamlearn.train.telling import from_first
from siamlearn.train.writing import replace

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["LOCK", "NET", "Ending", "is_done", "is_under_way", "read_ending", "require_free"]

LOCK, ENDING, NET = ".lock", "ending.json", "net"
# Seconds. The workers of a killed program hold its lock until they notice, which takes them five;
# whoever only asks whether a run is under way holds it for a moment.
PATIENCE = 8.0


@final
class Ending(Callback):
    """Say in a run's folder that it is under way and, when it has ended, how; and save the net.

    The net, if it is an ``EmbeddingNet``, is in the folder ``net`` before the run is said to have
    ended. ``fit(folder=...)`` has this callback already. In a loop of your own it stands before
    those that write into the same folder: it refuses to let two programs train there at once.

    Args:
        folder: of the run; made if it is not there.

    Raises:
        ValueError: at the start, when another program is training in this folder.

    Example:
        >>> Ending("runs").folder.name
        'runs'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._lock: IO[bytes] | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        from_first(self._begin)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._lock is None:  # another rank, or another program's run
            return
        done, failure = is_done(trainer), sys.exception()
        stopped = trainer.stopped
        if stopped is None and failure is not None and not done:
            stopped = ": ".join(filter(None, [type(failure).__name__, str(failure)]))
        content = {
            "format": 1,
            "epoch": trainer.epoch,
            "epochs": trainer.epochs,
            "step": trainer.step,
            "finished": done,
            "stopped": stopped,
        }
        try:
            if isinstance(trainer.net, EmbeddingNet) and (done or failure is None):
                trainer.net.save(self.folder / NET)
            replace(self.folder / ENDING, json.dumps(content, indent=1) + "\n")
        finally:
            self._lock.close()
            self._lock = None

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / LOCK).open("ab")
        try:
            _wait(self.folder, lambda: _taken(lock))
        except ValueError:
            lock.close()
            raise
        self._lock = lock
        (self.folder / ENDING).unlink(missing_ok=True)


def is_done(trainer: Trainer) -> bool:
    """Whether there is nothing to go on with: all epochs are done, or none of them helps.

    Example:
        >>> from types import SimpleNamespace
        >>> is_done(SimpleNamespace(epoch=3, epochs=8, callbacks=()))
        False
    """
    given_up = any(
        isinstance(each, EarlyStopping) and each.since >= each.patience
        for each in trainer.callbacks
    )
    return trainer.epoch >= trainer.epochs or (given_up and trainer.stopped is not None)


def is_under_way(folder: Path) -> bool:
    """Whether a program is training in this folder, on a computer that shares it.

    Example:
        >>> is_under_way(Path("nowhere"))
        False
    """
    try:
        with (folder / LOCK).open("rb") as lock:
            return not _taken(lock, shared=True)
    except OSError:
        return False


def require_free(folder: Path) -> None:
    """See that no program is training in this folder; one that was just killed is waited for.

    Raises:
        ValueError: when there is one.

    Example:
        >>> require_free(Path("nowhere"))
    """
    _wait(folder, lambda: not is_under_way(folder))


def read_ending(folder: Path) -> dict[str, Any] | None:
    """What :class:`Ending` wrote when training ended; None where it has not.

    Raises:
        ValueError: when the file is not what was written.

    Example:
        >>> read_ending(Path("nowhere"))
    """
    path = folder / ENDING
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: content[name] for name in ("epoch", "epochs", "step", "finished", "stopped")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read: {error!r}; delete it, and the run counts as cut off"
        raise ValueError(msg) from error


def _wait(folder: Path, free: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not free():
        if time.monotonic() > until:
            msg = f"another program is training in {folder}; let it end, or stop it first"
            raise ValueError(msg)
        time.sleep(0.05)


if sys.platform == "win32":

    def _taken(lock: IO[bytes], *, shared: bool = False) -> bool:
        try:
            lock.seek(0)
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _taken(lock: IO[bytes], *, shared: bool = False) -> bool:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks protects nobody, but is no reason to stop
        return True
