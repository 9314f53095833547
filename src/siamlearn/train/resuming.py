"""A trainer's state out of it and back into it, refused where it is not this trainer's."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from siamlearn.train import agreeing, checkpoint, describing
from siamlearn.train.checkpoint import CheckpointError
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.telling import from_first

if TYPE_CHECKING:
    from siamlearn.train.feed import Feed
    from siamlearn.train.trainer import Trainer

__all__ = ["captured", "resume"]


def captured(trainer: Trainer) -> dict[str, Any]:
    """The ``model``, and the ``state`` of everything else that training needs to go on.

    Example:
        >>> from siamlearn.train.trainer import Trainer
        >>> net = nn.Linear(3, 2)
        >>> trainer = Trainer(net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.1))
        >>> list(captured(trainer)["model"])
        ['weight', 'bias']
    """
    criterion = trainer.criterion
    state = {
        "step": trainer.step,
        "epoch": trainer.epoch,
        "batch": trainer.batch,
        "total": trainer.total,
        "counted": trainer.counted,
        "skipped": trainer.skipped,
        "log": trainer.log,
        "identity": _identity(trainer),
        "settings": _settings(trainer, trainer.feed),
        "options": trainer.options,
        "optimizer": trainer.optimizer.state_dict(),
        "schedule": None if trainer.schedule is None else trainer.schedule.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "average": None if trainer.average is None else trainer.average.state_dict(),
        "loss": criterion.state_dict() if isinstance(criterion, nn.Module) else {},
        "callbacks": {name: each.state_dict() for name, each in _callbacks(trainer).items()},
        "trained_on": list(getattr(trainer.net, "trained_on", ())),
    }
    # A copy: once the average is out of use, the net holds other weights.
    model = {
        k: v.clone() if isinstance(v, Tensor) else v for k, v in trainer.net.state_dict().items()
    }
    return {"model": model, "state": state}


def resume(trainer: Trainer, path: Path | None, feed: Feed | None = None) -> None:
    """Put a trainer where a checkpoint was saved.

    The first rank says which one, and all take it: another would see what the first one is
    writing meanwhile, or not see it yet. All ranks must call this.

    Args:
        trainer: made as the one that saved it.
        path: a checkpoint, a folder of checkpoints, or a run's folder with ``checkpoints/`` in it;
            None to leave the trainer as it is.
        feed: what the trainer is about to be fed; a warning tells where it was fed otherwise.

    Raises:
        CheckpointError: when there is no such folder, and the trainer keeps none of its
            checkpoints there; or the checkpoint cannot be read, or is of
            another net, optimizer or seed, or of a newer format. The trainer is as it was.

    Example:
        >>> import tempfile
        >>> from siamlearn.train.trainer import Trainer
        >>> net = nn.Linear(3, 2)
        >>> trainer = Trainer(net, nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.1))
        >>> trainer.step = 200
        >>> files = checkpoint.serialized(**captured(trainer))
        >>> place = checkpoint.save(Path(tempfile.mkdtemp()), 200, files)
        >>> trainer.step = 0
        >>> resume(trainer, place)
        >>> trainer.step
        200
    """
    kept = path is not None and _keeps(trainer, path)
    found = from_first(lambda: _found(path, kept), raises=CheckpointError)
    if found is None:
        if path is not None and not kept and trainer.first:
            warnings.warn(
                f"{path} has no checkpoints yet: training starts from the beginning", stacklevel=3
            )
        return
    model, state = _read(trainer, Path(found))
    _warn_of_changes(trainer, feed, state)
    _restore(trainer, model, state)


def _read(trainer: Trainer, place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        model, state = checkpoint.load(place)
        _refuse_others(trainer, model, state)
    except CheckpointError as error:
        msg = f"{error}{_last_good(place)}"
        agreeing.agree(trainer, error)
        raise type(error)(msg) from error
    agreeing.agree(trainer)
    return model, state


def _keeps(trainer: Trainer, path: Path) -> bool:
    """Whether the trainer is about to save into this folder, or into that of this run."""
    ours = {each.folder.resolve() for each in trainer.callbacks if isinstance(each, Checkpoint)}
    return not ours.isdisjoint({path.resolve(), (path / "checkpoints").resolve()})


def _found(path: Path | None, kept: bool) -> str | None:
    if path is None:
        return None
    one = checkpoint.is_checkpoint(path)
    folder = path.parent if one else path / "checkpoints"
    folder = folder if folder.is_dir() else path
    with suppress(OSError):  # a folder may be for reading only
        checkpoint.put_back(folder)
    if path.is_dir():
        latest = path if one else checkpoint.latest(folder)
        return None if latest is None else str(latest)
    if kept:
        return None
    msg = (
        f"there is no folder {path} to resume from; leave resume out to start anew, or keep "
        f"checkpoints there: a run started again then goes on by itself"
    )
    raise CheckpointError(msg)


def _last_good(place: Path) -> str:
    for other in checkpoint.checkpoints(place.parent):
        if other.name != place.name and checkpoint.is_whole(other):
            return f"; the last other checkpoint that is whole is {other}"
    return ""


def _identity(trainer: Trainer) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    config: Any = getattr(trainer.net, "config", None)
    return {
        "seed": trainer.seed,
        "net": config.to_dict() if hasattr(config, "to_dict") else type(trainer.net).__name__,
        "optimizer": type(trainer.optimizer).__name__,
        "schedule": None if trainer.schedule is None else type(trainer.schedule).__name__,
        "average": None if trainer.average is None else trainer.average.decay,
    }


def _settings(trainer: Trainer, feed: Feed | None) -> dict[str, Any]:
    """What may be changed on the way, at the price of a result that differs in bits."""
    return {
        "precision": trainer.precision,
        "accumulate": trainer.accumulate,
        "clip": trainer.clip,
        "micro_batch": trainer.micro_batch,
        "loss": repr(trainer.criterion) if isinstance(trainer.criterion, nn.Module) else "",
        "device": trainer.device.type,
        "augment": describing.written(trainer.augment),
        **({} if feed is None else feed.description),
    }


def _callbacks(trainer: Trainer) -> dict[str, Any]:
    """The callbacks by class name; a second one of a class is called "EarlyStopping 2"."""
    named: dict[str, Any] = {}
    for callback in trainer.callbacks:
        kind = type(callback).__name__
        count = sum(type(other).__name__ == kind for other in named.values())
        named[f"{kind} {count + 1}" if count else kind] = callback
    return named


def _refuse_others(trainer: Trainer, model: dict[str, Any], state: dict[str, Any]) -> None:
    for name, ours in _identity(trainer).items():
        theirs = state["identity"][name]
        if theirs != ours:
            _refuse(name, *describing.differing(theirs, ours))
    ours, theirs = _shapes(trainer.net.state_dict()), _shapes(model)
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            _refuse(f"net: {name}", theirs.get(name, "missing"), ours.get(name, "missing"))
    groups = [
        [len(g["params"]) for g in o["param_groups"]]
        for o in (state["optimizer"], trainer.optimizer.state_dict())
    ]
    if groups[0] != groups[1]:
        _refuse("number of parameters in each of the optimizer's groups", *groups)


def _warn_of_changes(trainer: Trainer, feed: Feed | None, state: dict[str, Any]) -> None:
    # An earlier version saved fewer settings, and no options.
    saved, now = state["settings"], _settings(trainer, feed)
    changed = [
        f"{name} was {saved[name]!r} and is {ours!r}"
        for name, ours in now.items()
        if name in saved and saved[name] != ours
    ]
    if changed:
        warnings.warn(f"resuming with other settings: {', '.join(changed)}", stacklevel=4)
    kept = [
        f"the checkpoint's {name} {theirs[name]} is kept, not {value}"
        for theirs, ours in zip(state.get("options", []), trainer.options, strict=False)
        for name, value in ours.items()
        if name in theirs and theirs[name] != value
    ]
    if kept:
        # Groups often differ alike: once is enough.
        warnings.warn("; ".join(dict.fromkeys(kept)), stacklevel=4)


def _refuse(name: str, theirs: object, ours: object) -> None:
    msg = f"the checkpoint is of another run: its {name} is {theirs}, and this trainer's is {ours}"
    raise CheckpointError(msg)


def _restore(trainer: Trainer, model: dict[str, Any], state: dict[str, Any]) -> None:
    trainer.net.load_state_dict(model)
    if isinstance(trainer.criterion, nn.Module):
        trainer.criterion.load_state_dict(state["loss"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    _lay_out(trainer.optimizer)
    if trainer.schedule is not None:
        trainer.schedule.load_state_dict(state["schedule"])
    trainer.scaler.load_state_dict(state["scaler"])
    if trainer.average is not None:
        trainer.average.load_state_dict(state["average"])
        trainer.average.rest()
    for name in ("step", "epoch", "batch", "total", "counted", "log"):
        setattr(trainer, name, state[name])
    # Earlier versions saved neither of these.
    trainer.options = state.get("options", trainer.options)
    trainer.skipped = state.get("skipped", 0)
    net: Any = trainer.net
    if hasattr(net, "trained_on"):
        # An earlier version did not know it.
        net.trained_on = tuple(sorted({*net.trained_on, *state.get("trained_on", ())}))
    named = _callbacks(trainer)
    for name, saved in state["callbacks"].items():
        if name in named:
            named[name].load_state_dict(saved)
        elif saved:
            warnings.warn(f"the checkpoint has a state of {name}, which is not here", stacklevel=4)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer's tensors the memory layout of their parameters, as they had it.

    Values are the same in any layout, but a loop over another one may round differently.
    """
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _shapes(tensors: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        for name, value in tensors.items()
        if isinstance(value, Tensor)
    }
