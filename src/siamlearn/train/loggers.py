"""Loggers that hand the log to other programs, each through its own library.

Each writes the epoch's row, and of every so many steps ``step/loss``, ``step/lr`` and
``step/gradient_norm`` if asked. A resumed run goes on with its own, and has each step once. Only
the first rank writes. Files without a library are in :mod:`siamlearn.train.reporting`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from siamlearn.train.callbacks import Callback
from siamlearn.train.telling import from_first

if TYPE_CHECKING:
    from siamlearn.train.trainer import Trainer

__all__ = ["MLflow", "TensorBoard", "WeightsAndBiases"]


class _Logger(Callback):
    """What all of them do: when to write, and what."""

    def __init__(self, every_steps: int | None) -> None:
        if every_steps is not None and every_steps < 1:
            msg = f"every_steps must be at least 1, got {every_steps}; leave it out for epochs only"
            raise ValueError(msg)
        self.every_steps = every_steps
        self._open = False

    @abstractmethod
    def _begin(self, trainer: Trainer) -> None:
        """Start, or take up again what ``load_state_dict`` told of."""

    @abstractmethod
    def _write(self, values: dict[str, float], step: int) -> None:
        """Write values of a step that may have been written before the run was resumed."""

    @abstractmethod
    def _end(self, trainer: Trainer, *, failed: bool) -> None:
        """Finish."""

    def on_fit_start(self, trainer: Trainer) -> None:
        from_first(lambda: self._begin(trainer))
        self._open = trainer.first

    def on_step_end(self, trainer: Trainer) -> None:
        if self._open and self.every_steps and trainer.step % self.every_steps == 0:
            values = {"loss": trainer.loss, "lr": float(trainer.optimizer.param_groups[0]["lr"])}
            values["gradient_norm"] = trainer.gradient_norm
            self._write({f"step/{name}": value for name, value in values.items()}, trainer.step)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self._open:
            row = {k: v for k, v in trainer.log[-1].items() if k != "step"}
            self._write(row, trainer.step)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._open:
            self._open = False
            failed = trainer.stopped is None and trainer.epoch < trainer.epochs
            self._end(trainer, failed=failed)


@final
class TensorBoard(_Logger):
    """Write each epoch's row for TensorBoard.

    Args:
        folder: where its event files go. Steps that were written there after the checkpoint from
            which a run is resumed are hidden by those that it makes again.
        every_steps: also write the loss, learning rate and gradient's length of every so many
            steps.

    Raises:
        ModuleNotFoundError: when tensorboard is not installed, with the pip command to run.
        ValueError: when ``every_steps`` is below 1.

    Example:
        >>> TensorBoard("runs/tensorboard", every_steps=10).folder.name
        'tensorboard'
    """

    def __init__(self, folder: str | Path, *, every_steps: int | None = None) -> None:
        super().__init__(every_steps)
        library = _library("torch.utils.tensorboard", "TensorBoard", "tensorboard")
        self.folder = Path(folder)
        self._make = library.SummaryWriter
        self._writer: Any = None

    def _begin(self, trainer: Trainer) -> None:
        self._writer = self._make(str(self.folder), purge_step=trainer.step + 1)

    def _write(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, global_step=step)
        if "epoch" in values:
            self._writer.flush()

    def _end(self, trainer: Trainer, *, failed: bool) -> None:
        self._writer.close()


@final
class WeightsAndBiases(_Logger):
    """Write each epoch's row as a run of Weights & Biases.

    The run's id is kept in the checkpoint, and a resumed run goes on with it. Steps that it has
    already are made again with the same values, and left out.

    Args:
        project: in which the run is.
        every_steps: also write the loss, learning rate and gradient's length of every so many
            steps.
        options: of ``wandb.init``, such as ``name="first"``, ``mode="offline"``, ``dir="runs"``,
            ``config={...}``.

    Raises:
        ModuleNotFoundError: when wandb is not installed, with the pip command to run.
        ValueError: when ``every_steps`` is below 1.

    Example:
        >>> WeightsAndBiases("faces", name="first", mode="offline").project  # doctest: +SKIP
        'faces'
    """

    def __init__(self, project: str, *, every_steps: int | None = None, **options: Any) -> None:
        super().__init__(every_steps)
        self._library = _library("wandb", "Weights & Biases", "wandb")
        self.project, self.options = project, options
        self.run: Any = None
        self._id: str | None = options.get("id")
        self._next = 0

    def _begin(self, trainer: Trainer) -> None:
        options = {"resume": "allow", **self.options, "project": self.project, "id": self._id}
        options["config"] = {**_settings(trainer), **(self.options.get("config") or {})}
        self.run = self._library.init(**options)
        self._id, self._next = self.run.id, self.run.step

    def _write(self, values: dict[str, float], step: int) -> None:
        if step >= self._next:
            self.run.log(values, step=step)

    def _end(self, trainer: Trainer, *, failed: bool) -> None:
        if trainer.stopped is not None:
            self.run.summary["stopped"] = trainer.stopped
        self.run.finish(exit_code=int(failed))

    def state_dict(self) -> dict[str, Any]:
        return {"id": self._id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._id = state["id"]


@final
class MLflow(_Logger):
    """Write each epoch's row as a run of MLflow.

    The run's id is kept in the checkpoint, and a resumed run goes on with it. Steps that it has
    already are made again with the same values, and left out. MLflow's active run and settings
    of the whole program are not touched.

    Args:
        experiment: in which the run is; made if it is not there.
        uri: where MLflow keeps its runs, such as ``"sqlite:///runs/mlflow.db"`` or that of a
            server; what MLflow is set to if left out.
        name: of the run.
        every_steps: also write the loss, learning rate and gradient's length of every so many
            steps.

    Raises:
        ModuleNotFoundError: when mlflow is not installed, with the pip command to run.
        ValueError: when ``every_steps`` is below 1.

    Example:
        >>> MLflow("faces", uri="sqlite:///runs/mlflow.db").experiment  # doctest: +SKIP
        'faces'
    """

    def __init__(
        self,
        experiment: str,
        *,
        uri: str | None = None,
        name: str | None = None,
        every_steps: int | None = None,
    ) -> None:
        super().__init__(every_steps)
        self._library = _library("mlflow", "MLflow", "mlflow")
        self.experiment, self.uri, self.name = experiment, uri, name
        self._client: Any = None
        self._id: str | None = None
        self._done: dict[str, int] = {}
        self._resumed = False

    def _begin(self, trainer: Trainer) -> None:
        self._client = self._library.MlflowClient(tracking_uri=self.uri)
        self._resumed, self._done = self._id is not None, {}
        if self._id is not None:
            self._client.update_run(self._id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self.experiment)
        place = found.experiment_id if found else self._client.create_experiment(self.experiment)
        self._id = self._client.create_run(place, run_name=self.name).info.run_id
        for name, value in _settings(trainer).items():
            self._client.log_param(self._id, name, value)

    def _write(self, values: dict[str, float], step: int) -> None:
        made = self._library.entities.Metric
        now = int(1000 * time.time())
        metrics = [made(k, v, now, step) for k, v in values.items() if step > self._last(k)]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def _last(self, name: str) -> int:
        """The last step of which this run had a value before it was resumed."""
        if not self._resumed:
            return -1
        if name not in self._done:
            history = self._client.get_metric_history(self._id, name)
            self._done[name] = max((metric.step for metric in history), default=-1)
        return self._done[name]

    def _end(self, trainer: Trainer, *, failed: bool) -> None:
        if trainer.stopped is not None:
            self._client.set_tag(self._id, "stopped", trainer.stopped)
        self._client.set_terminated(self._id, status="FAILED" if failed else "FINISHED")

    def state_dict(self) -> dict[str, Any]:
        return {"id": self._id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._id = state["id"]


def _library(module: str, name: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        msg = f'{name} is not installed; run: pip install "siamlearn[{extra}]"'
        raise ModuleNotFoundError(msg, name=missing.name) from missing


def _settings(trainer: Trainer) -> dict[str, Any]:
    return {
        "epochs": trainer.epochs,
        "seed": trainer.seed,
        "precision": trainer.precision,
        "accumulate": trainer.accumulate,
        "net": type(trainer.net).__name__,
        "loss": repr(trainer.criterion).splitlines()[0],
        "optimizer": type(trainer.optimizer).__name__,
    }
