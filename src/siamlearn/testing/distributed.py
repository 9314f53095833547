"""Whether a loss on several ranks is the loss of one process, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from safetensors.torch import load, save
from torch import Tensor

from siamlearn.nn.ranks import in_order
from siamlearn.ranks import sum_gradients
from siamlearn.testing.checking import Checked
from siamlearn.testing.laws import parts
from siamlearn.testing.processes import RankError, on_ranks
from siamlearn.testing.trials import (
    LawBroken,
    Loss,
    Outcome,
    Trial,
    difference,
    parameters,
    seeded,
    tolerance,
)
from siamlearn.train.passes import cost

__all__ = ["check_distributed"]

STEPS = 2  # the second finds what the first has left in a memory


def check_distributed(
    loss: Loss,
    *,
    embeddings: Tensor | None = None,
    labels: Tensor | None = None,
    ranks: Sequence[int] = (2, 3),
    gathers: bool = False,
    patience: float = 60.0,
) -> Checked:
    """Prove that a loss on several ranks is that of one process: its value, and all gradients.

    The ranks are forks of this process, on the CPU. They have uneven shares of a batch, and one of
    them once has none; each takes two steps. The loss is called as a ``Trainer`` calls it, so that
    it need know nothing of ranks. What each rank finds for the parameters of the loss is added up.

    Args:
        loss: from embeddings and labels to a number: a ``PairLoss``, another module, a function.
        embeddings: of shape (n, d), to be shared out; twelve of eight dimensions if left out.
        labels: of shape (n,); 0 to 3 if left out.
        ranks: how many, for each trial.
        gathers: the loss itself asks the other ranks for theirs, for a loop of one's own.
        patience: how long to wait for all ranks of a trial, in seconds.

    Returns:
        What was found to hold.

    Raises:
        LawBroken: with the first trial that gives another loss or gradient, or none in time.
        ValueError: where the loss cannot be tried on such a batch.
        RuntimeError: where ranks cannot be started, such as on Windows.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> print(check_distributed(ContrastiveLoss(), ranks=[2]))
        2 ranks with 8 and 4 pictures: holds
        2 ranks with 12 and 0 pictures: holds
    """
    _refuse(ranks)
    trial = Trial(loss, embeddings, labels)
    work = partial(_steps, trial, gathers)
    n = len(trial.labels)
    try:
        (one,) = _said(1, partial(work, [torch.arange(n)]), patience)
    except RankError as error:
        raise ValueError(trial.refusal(error.reason)) from error
    held = []
    for count in ranks:
        for shares in _shares(n, count, parts(loss)):
            law = f"{count} ranks with {_listed([len(share) for share in shares])} pictures"
            try:
                said = _said(count, partial(work, shares), patience)
            except RankError as error:
                meaning = "what one process can do, several must do too"
                raise LawBroken(law, str(error), meaning) from error
            _compare(law, said, shares, one)
            held.append(law)
    return Checked(tuple(held))


def _refuse(ranks: Sequence[int]) -> None:
    if not ranks or min(ranks) < 2:
        msg = f"ranks must be numbers of processes of at least 2 each, got {[*ranks]}"
        raise ValueError(msg)


def _said(count: int, work: Callable[[int], bytes], patience: float) -> list[list[Outcome]]:
    """Of each rank, the outcome of each step."""
    return [_read(data) for data in on_ranks(count, work, patience=patience)]


def _steps(trial: Trial, gathers: bool, shares: list[Tensor], rank: int) -> bytes:
    """The part of one rank."""
    loss, mine = trial.fresh(), shares[rank]
    places = mine if len(shares) > 1 else None
    found: dict[str, Tensor] = {}
    learned = parameters(loss)
    for step in range(STEPS):
        embeddings = trial.embeddings[mine].requires_grad_()
        with seeded(), in_order(places, len(trial.labels)):
            labels = trial.labels[mine]
            value = loss(embeddings, labels) if gathers else cost(loss, embeddings, labels)
            torch.autograd.backward(value)
        sum_gradients([*learned.values()])
        found[f"{step} value"] = value.detach()
        found[f"{step} gradient"] = _or_zero(embeddings)
        for name, parameter in learned.items():
            found[f"{step} of {name}"] = _or_zero(parameter)
            parameter.grad = None
    return save({name: tensor.contiguous() for name, tensor in found.items()})


def _or_zero(end: Tensor) -> Tensor:
    if end.grad is None:
        return torch.zeros_like(end)
    return end.grad.to_dense() if end.grad.is_sparse else end.grad


def _read(data: bytes) -> list[Outcome]:
    tensors = load(data)

    def outcome(step: int) -> Outcome:
        start = f"{step} of "
        learned = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        return Outcome(tensors[f"{step} value"], tensors[f"{step} gradient"], learned)

    return [outcome(step) for step in range(STEPS)]


def _compare(
    law: str,
    said: list[list[Outcome]],
    shares: list[Tensor],
    one: list[Outcome],
) -> None:
    places = torch.cat(shares)
    for step, expected in enumerate(one):
        together = torch.cat([steps[step].gradient for steps in said])[places.argsort()]
        for rank, steps in enumerate(said):
            found = steps[step]._replace(gradient=together)
            wrong = difference(found, expected, within=tolerance(expected.value.dtype))
            if wrong:
                where = f"{wrong}, on rank {rank} at step {step + 1}"
                raise LawBroken(law, where + _factor(found, expected), _meaning(found, expected))


def _meaning(found: Outcome, expected: Outcome) -> str:
    if not torch.allclose(found.value, expected.value):
        return "each rank is to have the loss of the whole batch, not that of its share"
    return (
        "the loss is right and the way down is not: gradients must also come back from the other "
        "ranks, and of what all have, each answers for a share; a loss that asks the other ranks "
        "by itself is tried with gathers=True"
    )


def _factor(found: Outcome, expected: Outcome) -> str:
    """Where a gradient is right but for a factor, which."""
    for name, right in {"embeddings": expected.gradient, **expected.learned}.items():
        wrong = found.gradient if name == "embeddings" else found.learned[name]
        factor = float((wrong * right).sum() / right.square().sum().clamp(min=1e-30))
        alike = (wrong - factor * right).norm() <= 1e-6 * right.norm()
        if alike and abs(factor - 1) > 1e-6 and right.norm() > 0:
            return f" (all of the gradient at {name} is {factor:.4g} of what it should be)"
    return ""


def _shares(n: int, count: int, blocks: int) -> Iterator[list[Tensor]]:
    """Places in a batch of each rank: uneven ones; and all for some, with nothing for the last.

    Where a batch is of pairs side by side, each rank has the same rows of all its parts.
    """
    rows = n // blocks
    for weights in ([*range(count, 0, -1)], [*range(count - 1, 0, -1), 0]):
        ends = [rows * sum(weights[: i + 1]) // sum(weights) for i in range(count)]
        block = torch.arange(rows * blocks).view(blocks, rows)
        starts = [0, *ends[:-1]]
        yield [block[:, a:b].flatten() for a, b in zip(starts, ends, strict=True)]


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes[:-1])) + f" and {sizes[-1]}"
