"""What the loss learns, in the optimizer of the net: proxies, temperatures, margins."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from siamlearn.nn.references import Memory

__all__ = ["gradient_norm", "join", "remembered", "step_schedule"]

SHARE = "share_of_first_lr"
TAKE_SPARSE = (torch.optim.SGD, torch.optim.Adagrad, torch.optim.SparseAdam)


def join(optimizer: torch.optim.Optimizer, loss: object, *, lr: float | None = None) -> None:
    """Put what a loss learns into an optimizer, as a group of its own, where it is not there yet.

    The group has the settings of the first one, but does not decay: a temperature is not to
    become 0. Vectors with a sparse gradient have no momentum either, which would move all others.

    Args:
        lr: where the learning rate of the group begins; that of the first group if left out.

    Raises:
        ValueError: where ``lr`` has nothing to be for, or is not above zero; or where a gradient
            is sparse and the optimizer takes none.

    Example:
        >>> net, loss = nn.Linear(2, 2), nn.Bilinear(2, 2, 1)
        >>> optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
        >>> join(optimizer, loss, lr=0.5)
        >>> [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        [(0.1, 0.01), (0.5, 0.0)]
    """
    first = optimizer.param_groups[0]
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = loss.named_parameters() if isinstance(loss, nn.Module) else ()
    new = {f"loss.{name}": p for name, p in named if p.requires_grad and id(p) not in known}
    if lr is not None and (lr <= 0 or not new):
        msg = f"loss_lr must be above zero, got {lr}"
        if lr > 0:
            msg = f"loss_lr={lr} is for what the loss learns, but that is nothing, or has its group"
        raise ValueError(msg)
    if not new:
        return
    sparse = _gives_sparse(loss)
    kind = type(optimizer)
    if sparse and kind.__module__.startswith("torch.optim.") and kind not in TAKE_SPARSE:
        msg = f"{kind.__name__} takes no sparse gradients; use SGD or Adagrad, or sparse=False"
        raise ValueError(msg)
    begun = float(first.get("initial_lr", first["lr"]))
    lr = begun if lr is None else lr
    share = lr / begun if begun else None
    changed: dict[str, object] = {"lr": lr if share is None else share * first["lr"], SHARE: share}
    changed |= {"initial_lr": lr, "weight_decay": 0.0, "momentum": 0.0 if sparse else None}
    kept = {name: value for name, value in first.items() if name not in ("params", "param_names")}
    kept |= {n: v for n, v in changed.items() if v is not None and (n in first or n == SHARE)}
    params = list(new.items()) if "param_names" in first else list(new.values())
    optimizer.add_param_group({"params": params, **kept})


def step_schedule(schedule: LRScheduler, optimizer: torch.optim.Optimizer) -> None:
    """Step a schedule; groups that came after it was made go along with the first one.

    Example:
        >>> optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
        >>> schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        >>> join(optimizer, nn.Bilinear(2, 2, 1), lr=0.4)
        >>> _ = optimizer.step()
        >>> step_schedule(schedule, optimizer)
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.05, 0.2]
    """
    everyone, groups = optimizer.param_groups, len(schedule.get_last_lr())
    optimizer.param_groups = everyone[:groups]
    try:
        schedule.step()
    finally:
        optimizer.param_groups = everyone
    for group in everyone[groups:]:
        if group.get(SHARE) is not None:
            group["lr"] = group[SHARE] * everyone[0]["lr"]


def gradient_norm(parameters: Sequence[Tensor], *, clip: float | None = None) -> Tensor:
    """Length of the whole gradient, before it is scaled down to ``clip`` where it is longer.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> gradient_norm([weight], clip=1.0), weight.grad
        (tensor(5.), tensor([0.6000, 0.8000]))
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    sparse = any(gradient.is_sparse for gradient in gradients)
    if clip is not None and not sparse:
        return nn.utils.clip_grad_norm_(parameters, clip)
    if sparse:
        for parameter in parameters:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
        gradients = [p.grad for p in parameters if p.grad is not None]
    values = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(value) for value in values])
    )
    if clip is not None:
        for value in values:
            value.mul_((clip / (norm + 1e-6)).clamp(max=1))
    return norm


@contextmanager
def remembered(statistics: Sequence[Tensor], loss: object) -> Iterator[Callable[[], None]]:
    """What puts back, also later, what is changed meanwhile before it is known to be bad.

    Args:
        statistics: of the norms of a net.
        loss: whose buffers are put back too. A memory notes what it writes over, which is little
            of it; anything else is copied beforehand.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with remembered([*norm.buffers()], None) as put_back:
        ...     _ = norm(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> put_back()
        >>> norm.running_mean
        tensor([0., 0.])
    """
    modules = [*loss.modules()] if isinstance(loss, nn.Module) else []
    held = [(m, dict(m._buffers)) for m in modules if not isinstance(m, Memory) and m._buffers]
    buffers = [*statistics, *(b for _, own in held for b in own.values() if b is not None)]
    before = [buffer.clone() for buffer in buffers]
    with ExitStack() as noting:
        undone = [noting.enter_context(m.noted()) for m in modules if isinstance(m, Memory)]

        def put_back() -> None:
            for module, own in held:
                module._buffers.update(own)
            for buffer, old in zip(buffers, before, strict=True):
                buffer.copy_(old)
            for undo in undone:
                undo()
            if isinstance(loss, nn.Module):
                # Whatever else a loss takes from its buffers, it takes as it does when loaded.
                loss.load_state_dict(dict(loss.named_buffers()), strict=False)

        yield put_back


def _gives_sparse(loss: object) -> bool:
    modules = loss.modules() if isinstance(loss, nn.Module) else ()
    return any(getattr(module, "sparse", False) is True for module in modules)
