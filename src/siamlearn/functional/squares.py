"""Squares of distances block by block, for many blocks of the same queries and references.

Axes: n queries and m references in all, q and r of them in a block, d embedding dimensions.
"""

from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from siamlearn.functional.vectors import centred, squarable, square_distance

__all__ = ["Squares"]

NEAR = 0.25
"""The share of ``|x|² + |y|²`` below which ``|x|² + |y|² - 2xy`` is not left to float32."""

MANY = 1 / 32
"""The share of a block above which near pairs take longer one by one than all do in float64.

In few dimensions a difference is fast, and the share one in as many as there are.
"""


@final
class Squares:
    """``|x - y|²`` of float32 queries and references, ready to be taken block by block.

    On a processor this is ``|x|² + |y|² - 2xy`` in float32, measured from the mean of the
    references, where the distance keeps six digits by it, and the square of the difference where
    two are nearer. A block in which many are near is taken in float64, as all are on other
    devices, where looking for the near ones would be waiting.

    Attributes:
        queries: measured from the mean of the references.
        references: likewise.

    Example:
        >>> Squares(x := torch.tensor([[0.0], [3.0]]), x).block(slice(0, 1), slice(0, 2))
        tensor([[0., 9.]])
    """

    def __init__(self, queries: Float[Tensor, "n d"], references: Float[Tensor, "m d"]) -> None:
        self.itself = queries is references
        self.given = queries, references
        self.queries, self.references = centred(queries, references)
        self.square = self.queries.square().sum(dim=1)
        self.other_square = self.square if self.itself else self.references.square().sum(dim=1)
        self.single = queries.device.type == "cpu" and self._is_single()

    def block(self, rows: slice, columns: slice) -> Float[Tensor, "q r"]:
        """The squares of some pairs; exactly 0 between equal vectors."""
        square = self._mostly_single(rows, columns) if self.single else None
        if square is None:
            square = square_distance(self._factors[0][rows], self._factors[1][columns])
        return square

    def _mostly_single(self, rows: slice, columns: slice) -> Tensor | None:
        """In float32, the near ones by their differences; None if these are many."""
        left, right = self.queries[rows], self.references[columns]
        here, there = self.square[rows, None], self.other_square[columns]
        # How far each is beyond the share that is near.
        square = torch.addmm((1 - NEAR) * there, left, right.mT, alpha=-2)
        square.add_((1 - NEAR) * here)
        itself = square[:, rows.start - (columns.start or 0) :] if self.itself else square[:, :0]
        itself.fill_diagonal_(1)
        near = None
        if square.numel() and not square.amin() > 0:
            near = torch.nonzero(~(square > 0), as_tuple=True)
            if len(near[0]) > max(MANY, 1 / max(left.shape[1], 1)) * square.numel():
                self.single = False  # so they will be in the next block
                return None
        square.add_(NEAR * here).add_(NEAR * there)
        itself.fill_diagonal_(0)
        if near is not None:
            given = self.given[0][rows], self.given[1][columns]
            # A few at once, so that their differences are no more numbers than the block has.
            few = max(1, square.numel() // max(left.shape[1], 1))
            for one, other in zip(*(torch.split(ends, few) for ends in near), strict=True):
                apart = given[0].index_select(0, one).sub_(given[1].index_select(0, other))
                square[one, other] = apart.square_().sum(dim=1)
        return square

    def _is_single(self) -> bool:
        """Whether the squares of all lengths are numbers with all digits of a float32."""
        if not len(self.queries) or not len(self.references):
            return False
        digits = torch.finfo(torch.float32)
        both = torch.stack([self.square.max(), self.other_square.max()]).amax()
        return bool((both > digits.tiny / digits.eps**2) & (both < digits.max / 16))

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        return squarable(*self.given)
