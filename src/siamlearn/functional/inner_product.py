"""The inner product as a distance, for losses that mean it; see ``distances`` for the others.

Axes: b separate blocks, q queries, r references, d embedding dimensions.
"""

from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.vectors import full_precision, product

__all__ = ["negative_inner_product"]


def negative_inner_product(
    queries: Float[Tensor, "*b q d"], references: Float[Tensor, "*b r d"]
) -> Float[Tensor, "*b q r"]:
    """Minus the inner product: smaller is closer, but nothing is at 0 from itself.

    Not a metric, and without bounds: a long embedding is close to all on its side. Half precision
    is computed in float32 and stays in it.

    Example:
        >>> import torch
        >>> negative_inner_product(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 1.0]]))
        tensor([[-6.]])
    """
    queries, references = full_precision(queries), full_precision(references)
    return -product(queries, references)
