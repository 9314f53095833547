"""What losses ask of what they are given, and how their settings are shown."""

from functools import partial

import torch
from torch import Tensor

from siamlearn.functional.pairings import References, itself

__all__ = ["check_callable", "checked", "checked_batch", "shown"]

MAY_BE_LEFT_OUT = {"miner", "references"}
# There is little that torch does with these.
UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}


def check_callable(**choices: object) -> None:
    """Refuse what must be a function, or left out, and is neither.

    Raises:
        ValueError: that names it.

    Example:
        >>> check_callable(miner=None, distance=torch.cdist)
    """
    for name, choice in choices.items():
        if (choice is None and name in MAY_BE_LEFT_OUT) or (
            callable(choice) and not isinstance(choice, type)
        ):
            continue
        hint = {
            "references": "such as Proxies(...) or Memory(...); embeddings go with the call",
            "miner": "from a block of pairs to a block of pairs, as in functional.mining",
            "penalty": "from numbers to their costs, such as torch.relu",
            "distance": "from (q, d) and (r, d) to (q, r), such as euclidean or cosine",
        }.get(name, "such as all_pairs")
        msg = f"{name} must be a function, {hint}; got {choice!r}"
        raise ValueError(msg)


def checked_batch(
    embeddings: Tensor,
    labels: Tensor | None,
    references: tuple[Tensor, Tensor] | None,
    same: Tensor | None,
) -> tuple[tuple[Tensor, Tensor], References | None]:
    """A batch and what it is compared with, if their shapes and types fit.

    Raises:
        ValueError: where they do not.

    Example:
        >>> x, y = torch.zeros(2, 3), torch.tensor([7, 8])
        >>> batch, references = checked_batch(x, y, (x, y), None)
        >>> references.labels
        tensor([7, 8])
    """
    if (labels is None) == (same is None):
        msg = "a loss needs labels, or same=: the answer for every pair; got "
        msg += "neither" if labels is None else "both"
        raise ValueError(msg)
    _check_embeddings(embeddings)
    if references is not None and (
        not isinstance(references, tuple | list) or len(references) != 2
    ):
        msg = "references must be two tensors, embeddings and their labels"
        raise ValueError(msg)
    if same is not None:
        return _checked_same(embeddings, None if references is None else references[0], same)
    assert labels is not None
    batch = checked(embeddings, labels)
    if references is None:
        return batch, None
    beside = References(*checked(*references), _own(embeddings, references[0]))
    _check_width(embeddings, beside.embeddings)
    if labels.shape[1:] != references[1].shape[1:]:
        msg = (
            f"labels of references must be of the kind that the batch has, got shapes "
            f"{tuple(references[1].shape)} and {tuple(labels.shape)}"
        )
        raise ValueError(msg)
    return batch, beside


def checked(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings and their labels, if their shapes and types fit.

    Raises:
        ValueError: where they do not.

    Example:
        >>> len(checked(torch.zeros(2, 3), torch.tensor([7, 8])))
        2
    """
    _check_embeddings(embeddings)
    if not isinstance(labels, Tensor):
        msg = f"labels must be a tensor, got {type(labels).__name__}; use torch.as_tensor(labels)"
        raise ValueError(msg)
    several = labels.ndim == 2 and labels.dtype == torch.bool
    if labels.shape[:1] != embeddings.shape[:1] or not (labels.ndim == 1 or several):
        msg = (
            f"labels must have one entry for each embedding: got labels of shape "
            f"{tuple(labels.shape)} for embeddings of shape {tuple(embeddings.shape)}"
        )
        if labels.ndim == 2:
            msg += "; for several identities a picture they must be true or false: labels.bool()"
        raise ValueError(msg)
    if labels.is_floating_point() or labels.is_complex() or (labels.dtype == torch.bool) != several:
        msg = (
            f"labels must be whole numbers that name identities, got {labels.dtype}; for several "
            "identities a picture, use true and false of shape (pictures, identities)"
        )
        raise ValueError(msg)
    return embeddings, labels.long() if labels.dtype in UNSIGNED else labels


def shown(value: object) -> object:
    """A setting as it stands in ``repr``: functions by their names.

    Example:
        >>> shown(torch.cdist), shown(partial(torch.cdist, p=1.0)), shown(0.5)
        ('cdist', 'cdist(p=1.0)', 0.5)
    """
    if isinstance(value, partial):
        given = [str(shown(each)) for each in value.args]
        given += [f"{name}={shown(each)}" for name, each in value.keywords.items()]
        return f"{shown(value.func)}({', '.join(given)})"
    return getattr(value, "__name__", value)


def _checked_same(
    embeddings: Tensor, others: Tensor | None, same: Tensor
) -> tuple[tuple[Tensor, Tensor], References]:
    beside = embeddings if others is None else others
    _check_embeddings(beside)
    _check_width(embeddings, beside)
    if not isinstance(same, Tensor):
        msg = f"same must be a tensor, got {type(same).__name__}; use torch.as_tensor(same)"
        raise ValueError(msg)
    if same.dtype != torch.bool or same.shape != (len(embeddings), len(beside)):
        msg = (
            f"same must be true or false for each of {len(embeddings)} embeddings beside each of "
            f"{len(beside)}, got {same.dtype} of shape {tuple(same.shape)}"
        )
        raise ValueError(msg)
    return (embeddings, same), References(beside, None, _own(embeddings, beside))


def _own(embeddings: Tensor, others: Tensor) -> Tensor | None:
    """Where the batch stands among the others, if they are the batch itself."""
    return itself(embeddings, embeddings).own if others is embeddings else None


def _check_embeddings(embeddings: Tensor) -> None:
    if not isinstance(embeddings, Tensor):
        msg = f"embeddings must be a tensor, got {type(embeddings).__name__}"
        raise ValueError(msg)
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        msg = (
            f"embeddings must be one row of floats a picture, got {embeddings.dtype} of shape "
            f"{tuple(embeddings.shape)}; flatten what a net gives to (pictures, dimensions)"
        )
        raise ValueError(msg)


def _check_width(embeddings: Tensor, others: Tensor) -> None:
    if embeddings.shape[1] != others.shape[1]:
        msg = (
            f"references must have as many dimensions as the batch, got {others.shape[1]} and "
            f"{embeddings.shape[1]}"
        )
        raise ValueError(msg)
