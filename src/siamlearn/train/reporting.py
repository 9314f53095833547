"""Callbacks that tell people and files how training goes; none of them changes it.

Of several ranks only the first one speaks and writes.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from siamlearn.train.callbacks import Callback
from siamlearn.train.telling import from_first
from siamlearn.train.writing import replace

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["LogCSV", "LogLines", "Progress", "Summary"]

Write = Callable[[str], object]


@final
class Progress(Callback):
    """A progress bar with the loss; one line now and then where there is no terminal.

    Args:
        every: seconds from one line to the next, where lines are written; the last epoch always
            gets one.
        write: where lines go instead of the terminal, in place of the bar.

    Example:
        >>> Progress(every=60).every
        60
    """

    def __init__(self, *, every: float = 10.0, write: Write | None = None) -> None:
        self.every, self.write = every, write
        self._bar: Any = None
        self._since = 0.0
        self._begun = (0.0, 0)

    def on_fit_start(self, trainer: Trainer) -> None:
        self._since = time.monotonic()
        self._begun = (self._since, trainer.step)
        if trainer.first and self.write is None and sys.stderr.isatty():
            from tqdm import tqdm

            total = None if trainer.steps is None else trainer.steps * trainer.epochs
            self._bar = tqdm(total=total, initial=trainer.step, unit="step", dynamic_ncols=True)

    def on_step_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_values(trainer, trainer.loss), refresh=False)
            self._bar.update()

    def on_epoch_end(self, trainer: Trainer) -> None:
        now = time.monotonic()
        ends = trainer.epoch == trainer.epochs or trainer.stopped is not None
        due = ends or now - self._since >= self.every
        if trainer.first and self._bar is None and due:
            self._since = now
            begun, step = self._begun
            pace = (trainer.step - step) / max(now - begun, 1e-9)
            self._line(f"{_values(trainer, trainer.log[-1]['loss'])}, {pace:.3g} steps/s")

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if trainer.first and trainer.stopped is not None:
            self._line(f"stopped after step {trainer.step}: {trainer.stopped}")

    def _line(self, text: str) -> None:
        (self.write or sys.stderr.write)(f"{text}\n")


def _values(trainer: Trainer, loss: float) -> str:
    done = trainer.epoch if trainer.batch == 0 else trainer.epoch + 1
    row = trainer.log[-1] if trainer.log else {}
    others = [
        f"{name} {value:.4g}"
        for name, value in row.items()
        if name not in ("epoch", "step", "loss", "lr")
    ]
    return ", ".join([f"epoch {done}/{trainer.epochs}", f"loss {loss:.4g}", *others])


@final
class Summary(Callback):
    """Say what is trained, before it is.

    Args:
        verbose: 0 nothing, 1 the architecture, 2 also the optimizer, 3 also every parameter,
            with their total.
        write: where to; the standard output if left out.

    Raises:
        ValueError: when ``verbose`` is not from 0 to 3.

    Example:
        >>> Summary(verbose=3).verbose
        3
    """

    def __init__(self, verbose: int = 1, *, write: Write | None = None) -> None:
        if verbose not in range(4):
            msg = (
                f"verbose must be 0 (nothing), 1 (architecture), 2 (and optimizer) "
                f"or 3 (and parameters), got {verbose}"
            )
            raise ValueError(msg)
        self.verbose, self.write = verbose, write

    def on_fit_start(self, trainer: Trainer) -> None:
        if not trainer.first:
            return
        parts = [str(trainer.net), str(trainer.optimizer), _parameter_table(trainer)]
        for part in parts[: self.verbose]:
            (self.write or sys.stdout.write)(f"{part}\n")


def _parameter_table(trainer: Trainer) -> str:
    rows = [
        (name, " x ".join(map(str, p.shape)) or "1", p.numel(), "" if p.requires_grad else "frozen")
        for name, p in trainer.net.named_parameters()
    ]
    total = sum(count for _, _, count, _ in rows)
    table = [("parameter", "shape", "count", "")]
    table += [(name, shape, f"{count:,}", note) for name, shape, count, note in rows]
    table += [("total", "", f"{total:,}", "")]
    name, shape, count = (max(len(row[i]) for row in table) for i in range(3))
    lines = [f"{n:<{name}}  {s:>{shape}}  {c:>{count}}  {note}" for n, s, c, note in table]
    return "\n".join(line.rstrip() for line in lines)


@final
class LogLines(Callback):
    """Write each epoch's row as a line of JSON. A resumed run continues its own file.

    Args:
        path: the file, such as ``"runs/metrics.jsonl"``; its folder is made.

    Raises:
        ValueError: at the start, when the file is that of another run.

    Example:
        >>> LogLines("runs/metrics.jsonl").path.name
        'metrics.jsonl'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: Trainer) -> None:
        from_first(lambda: self._begin(trainer))

    def on_epoch_end(self, trainer: Trainer) -> None:
        if not trainer.first:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(trainer.log[-1]))

    def _begin(self, trainer: Trainer) -> None:
        _refuse_to_overwrite(self.path, trainer)
        # The checkpoint has the whole log: rows that were written after it are made again.
        replace(self.path, "".join(map(_line, trainer.log)))


@final
class LogCSV(Callback):
    """Write the log as a table, one row an epoch; an empty field where a row has no value.

    Args:
        path: the file, such as ``"runs/log.csv"``; its folder is made.

    Raises:
        ValueError: at the start, when the file is that of another run.

    Example:
        >>> LogCSV("runs/log.csv").path.name
        'log.csv'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: Trainer) -> None:
        from_first(lambda: _refuse_to_overwrite(self.path, trainer))

    def on_epoch_end(self, trainer: Trainer) -> None:
        if not trainer.first:
            return
        # Written anew each time: a later row may have a column that the first ones lack.
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in trainer.log for name in row))
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(trainer.log)
        replace(self.path, text.getvalue())


def _line(row: dict[str, float]) -> str:
    return json.dumps(row) + "\n"


def _refuse_to_overwrite(path: Path, trainer: Trainer) -> None:
    if trainer.step == 0 and path.exists() and path.stat().st_size > 0:
        msg = f"{path} is the log of another run; use another file, or a new run's folder"
        raise ValueError(msg)
