"""Distances to references that stay while queries come and go.

Axes: q queries, r references, d embedding dimensions.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.pairs import Distance
from siamlearn.functional.vectors import (
    full_precision,
    measured_by_squares,
    squarable,
    square_distance,
    unit,
)

__all__ = ["prepared"]


def prepared(
    distance: Distance, references: Float[Tensor, "r d"]
) -> Callable[[Float[Tensor, "q d"]], Float[Tensor, "q r"]]:
    """The same distance as a function of queries alone, without gradient.

    What does not depend on the queries is computed once, and what is in the way is overwritten:
    blocks of 200 queries and 20,000 references take a third of the time by ``cosine``, and half by
    ``euclidean``. Any other distance is called as it is.

    Example:
        >>> apart = prepared(cosine, torch.tensor([[1.0, 0.0], [0.0, 5.0]]))
        >>> apart(torch.tensor([[2.0, 0.0]]))
        tensor([[0., 1.]])
    """
    references = references.detach()
    whole = full_precision(references)
    if distance is cosine:
        directions, one = unit(whole).mT, torch.ones((), dtype=whole.dtype, device=whole.device)

        def angles(queries: Float[Tensor, "q d"]) -> Float[Tensor, "q r"]:
            apart = unit(full_precision(queries.detach())) @ directions
            return torch.sub(one, apart, out=apart).clamp_(0, 2)

        return angles
    if distance is euclidean and measured_by_squares(whole) and len(whole) > 1:
        centre = whole.double().mean(dim=0, keepdim=True)
        _, right = squarable(whole[:1], whole)

        def lengths(queries: Float[Tensor, "q d"]) -> Float[Tensor, "q r"]:
            left, _ = squarable(full_precision(queries.detach()), centre)
            return square_distance(left, right).sqrt_()

        return lengths
    return lambda queries: distance(queries.detach(), references)
