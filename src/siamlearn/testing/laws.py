"""Laws that a loss should keep: each a function of a trial, with a loss that knows no ranks.

A law that is broken raises :class:`LawBroken`. One that says nothing of this loss, or not all it
could, returns why; one that holds returns None. Its name is that of the function.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call

from siamlearn.functional.pairings import (
    adjacent_pairs,
    adjacent_triplets,
    anchor_swap,
    two_towers,
)
from siamlearn.nn.losses import PairLoss
from siamlearn.testing.trials import (
    LawBroken,
    Loss,
    Outcome,
    Trial,
    difference,
    outcome,
    parameters,
    seeded,
    told,
)

__all__ = [
    "Law",
    "autocast",
    "compilation",
    "extreme_scales",
    "gradient_of_small_steps",
    "half_precision",
    "hard_batches",
    "names_of_identities",
    "order_of_the_batch",
    "parts",
    "rows_of_pairs",
]

Law = Callable[[Trial], str | None]
"""From a trial to why it says nothing; None where the law holds."""


def hard_batches(trial: Trial) -> str | None:
    """The loss and its gradient are finite where there is little, or all in one place.

    Example:
        >>> hard_batches(Trial(lambda x, labels: x.square().sum()))
    """
    refused = []
    for name, embeddings, labels in _hard(trial.embeddings.float(), trial.labels):
        meaning = "one such batch ends a training"
        try:
            found = trial.outcome(embeddings, labels)
        except ValueError as error:
            refused.append(f"{name} ({told(error)})")
            continue
        except Exception as error:
            raise LawBroken(hard_batches, f"{name} raises {told(error)}", meaning) from error
        _finite(hard_batches, found, name, meaning)
    return f"refused are {', '.join(refused)}" if refused else None


def extreme_scales(trial: Trial) -> str | None:
    """No embedding is so long or short that the loss or its gradient is not a number.

    Infinite they may be: some losses do overflow.

    Example:
        >>> extreme_scales(Trial(lambda x, labels: x.square().sum()))
    """
    for scale in (1e-30, 1e-6, 1e3, 1e9):
        found = trial.outcome(trial.embeddings.float() * scale)
        meaning = "nets that explode or collapse should be told by their loss, not by a NaN"
        name = f"embeddings {scale:g} times as long"
        _finite(extreme_scales, found, name, meaning, test=lambda x: ~x.isnan())
    return None


def gradient_of_small_steps(trial: Trial) -> str | None:
    """The gradient, at embeddings and parameters, is what small steps find (``gradcheck``).

    Example:
        >>> gradient_of_small_steps(Trial(lambda x, labels: x.square().sum()))
    """
    loss = trial.fresh()
    ends = {"": trial.embeddings.clone().requires_grad_()} | parameters(loss)

    def value(embeddings: Tensor, *learned: Tensor) -> Tensor:
        with seeded():
            if not isinstance(loss, nn.Module):
                return loss(embeddings, trial.labels)
            # A copy each time, so that a memory is always that of the beginning.
            named = dict(zip([*ends][1:], learned, strict=True))
            found: Tensor = functional_call(deepcopy(loss), named, (embeddings, trial.labels))
            return found

    # Of float32, which some losses turn to, small steps must be larger.
    eps, atol, rtol = (1e-6, 1e-5, 1e-3) if trial.exact else (1e-2, 1e-2, 5e-2)
    large = sum(end.numel() for end in ends.values()) > 500
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is float32
            gradcheck(
                value,
                (*ends.values(),),
                eps=eps,
                atol=atol,
                rtol=rtol,
                nondet_tol=1e-9,
                fast_mode=large,
            )
    except RuntimeError as error:
        numbers = told(error)
        if not large:
            numbers = difference(*_by_small_steps(value, ends, eps), within=rtol) or numbers
        meaning = (
            "the net is led another way than downhill; look for a backward of one's own, detach() "
            "or .data, and leave this law out if it is meant"
        )
        raise LawBroken(gradient_of_small_steps, numbers, meaning) from error
    return None


def order_of_the_batch(trial: Trial) -> str | None:
    """Neither the loss nor its gradient asks in which order a batch comes.

    Example:
        >>> order_of_the_batch(Trial(lambda x, labels: x.square().sum()))
    """
    if parts(trial.loss) > 1:
        return "its pairing goes by places in the batch"
    order = torch.randperm(len(trial.labels), generator=torch.Generator().manual_seed(1))
    expected = trial.outcome()
    found = trial.outcome(trial.embeddings[order], trial.labels[order])
    wrong = difference(
        found._replace(gradient=found.gradient[order.argsort()]), expected, within=trial.within
    )
    if wrong:
        meaning = (
            "the same pictures in another order are another loss; leave this law out if the loss "
            "is of pairs or triplets side by side"
        )
        raise LawBroken(order_of_the_batch, f"{wrong}, in another order", meaning)
    return None


def names_of_identities(trial: Trial) -> str | None:
    """Labels say who is the same, and nothing else.

    Example:
        >>> names_of_identities(Trial(lambda x, labels: x.square().sum()))
    """
    if trial.labels.ndim != 1:
        return "the labels are of several identities a picture"
    names, who = torch.unique(trial.labels, return_inverse=True)
    kept = trial.fresh()
    tables = [*kept.parameters(), *kept.buffers()] if isinstance(kept, nn.Module) else []
    if any(table.ndim and len(table) > int(names.max()) for table in tables if table.numel() > 1):
        return "labels are places in what it learns or keeps"
    expected, large = trial.outcome(), torch.arange(len(names)) + 2**53
    for anew in (names.roll(1), large):
        try:
            found = trial.outcome(labels=anew.to(names.dtype)[who])
        except Exception as error:
            return f"names {anew[:3].tolist()} are refused: {told(error)}"
        wrong = difference(found, expected, within=trial.within)
        if wrong:
            numbers = f"{wrong}, with identities named {anew[:3].tolist()} and so on"
            meaning = "numbers of identities are names; compare them with ==, as whole numbers"
            raise LawBroken(names_of_identities, numbers, meaning)
    return None


def rows_of_pairs(trial: Trial) -> str | None:
    """Held a few rows of pairs at a time, the loss and its gradient are the same.

    Example:
        >>> rows_of_pairs(Trial(lambda x, labels: x.square().sum()))
        'only a PairLoss holds its pairs in rows'
    """
    whole = trial.fresh()
    if not _pair_losses(whole):
        return "only a PairLoss holds its pairs in rows"
    n = len(trial.labels)
    expected = outcome(_in_rows(whole, n), trial.embeddings, trial.labels)
    for rows in range(1, n):
        found = outcome(_in_rows(trial.fresh(), rows), trial.embeddings, trial.labels)
        wrong = difference(found, expected, within=trial.within)
        if wrong:
            meaning = (
                "a batch that does not fit the cache, or is on several ranks, is cut between "
                "rows; terms() must return sums and counts of each row, not means"
            )
            raise LawBroken(rows_of_pairs, f"{wrong}, with {rows} of {n} rows at once", meaning)
    return None


def half_precision(trial: Trial) -> str | None:
    """Of half-precision embeddings the loss is that of the same numbers in float32, in float32.

    Example:
        >>> half_precision(Trial(lambda x, labels: x.float().square().sum()))
    """
    meaning = "half precision has 3 digits, and ends at 65504; begin with embeddings.float()"
    for dtype in (torch.float16, torch.bfloat16):
        embeddings = trial.embeddings.to(dtype)
        try:
            found = trial.outcome(embeddings)
        except Exception as error:
            raise LawBroken(half_precision, f"{dtype} raises {told(error)}", meaning) from error
        if found.value.dtype != torch.float32:
            kind = f"the loss of {dtype} is {found.value.dtype}, not torch.float32"
            raise LawBroken(half_precision, kind, meaning)
        _finite(half_precision, found, f"{dtype}", meaning)
        expected = trial.outcome(embeddings.float())
        numbers = difference(found, expected, within=1e-2)
        close = found._replace(gradient=expected.gradient)
        numbers = numbers or difference(close, expected, within=1e-4)
        if numbers:
            raise LawBroken(half_precision, f"of {dtype}, {numbers}", meaning)
    return None


def autocast(trial: Trial) -> str | None:
    """Within ``torch.autocast`` the loss keeps the digits that it has outside.

    Example:
        >>> autocast(Trial(lambda x, labels: x.square().sum()))
    """
    embeddings, loss = trial.embeddings.float(), trial.fresh(torch.float32)

    def within(embeddings: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(embeddings, labels)

    found = outcome(loss, embeddings, trial.labels, way=within)  # the way back is outside
    wrong = difference(found, trial.outcome(embeddings), within=1e-4)
    if wrong:
        meaning = (
            "products of matrices lose digits there; compute the loss within "
            "torch.autocast(embeddings.device.type, enabled=False), as a Trainer does"
        )
        raise LawBroken(autocast, f"{wrong}, under autocast", meaning)
    return None


def compilation(trial: Trial) -> str | None:
    """``torch.compile`` captures the loss in one graph, there and back, and changes nothing.

    Example:
        >>> compilation.__name__  # takes seconds
        'compilation'
    """
    embeddings, loss = trial.embeddings.float(), trial.fresh(torch.float32)
    meaning = "a graph that breaks waits for the GPU; leave it out by compile=False"
    torch.compiler.reset()  # a new graph for each loss, and not one too many
    try:
        compiled = torch.compile(loss, fullgraph=True, dynamic=False, backend="aot_eager")
        found = outcome(loss, embeddings, trial.labels, way=compiled)
    except Exception as error:
        raise LawBroken(compilation, f"it stops with {told(error)}", meaning) from error
    finally:
        torch.compiler.reset()
    wrong = difference(found, trial.outcome(embeddings), within=1e-4)
    if wrong:
        raise LawBroken(compilation, f"{wrong}, compiled", "the graph is not the loss")
    return None


def parts(loss: Loss) -> int:
    """Of how many parts a batch is for a loss; more than one where it goes by places in it.

    Example:
        >>> from siamlearn.nn.losses import ContrastiveLoss
        >>> parts(ContrastiveLoss(pairing=adjacent_pairs)), parts(ContrastiveLoss())
        (2, 1)
    """
    known = {adjacent_pairs: 2, two_towers: 2, adjacent_triplets: 3, anchor_swap: 3}
    # Some losses wrap the pairing that they are given.
    pairings = [getattr(part.pairing, "pairing", part.pairing) for part in _pair_losses(loss)]
    return max([known.get(pairing, 1) for pairing in pairings], default=1)


def _hard(embeddings: Tensor, labels: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Hard batches by name, with labels that the loss knows."""
    n = len(embeddings)
    identities: dict[object, int] = {}
    for place, label in enumerate(labels.tolist()):
        identities.setdefault(str(label), place)
    each = [*identities.values()]
    yield "one picture", embeddings[:1], labels[:1]
    yield "one identity", embeddings, labels[:1].expand_as(labels).clone()
    yield "identities of one picture each", embeddings[each], labels[each]
    twice = embeddings.clone()
    twice[-1] = twice[0]
    yield "a picture twice, with two names", twice, labels
    same = torch.cat([embeddings[:1], embeddings]), torch.cat([labels[:1], labels])
    yield "a picture twice", same[0][: n // 6 * 6], same[1][: n // 6 * 6]
    yield "all embeddings in one place", embeddings[:1].expand_as(embeddings), labels
    sign = 1 - 2 * (torch.arange(n) % 2)[:, None]
    yield "all embeddings opposite", embeddings[:1] * sign, labels
    yield "some embeddings zero", embeddings * (sign > 0), labels
    yield "all embeddings zero", torch.zeros_like(embeddings), labels


def _finite(
    law: Law,
    found: Outcome,
    name: str,
    meaning: str,
    *,
    test: Callable[[Tensor], Tensor] = torch.isfinite,
) -> None:
    if not test(found.value).all():
        raise LawBroken(law, f"the loss of {name} is {found.value.item()}", meaning)
    for where, gradient in {"the embeddings": found.gradient, **found.learned}.items():
        bad = ~test(gradient)
        if bad.any():
            numbers = f"{int(bad.sum())} of {bad.numel()} entries"
            text = f"the gradient at {where} has {gradient[bad][0].item()} in {numbers}, for {name}"
            raise LawBroken(law, text, meaning)


def _by_small_steps(
    value: Callable[..., Tensor], ends: dict[str, Tensor], eps: float
) -> tuple[Outcome, Outcome]:
    """What autograd finds, and what small steps do."""
    # In memory of their own, of which entries can be moved.
    held = {name: end.detach().clone().requires_grad_() for name, end in ends.items()}
    now = value(*held.values())
    promised = torch.autograd.grad(now, [*held.values()], allow_unused=True, materialize_grads=True)
    found = []
    with torch.no_grad():
        for end in held.values():
            slope, flat = torch.zeros_like(end), end.view(-1)
            for i, before in enumerate(flat.tolist()):
                flat[i] = before + eps
                there = value(*held.values())
                flat[i] = before - eps
                slope.view(-1)[i] = (there - value(*held.values())) / (2 * eps)
                flat[i] = before
            found.append(slope)

    def outcome(gradients: Sequence[Tensor]) -> Outcome:
        return Outcome(now, gradients[0], dict(zip([*held][1:], gradients[1:], strict=True)))

    return outcome(promised), outcome(found)


def _pair_losses(loss: Loss) -> list[PairLoss]:
    modules = loss.modules() if isinstance(loss, nn.Module) else ()
    return [module for module in modules if isinstance(module, PairLoss)]


def _in_rows(loss: Loss, rows: int) -> Loss:
    for part in _pair_losses(loss):
        part.rows = rows
    return loss
