"""What distances do to vectors before they multiply them.

Axes: b separate blocks, q queries, r references, d embedding dimensions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "centred",
    "full_precision",
    "lengths",
    "levelled",
    "measured_by_squares",
    "polar",
    "product",
    "squarable",
    "square_distance",
    "unit",
]


def full_precision(embeddings: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """The same in float32, or wider if they are.

    Example:
        >>> full_precision(torch.ones(2, 1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


def polar(
    embeddings: Float[Tensor, "*b n d"],
) -> tuple[Float[Tensor, "*b n d"], Float[Tensor, "*b n"]]:
    """The direction of each, of length 1, and its length, also where its square is no float.

    What is within 1e-32 of 0 in float32, or within 1e-301 in float64, counts as the zero vector,
    which stays where it is.

    Example:
        >>> polar(torch.tensor([[3e25, 4e25], [0.0, 0.0]]))
        (tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]]), tensor([5.0000e+25, 0.0000e+00]))
    """
    if not (embeddings.requires_grad and torch.is_grad_enabled()):
        return _Polar.forward(embeddings)  # what autograd costs a call is much for a small batch
    found: tuple[Tensor, Tensor] = _Polar.apply(embeddings)
    return found


def lengths(embeddings: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n"]:
    """The length of each alone; the gradient of the zero vector is 0.

    Example:
        >>> lengths(torch.tensor([[3e25, 4e25], [0.0, 0.0]]))
        tensor([5.0000e+25, 0.0000e+00])
    """
    # The square of a float32 is a float64; and this takes a tenth of the time of polar.
    length: Tensor = torch.linalg.vector_norm(embeddings, dim=-1, dtype=torch.float64)
    return length.to(embeddings.dtype)


def unit(embeddings: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """Each divided by its length; the zero vector stays where it is.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return polar(embeddings)[0]


def product(
    queries: Float[Tensor, "*b q d"], references: Float[Tensor, "*b r d"]
) -> Float[Tensor, "*b q r"]:
    """Every query times every reference, with all digits where autocast is on: going back, too.

    Example:
        >>> product(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 2.0]]))
        tensor([[11.]])
    """
    # A view, as torch.compile does not take a batch beside itself: the same tensor twice.
    made: Tensor = _Product.apply(queries, references.view_as(references))
    return made


def centred(
    queries: Float[Tensor, "*b q d"], references: Float[Tensor, "*b r d"]
) -> tuple[Float[Tensor, "*b q d"], Float[Tensor, "*b r d"]]:
    """Both moved to where the references are: differences stay, and keep more of their digits.

    Example:
        >>> centred(torch.tensor([[9.0]]), torch.tensor([[7.0], [9.0]]))
        (tensor([[1.]]), tensor([[-1.],
                [ 1.]]))
    """
    centre = references.mean(dim=-2, keepdim=True) if references.shape[-2] else 0
    moved = references - centre
    return moved if queries is references else queries - centre, moved


def levelled(embeddings: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    """Each less the mean of its own dimensions.

    Example:
        >>> levelled(torch.tensor([[1.0, 3.0]]))
        tensor([[-1.,  1.]])
    """
    return embeddings - embeddings.mean(dim=-1, keepdim=True)


def measured_by_squares(embeddings: Float[Tensor, "*b n d"]) -> bool:
    """Whether their distances may be taken by :func:`square_distance`, which needs doubles.

    Example:
        >>> measured_by_squares(torch.ones(1, 2)), measured_by_squares(torch.ones(1, 2).double())
        (True, False)
    """
    return embeddings.dtype == torch.float32 and embeddings.device.type != "mps"


def squarable(
    queries: Float[Tensor, "*b q d"], references: Float[Tensor, "*b r d"]
) -> tuple[Float[Tensor, "*b q e"], Float[Tensor, "*b r e"]]:
    """Two matrices whose product is the square of every distance, in double precision.

    In float32, ``|x|² + |y|² - 2xy`` has lost every digit of a distance below 1e-3 of the length.
    Doubles keep seven digits of it, and are still several times faster than the differences one by
    one.

    Example:
        >>> left, right = squarable(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]]))
        >>> left @ right.mT
        tensor([[25.]], dtype=torch.float64)
    """
    itself = queries is references
    queries, references = centred(queries.double(), references.double())
    square = queries.square().sum(dim=-1, keepdim=True)
    other_square = square if itself else references.square().sum(dim=-1, keepdim=True)
    left = torch.cat([-2 * queries, square, torch.ones_like(square)], dim=-1)
    return left, torch.cat([references, torch.ones_like(other_square), other_square], dim=-1)


def square_distance(
    left: Float[Tensor, "*b q e"], right: Float[Tensor, "*b r e"]
) -> Float[Tensor, "*b q r"]:
    """The product of what :func:`squarable` gives, in float32, exactly 0 between equal vectors.

    Example:
        >>> x = torch.tensor([[3.0, 4.0], [0.1, 0.2]])
        >>> square_distance(*squarable(x, x)).diagonal()
        tensor([0., 0.])
    """
    # What is left between equal vectors is rounding, and less than this (Higham 2002, eq. 3.5).
    rounding = 4 * left.shape[-1] * torch.finfo(torch.float64).eps * left[..., -2:-1]
    # Measured in powers of two not below it, which changes no digit, what is under 1 is rounding:
    # one threshold for all takes a third of the time of comparing each with that of its row.
    grain = rounding.clamp(min=1e-300).log2().ceil().exp2()
    square: Tensor = F.threshold((left / grain) @ right.mT, 1, 0, inplace=True)
    return square.mul_(grain).float()


class _Polar(torch.autograd.Function):
    """Measured in a power of two near the largest number of each, which changes no other digit."""

    @staticmethod
    def forward(vectors: Tensor) -> tuple[Tensor, Tensor]:
        if not vectors.shape[-1]:
            return vectors.clone(), vectors.new_zeros(vectors.shape[:-1])
        # vector_norm takes 20 times as long, and abs needs a tensor as large as all.
        largest = torch.maximum(vectors.amax(dim=-1, keepdim=True), -vectors.amin(-1, keepdim=True))
        grain = largest / (2 * torch.frexp(largest).mantissa)
        # Nearer to 0, a gradient would be no float: it grows as the length shrinks.
        least = torch.finfo(vectors.dtype).tiny * 2**20
        grain = grain.where((largest > least) & (largest < torch.inf), 1)
        direction = vectors / grain
        length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        # Dividing the zero vector by a very small number instead would give it a huge gradient.
        direction.div_(length.where(length > 0, 1))
        return direction, (length * grain).squeeze(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, turn: Tensor | None, growth: Tensor | None) -> Tensor | None:
        direction, length = ctx.saved_tensors
        along = None if growth is None else growth[..., None] * direction
        if turn is None:
            return along
        aside: Tensor = turn - (turn * direction).sum(dim=-1, keepdim=True) * direction
        aside = aside / length.where(length > 0, 1)[..., None]
        return aside if along is None else aside + along


class _Product(torch.autograd.Function):
    """Plain torch would go back in half precision, where autocast is on by then."""

    @staticmethod
    def forward(queries: Tensor, references: Tensor) -> Tensor:
        with torch.autocast(queries.device.type, enabled=False):
            return queries @ references.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        queries, references = ctx.saved_tensors
        mine, theirs = ctx.needs_input_grad
        with torch.autocast(queries.device.type, enabled=False):
            return (
                gradient @ references if mine else None,
                gradient.mT @ queries if theirs else None,
            )
