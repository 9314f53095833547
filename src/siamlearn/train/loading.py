"""A run read back from its folder, whatever became of it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, final

from siamlearn.data.image_set import ImageSet
from siamlearn.nn.nets import EmbeddingNet, NetConfig
from siamlearn.train import checkpoint
from siamlearn.train.ending import LOCK, NET, is_done, is_under_way, read_ending
from siamlearn.train.runs import CONFIG, read_config, rebuilt_split
from siamlearn.train.trainer import Trainer

__all__ = ["Run", "Snapshot", "is_run", "load_run"]

LOG, CHECKPOINTS = "metrics.jsonl", "checkpoints"
PICTURES = {".png", ".svg", ".pdf", ".jpg"}
KILLED = "cut off: the program was killed, or the computer stopped"


@final
@dataclass(frozen=True)
class Snapshot:
    """A checkpoint of a run.

    Args:
        place: its folder.
        step: optimizer steps that were done.
        epoch: epochs that were done.
        best: whether it is kept as the best one, by ``Checkpoint(best=...)``.

    Example:
        >>> Snapshot(Path("runs/checkpoints/step-0000000200"), step=200, epoch=5).step
        200
    """

    place: Path
    step: int
    epoch: int
    best: bool = False

    @property
    def net(self) -> EmbeddingNet:
        """The net as it was then, ready to embed: with its averaged weights if it had some.

        Raises:
            CheckpointError: when the checkpoint is not what was written.
            ValueError: when the run was not that of an ``EmbeddingNet``.
        """
        return _net(self.place)


@final
@dataclass(frozen=True, eq=False)
class Run:
    """A training, from :func:`siamlearn.fit`, or read from its folder by :func:`load_run`.

    The log, the checkpoints and the plots of a folder are read when they are asked for: those of
    a run that is under way grow. Net and config are read once.

    Args:
        folder: where config, log, checkpoints and weights are, if anywhere.
        trainer: what trained it; None where the run was read from its folder.

    Example:
        >>> from siamlearn import DrawnFaces, fit
        >>> run = fit(DrawnFaces(3, 3, size=(12, 10)), epochs=2, callbacks=())
        >>> [row["epoch"] for row in run.log], run.finished
        ([1, 2], True)
    """

    folder: Path | None = None
    trainer: Trainer | None = None

    @cached_property
    def net(self) -> EmbeddingNet:
        """The net, ready to embed: as trained, or from the newest checkpoint that is whole.

        Raises:
            CheckpointError: when there are checkpoints, but none of them is whole.
            ValueError: when there are no weights yet, or the net is no ``EmbeddingNet``.
        """
        if self.trainer is not None:
            return cast(EmbeddingNet, self.trainer.net)
        saved = self._here / NET
        if self.finished and saved.is_dir():
            return EmbeddingNet.load(saved)
        newest = checkpoint.latest(self._here / CHECKPOINTS)
        if newest is not None:
            return _net(newest)
        if saved.is_dir():
            return EmbeddingNet.load(saved)
        msg = f"{self.folder} has no weights yet: its first checkpoint has not been written"
        raise ValueError(msg)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What was run: the sections of ``config.json``; empty where there is no such file.

        Raises:
            ValueError: when it cannot be read.
        """
        return read_config(self._here) if (self._here / CONFIG).exists() else {}

    @property
    def log(self) -> list[dict[str, float]]:
        """One row an epoch: epoch, step, loss, learning rate, and what callbacks added."""
        return self.trainer.log if self.trainer is not None else _rows(self._here / LOG)

    @property
    def checkpoints(self) -> tuple[Snapshot, ...]:
        """Those that are kept, the oldest first; one that cannot be read is left out."""
        if self.folder is None:
            return ()
        places = checkpoint.checkpoints(self.folder / CHECKPOINTS)
        found = [each for each in map(_snapshot, places) if each is not None]
        best = found[0][1] if found else None
        return tuple(replace(each, best=each.step == best) for each, _ in reversed(found))

    @property
    def plots(self) -> tuple[Path, ...]:
        """The pictures in the folder, in the order of their names."""
        if self.folder is None:
            return ()
        return tuple(
            path for path in sorted(self.folder.rglob("*")) if path.suffix.lower() in PICTURES
        )

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train: all epochs are done, or more of them do not help."""
        if self.trainer is not None:
            return is_done(self.trainer)
        return self._ending is not None and bool(self._ending["finished"])

    @property
    def under_way(self) -> bool:
        """Whether a program is training in the folder now."""
        return self.folder is not None and is_under_way(self.folder)

    @property
    def stopped(self) -> str | None:
        """Why training ended before its last epoch; None where it did not."""
        if self.trainer is not None:
            return self.trainer.stopped
        if self._ending is not None:
            return cast(str | None, self._ending["stopped"])
        return KILLED if (self._here / LOCK).exists() and not self.under_way else None

    @property
    def name(self) -> str:
        """The name of the folder, to tell runs apart."""
        return "run" if self.folder is None else self.folder.resolve().name

    def split(self, images: ImageSet) -> dict[str, ImageSet]:
        """The parts that were trained on, validated on and so on, out of the same pictures.

        Args:
            images: all pictures, those of every part among them.

        Raises:
            ValueError: when the config tells of no split, or the pictures are other ones.
        """
        if "split" not in self.config:
            msg = f"the config of {self.folder} tells of no split; write_config(split=...) notes it"
            raise ValueError(msg)
        return rebuilt_split(images, self.config["split"])

    def __repr__(self) -> str:
        epochs, steps = self._done
        planned = self._planned
        done = _counted(epochs, "epoch")
        if planned is not None and planned != epochs:
            done = f"{epochs:,} of {_counted(planned, 'epoch')}"
        where = "" if self.folder is None else f"{str(self.folder)!r}: "
        lines = [f"Run({where}{done}, {_counted(steps, 'step')}, {self._state})"]
        if row := (self.log or [{}])[-1]:
            values = [f"{k} {v:.4g}" for k, v in row.items() if k not in ("epoch", "step", "lr")]
            lines.append(f"  epoch {row.get('epoch', '?')}: {', '.join(values)}")
        if kept := self.checkpoints:
            best = "".join(f", the best of step {each.step}" for each in kept if each.best)
            count = _counted(len(kept), "checkpoint")
            lines.append(f"  {count}, the newest of step {kept[-1].step}{best}")
        if pictures := self.plots:
            lines.append(f"  {_counted(len(pictures), 'plot')}")
        if self.folder is not None and not self.finished and not self.under_way:
            lines.append(f"  to go on: fit as before, with resume={str(self.folder)!r}")
        return "\n".join(lines)

    @property
    def _here(self) -> Path:
        if self.folder is None:
            msg = "this run has no folder, and nothing was written; pass fit(..., folder='runs')"
            raise ValueError(msg)
        return self.folder

    @property
    def _ending(self) -> dict[str, Any] | None:
        return None if self.under_way else read_ending(self._here)

    @property
    def _done(self) -> tuple[int, int]:
        """Epochs and steps."""
        if self.trainer is not None:
            return self.trainer.epoch, self.trainer.step
        ending = self._ending
        if ending is not None:
            return int(ending["epoch"]), int(ending["step"])
        told = [(int(row.get("epoch", 0)), int(row.get("step", 0))) for row in self.log]
        return max([(0, 0), *told, *((each.epoch, each.step) for each in self.checkpoints)])

    @property
    def _planned(self) -> int | None:
        if self.trainer is not None:
            return self.trainer.epochs
        ending = self._ending or self.config.get("fit") or {}
        return ending.get("epochs")

    @property
    def _state(self) -> str:
        if self.trainer is None and self.under_way:
            return "under way"
        if self.stopped:
            return self.stopped if self.stopped == KILLED else f"stopped: {self.stopped}"
        return "done" if self.finished else "with no word of how it ended"


def load_run(path: str | Path) -> Run:
    """A run from its folder, be it finished, stopped, cut off or still under way.

    Args:
        path: the folder, such as ``"runs"``: what ``fit(folder=...)`` wrote, or a loop of your
            own with ``Checkpoint("runs/checkpoints")`` and ``LogLines("runs/metrics.jsonl")``.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is not the folder of a run, its config is spoilt or that of a newer version.

    Example:
        >>> import tempfile
        >>> from siamlearn import DrawnFaces, fit
        >>> faces, folder = DrawnFaces(3, 3, size=(12, 10)), tempfile.mkdtemp()
        >>> net = fit(faces, epochs=2, folder=folder, callbacks=()).net
        >>> run = load_run(folder)
        >>> run.finished, run.config["fit"]["epochs"], [each.epoch for each in run.checkpoints]
        (True, 2, [2])
        >>> bool((run.net(faces.pixels) == net(faces.pixels)).all())
        True
    """
    folder = Path(path)
    if not folder.exists():
        msg = f"there is no folder {folder}; a run's folder is the one in run.folder"
        raise FileNotFoundError(msg)
    if not is_run(folder):
        msg = (
            f"{folder} is not the folder of a run: it has no {CONFIG}, {LOG} or {CHECKPOINTS}; "
            f"{_advice(folder)}"
        )
        raise ValueError(msg)
    run = Run(folder)
    _ = run.config  # what is spoilt is found now
    return run


def is_run(folder: Path) -> bool:
    """Whether this is the folder of a run: it has a config, a log or checkpoints.

    Example:
        >>> is_run(Path("nowhere"))
        False
    """
    return any((folder / name).exists() for name in (CONFIG, LOG, CHECKPOINTS))


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _advice(folder: Path) -> str:
    for parent in list(folder.absolute().parents)[:2]:
        if is_run(parent):
            return f"did you mean {parent}?"
    runs = sorted(path.name for path in folder.iterdir() if is_run(path)) if folder.is_dir() else []
    if runs:
        shown = ", ".join(runs[:5]) + (", …" if len(runs) > 5 else "")
        return f"did you mean one of the runs in it ({shown})?"
    return "pass the one that fit(folder=...) made, run.folder"


def _net(place: Path) -> EmbeddingNet:
    model, state = checkpoint.load(place)
    try:
        net = EmbeddingNet(NetConfig.from_dict(state["identity"]["net"]))
        net.load_state_dict(model)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        msg = (
            f"the net in {place} is no EmbeddingNet, so that only your program can build it "
            f"again; give one to a Trainer and call its fit(resume={str(place)!r}): {error}"
        )
        raise ValueError(msg) from error
    net.trained_on = tuple(state.get("trained_on", ()))
    return net.eval()


def _snapshot(place: Path) -> tuple[Snapshot, int | None] | None:
    """What a checkpoint says of itself, and which step was the best so far; no tensors are read."""
    try:
        state = json.loads((place / "state.json").read_bytes())
        best = state["callbacks"].get("Checkpoint", {}).get("best_step")
        return Snapshot(place, int(state["step"]), int(state["epoch"])), best
    except FileNotFoundError:
        return None  # a run that is under way has just deleted it
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(f"left out a corrupt checkpoint: {place}: {error!r}", stacklevel=3)
        return None


def _rows(path: Path) -> list[dict[str, float]]:
    """The rows of a log; a last line that is being written, or never was whole, is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(dict(json.loads(line).items()))
        except (ValueError, AttributeError) as error:
            if number == len(lines):
                break
            msg = f"line {number} of {path} is not a row of JSON: {error}; delete the line"
            raise ValueError(msg) from error
    return rows
