"""What every law is tried on, and how its two sides are compared."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from known import LOSSES
from known.loss import Loss
from siamlearn.functional.distances import cosine, euclidean, squared_euclidean
from siamlearn.functional.pairings import all_pairs
from siamlearn.nn.losses import PairLoss

every_distance = pytest.mark.parametrize("distance", [cosine, euclidean, squared_euclidean])
few = hypothesis_settings(max_examples=8)


def every_loss(law: Callable[..., None]) -> Callable[..., None]:
    """Try a law on every loss; one that is exempt is skipped, with its reason."""

    def trial(loss: Loss) -> object:
        reason = loss.exempt.get(law.__name__)
        marks = [] if reason is None else [pytest.mark.skip(reason=reason)]
        return pytest.param(loss, id=loss.name, marks=marks)

    return pytest.mark.parametrize("loss", [trial(loss) for loss in LOSSES])(law)


@st.composite
def batches(draw, longest: int = 10) -> tuple[Tensor, Tensor]:
    """Embeddings and labels; identities may have one picture, or be all there is.

    With many identities of few pictures, positives are looked at by their columns alone.
    """
    n = draw(st.integers(0, longest))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    labels = torch.randint(draw(st.integers(1, 8)), (n,), generator=generator)
    embeddings = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), labels


def a_batch(n: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """A batch without surprises: four identities, in turn."""
    embeddings = torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    return embeddings.to(dtype).requires_grad_(), torch.arange(n) % 4


def value(loss: Loss, embeddings: Tensor, labels: Tensor, **how: object) -> Tensor:
    """The pure function, over all pairs of a batch; dense, unless said otherwise."""
    how = {"distance": loss.distance, "rows": len(labels), **how}
    return all_pairs(loss.terms, embeddings, labels, **how).mean()


def a_module(loss: Loss, dtype: torch.dtype = torch.float64, **choices: object) -> PairLoss:
    """The module, with the same parameters each time."""
    torch.manual_seed(0)
    return loss.module(**choices).to(dtype)


def with_gradient(value: Tensor, *ends: Tensor) -> tuple[Tensor, ...]:
    return value, *torch.autograd.grad(value, ends, allow_unused=True, materialize_grads=True)


def assert_same(one: tuple[Tensor, ...], other: tuple[Tensor, ...], within: float = 1e-10) -> None:
    torch.testing.assert_close(one, other, rtol=within, atol=within)


class Largest(TorchDispatchMode):
    """Of all that is made while it is on, how many numbers the largest tensor has."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        # A view, such as an expanded one, holds no numbers of its own.
        held = [t.untyped_storage().size() // t.itemsize for t in tree_leaves(made) if is_made(t)]
        self.numbers = max([self.numbers, *held])
        return made


def is_made(thing: object) -> bool:
    return isinstance(thing, Tensor) and thing.layout == torch.strided
