"""A loss on trial: what it is tried on, what comes out, and how two outcomes differ.

Axes: n pictures of a batch, d embedding dimensions, k identities of one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

__all__ = [
    "LawBroken",
    "Loss",
    "Outcome",
    "Trial",
    "a_batch",
    "difference",
    "name_of",
    "outcome",
    "parameters",
    "seeded",
    "told",
    "tolerance",
]

Loss = Callable[[Tensor, Tensor], Tensor]
"""From embeddings and labels to one number: a module or a function."""


@final
class LawBroken(AssertionError):  # noqa: N818 - it says what happened
    """A loss does not keep a law.

    Attributes:
        law: its name.
        found: what came out, in numbers, and what should have.
        meaning: what that does to a training.

    Example:
        >>> LawBroken("order", "the loss is 1 one way and 2 the other", "batches have no order")
        LawBroken('order: the loss is 1 one way and 2 the other; batches have no order')
    """

    def __init__(self, law: Callable[..., object] | str, found: str, meaning: str) -> None:
        self.law, self.found, self.meaning = name_of(law), found, meaning
        super().__init__(f"{self.law}: {found}; {meaning}")


class Outcome(NamedTuple):
    """What a loss says of a batch.

    Attributes:
        value: the loss.
        gradient: at the embeddings, of shape (n, d).
        learned: the gradient of each parameter of the loss that learns, by its name.

    Example:
        >>> Outcome(torch.tensor(2.0), torch.ones(3, 2), {}).value
        tensor(2.)
    """

    value: Tensor
    gradient: Tensor
    learned: dict[str, Tensor]


@final
class Trial:
    """A loss, and a batch to try it on.

    Each try begins with the loss as it was given, so that what a memory has seen does not count,
    and with the same random numbers; those of the caller are left alone.

    Args:
        loss: a module, or a function, from embeddings and labels to a number.
        embeddings: of shape (n, d); some with four identities if left out.
        labels: of shape (n,), or (n, k).

    Raises:
        ValueError: where one of both is missing.

    Example:
        >>> trial = Trial(lambda embeddings, labels: embeddings.square().sum(), *a_batch())
        >>> trial.outcome().value.dtype
        torch.float64
    """

    def __init__(
        self, loss: Loss, embeddings: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        if (embeddings is None) != (labels is None):
            msg = "give both embeddings and labels, or leave both out; got one of them"
            raise ValueError(msg)
        if embeddings is None or labels is None:
            embeddings, labels = a_batch()
        self.loss = loss
        self.embeddings = embeddings.detach().cpu().double()
        self.labels = labels.detach().cpu()

    def first(self) -> Tensor:
        """The loss of the batch.

        Raises:
            ValueError: where it cannot be tried on it.
        """
        try:
            value = self.fresh()(self.embeddings.clone().requires_grad_(), self.labels)
        except Exception as error:
            raise ValueError(self.refusal(told(error))) from error
        if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
            given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            msg = f"a loss must give one number, a tensor of shape (), got {given}"
            raise ValueError(msg)
        return value

    @cached_property
    def exact(self) -> bool:
        """Whether it computes in float64; some losses turn to float32 by themselves."""
        return self.first().dtype == torch.float64

    @property
    def within(self) -> float:
        """How much of the largest entry does not count."""
        return tolerance(torch.float64 if self.exact else torch.float32)

    def refusal(self, reason: str) -> str:
        """What to tell where the loss cannot be tried."""
        n, d = self.embeddings.shape
        return (
            f"the loss must take a batch of {n} embeddings of {d} dimensions in float64, but "
            f"raised {reason}; give embeddings= and labels= as it has them in training, six "
            "pictures or more of several identities"
        )

    def fresh(self, dtype: torch.dtype = torch.float64) -> Loss:
        """The loss as it was given, on the CPU; what it has of numbers in this precision."""
        if not isinstance(self.loss, nn.Module):
            return self.loss
        return deepcopy(self.loss).cpu().to(dtype)

    def outcome(self, embeddings: Tensor | None = None, labels: Tensor | None = None) -> Outcome:
        """What the loss says of these embeddings, or of its own, in their precision."""
        embeddings = self.embeddings if embeddings is None else embeddings
        labels = self.labels if labels is None else labels
        wide = embeddings.dtype if embeddings.dtype == torch.float64 else torch.float32
        return outcome(self.fresh(wide), embeddings, labels)


def a_batch(n: int = 12, d: int = 8) -> tuple[Float[Tensor, "n d"], Shaped[Tensor, " n"]]:
    """A batch without surprises: four identities, in turn.

    They are as far apart as the margins of most losses, some nearer and some farther.

    Example:
        >>> embeddings, labels = a_batch(5)
        >>> labels
        tensor([0, 1, 2, 3, 0])
    """
    generator = torch.Generator().manual_seed(n)
    embeddings = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return 1.2 * embeddings / (2 * d) ** 0.5, torch.arange(n) % 4


def outcome(loss: Loss, embeddings: Tensor, labels: Tensor, *, way: Loss | None = None) -> Outcome:
    """The loss of a batch and all its gradients.

    Args:
        way: what is called for the loss, such as the same compiled.

    Raises:
        RuntimeError: where there is no way back from the loss, to the embeddings or to what
            it learns.

    Example:
        >>> outcome(lambda x, labels: x.square().sum(), torch.ones(1, 2), torch.arange(1)).gradient
        tensor([[2., 2.]])
    """
    mine = embeddings.detach().clone().requires_grad_()
    learned = parameters(loss)
    with seeded():
        value = (loss if way is None else way)(mine, labels)
    gradients = torch.autograd.grad(
        value, (mine, *learned.values()), allow_unused=True, materialize_grads=True
    )
    dense = [g.to_dense() if g.is_sparse else g for g in gradients]
    return Outcome(value.detach(), dense[0], dict(zip(learned, dense[1:], strict=True)))


def parameters(loss: Loss) -> dict[str, nn.Parameter]:
    """What a loss learns, by name; a function learns nothing.

    Example:
        >>> [*parameters(nn.Linear(2, 1, bias=False))]
        ['weight']
    """
    named = loss.named_parameters() if isinstance(loss, nn.Module) else ()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def name_of(law: Callable[..., object] | str) -> str:
    """The name of a law, in words.

    Example:
        >>> name_of(a_batch)
        'a batch'
    """
    return law if isinstance(law, str) else getattr(law, "__name__", repr(law)).replace("_", " ")


@contextmanager
def seeded() -> Iterator[None]:
    """Within, random numbers are the same each time; afterwards they go on as before.

    Example:
        >>> with seeded():
        ...     one = torch.rand(1)
        >>> with seeded():
        ...     one == torch.rand(1)
        tensor([True])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def difference(found: Outcome, expected: Outcome, *, within: float) -> str:
    """In what two outcomes differ, in numbers; empty where they do not.

    Args:
        within: how much of the largest entry does not count.

    Example:
        >>> one = Outcome(torch.tensor(1.0), torch.ones(3, 2), {})
        >>> difference(one._replace(value=torch.tensor(2.0)), one, within=1e-6)
        'the loss is 2 instead of 1'
        >>> difference(one._replace(gradient=torch.zeros(3, 2)), one, within=1e-6)
        'the gradient at embedding 0, dimension 0 is 0 instead of 1'
    """
    if _far(found.value, expected.value, within).any():
        return f"the loss is {found.value.item():.7g} instead of {expected.value.item():.7g}"
    names = {"embedding": (found.gradient, expected.gradient)}
    names |= {n: (found.learned[n], right) for n, right in expected.learned.items()}
    for name, (gradient, right) in names.items():
        far = _far(gradient, right, within)
        if far.any():
            place = [int(i) for i in (gradient - right).nan_to_num(torch.inf).abs().argmax()[None]]
            where = [int(i) for i in torch.unravel_index(torch.tensor(place[0]), right.shape)]
            what = f"{name}{where}"
            if name == "embedding":
                what = f"embedding {where[0]}, dimension {where[1]}"
            wrong, should = gradient.flatten()[place[0]], right.flatten()[place[0]]
            return f"the gradient at {what} is {wrong:.7g} instead of {should:.7g}"
    return ""


def tolerance(dtype: torch.dtype) -> float:
    """How much of the largest entry does not count, in a precision.

    Example:
        >>> tolerance(torch.float64)
        1e-08
    """
    return 1e-8 if dtype == torch.float64 else 1e-4


def told(error: BaseException) -> str:
    """An error in one line.

    Example:
        >>> told(ValueError("margin must be above zero\\nand is not"))
        'ValueError: margin must be above zero'
    """
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"


def _far(found: Tensor, expected: Tensor, within: float) -> Tensor:
    found, expected = found.double(), expected.double()
    size = expected.abs().max().clamp(min=1e-2) if expected.numel() else 1.0
    # Turned around, so that what is not a number is far from everything.
    return ~((found - expected).abs() <= within * size)
