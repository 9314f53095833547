"""A loss over many pairs, block by block: a block is made, used and thrown away.

A block costs three matrix products: its distances, and from the slope of the loss (its derivative
by each distance) the gradient of the queries and that of the references. Nothing is computed
twice, and what is kept is as large as the embeddings, not as the pairs.

Axes: q queries, r references, d embedding dimensions, t separately averaged parts of a loss.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from siamlearn.functional.pairs import Distance, Pairs, Terms, alike, between
from siamlearn.functional.products import Products, Sum, ends_of, products
from siamlearn.functional.vectors import full_precision, lengths

__all__ = ["accumulate", "once"]


def accumulate(
    terms: Callable[[Pairs], Terms],
    queries: Float[Tensor, "q d"],
    query_labels: Shaped[Tensor, "q *k"],
    references: Float[Tensor, "r d"],
    reference_labels: Shaped[Tensor, "r *k"] | None,
    *,
    distance: Distance,
    own: Int[Tensor, " q"] | None = None,
    rows: int | None = None,
    symmetric: bool = False,
) -> Terms:
    """Apply a loss to all pairs, holding at most ``rows * r`` of them in memory.

    The value and the gradient do not depend on ``rows``. The gradient of each block is taken as
    soon as its value is known, and the block is thrown away, so that nothing is computed twice.
    There is no second derivative, asking for it is an error, except where ``rows`` says that one
    block holds them all: such a block is left to autograd, as all are under ``torch.compile``.

    Args:
        terms: a loss that treats each row on its own.
        query_labels: see :func:`~siamlearn.functional.pairs.alike` for the ways to say who is who.
        own: for each query, the column where the query itself stands among the references.
        rows: how many queries a block has; as many as fit the cache if left out.
        symmetric: the loss even treats each *pair* on its own, so that (i, j) costs what (j, i)
            does. Where a batch is compared with itself only one of the two is then looked at.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([7, 7, 8])
        >>> nearest = lambda pairs: Terms(pairs.distance.amin(), torch.tensor(1))
        >>> accumulate(nearest, x, y, x + 5, y, distance=torch.cdist, rows=2)
        Terms(total=tensor(6.), count=tensor(2), slope=None, slopes=None)
    """
    itself = queries is references and query_labels is reference_labels and own is not None
    queries = full_precision(queries)
    references = queries if itself else full_precision(references)
    labels = query_labels, reference_labels
    if torch.compiler.is_compiling() or (rows is not None and rows >= len(queries)):
        beside = queries, query_labels, references, reference_labels
        return terms(between(*beside, distance=distance, own=own))
    with torch.autocast(queries.device.type, enabled=False):
        vectors = queries.detach()
        made = products(distance, vectors, vectors if itself else references.detach())
        half = symmetric and itself and made.symmetric
        # Of few pairs, it takes longer to find the positives than to ask for each.
        many = rows is not None or len(queries) * len(references) >= 2**14
        partners = _partners(*labels) if many else None
        blocks = _Blocks(terms, made, (queries, references), labels, own, partners, half=half)
        height = rows or _rows_that_fit(references, half=half)
        for start in range(0, max(len(queries), 1), height):
            blocks.add(slice(start, start + height))
        return blocks.sum()


def once(total: Float[Tensor, "*t"]) -> Float[Tensor, "*t"]:
    """The same, whose gradient is right, and whose second derivative would not be: it is refused.

    Raises:
        RuntimeError: where a second derivative is asked for.

    Example:
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> torch.autograd.grad(once(3 * x), x)
        (tensor(3.),)
    """
    known: Tensor = _Once.apply(total)
    return known


def _rows_that_fit(references: Float[Tensor, "r d"], *, half: bool) -> int:
    """Measured by benchmarks/losses.py: many rows make fast products, few fit the cache."""
    columns, dimensions = max(len(references), 1), references.shape[1]
    if references.device.type != "cpu":
        return max(16, 2**26 // columns)
    _keep_what_is_freed()
    # A block is never much larger than the references themselves, which it reads and adds to.
    rows = max(2**20 // columns, min(max(64, dimensions // 4), 2**24 // columns), 16)
    # The fewer the blocks, the more of the other half each of them looks at.
    return min(rows, max(columns // 4, 256)) if half else rows


@cache
def _keep_what_is_freed() -> None:
    """Let the GNU C library keep the memory of a block for the next one.

    It gives back what is larger than the largest piece that was ever freed, of 32 MB at most, and
    to fetch that again, page by page, took a third of the time of a loss. So one piece, which is
    never touched, is freed once.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")


class _Blocks:
    """The terms of a loss over the blocks so far, and the slopes of their totals."""

    def __init__(
        self,
        loss: Callable[[Pairs], Terms],
        products: Products,
        sides: tuple[Tensor, Tensor],
        labels: tuple[Tensor, Tensor | None],
        own: Tensor | None,
        partners: Tensor | None,
        *,
        half: bool,
    ) -> None:
        self.loss, self.products, self.sides = loss, products, sides
        self.labels, self.own, self.partners, self.half = labels, own, partners, half
        self.length = lengths(sides[0])
        self.learns = torch.is_grad_enabled()
        self.has_slope = False  # until the first block has shown one
        self.so_far: Terms | None = None
        self.sums: list[tuple[Sum, Sum]] = []  # one for each part of the total
        self.others: dict[Tensor, Tensor] = {}  # the slopes by whatever else learns

    def add(self, rows: slice) -> None:
        """Look at some queries: at all of their pairs, or at those right of the diagonal."""
        columns = slice(rows.start if self.half else 0, None)
        pairs = self._pairs(rows, columns)
        part = self._part(pairs, rows)
        by = 2 if self.half else 1
        slopes = part.slopes
        if slopes is None and part.slope is not None:
            slopes = tuple(part.slope) if part.total.ndim else (part.slope,)
        if slopes is not None and self.learns:
            if not self.sums:
                self.sums = [self._nothing_yet() for _ in slopes]
            for slope, sums in zip(slopes, self.sums, strict=True):
                slope = slope if by == 1 else slope.mul_(by)
                if slope.shape == pairs.distance.shape:
                    self.products.pull(slope, rows, columns, sums)
                else:
                    assert pairs.partners is not None  # the only other shape there is
                    self.products.pull_few(slope, pairs.partners, rows, columns, sums)
        if self.so_far is None:
            self.so_far = Terms(part.total.detach() * by, part.count * by)
            return
        # In place: small tensors that stay between large ones that go would pin the heap.
        self.so_far.total.add_(part.total.detach(), alpha=by)
        self.so_far.count.add_(part.count, alpha=by)

    def sum(self) -> Terms:
        """The terms of all blocks; their gradient is known already."""
        whole = self.so_far
        assert whole is not None  # there is a first block, if only of no rows
        found = dict(self.others)
        for end in {end for here, _ in self.sums for end in here.others}:
            found[end] = torch.stack([here.others[end] for here, _ in self.sums])
        pulled = [self.products.gradients(sums) for sums in self.sums]
        sides = self.sides[:1] if self.sides[0] is self.sides[1] else self.sides
        for end, slopes in zip(sides, zip(*pulled, strict=True), strict=False):
            if end.requires_grad:
                slope = torch.stack(slopes) if len(slopes) > 1 else slopes[0][None]
                found[end] = found[end] + slope if end in found else slope
        if not found:
            return whole
        return replace(whole, total=_Known.apply(whole.total, [*found.values()], *found))

    def _pairs(self, rows: slice, columns: slice) -> Pairs:
        mine = self.labels[0][rows]
        distance = self.products.distance(rows, columns)
        partners = self._few(rows, distance.shape[1])
        positive = self._alike(mine, columns, partners)
        negative = ~positive
        if self.half:
            # The square on the diagonal has each of its pairs twice, and each query itself.
            for mask in (positive, negative):
                mask[:, : len(mine)].triu_(1)
        elif self.own is not None:
            for mask in (positive, negative):
                mask.scatter_(1, self.own[rows, None], value=False)
        length, rest = self.length.detach()[rows], (len(mine) if self.half else 0, negative)
        return Pairs(distance, positive, negative, mine, length, partners, rest)

    def _few(self, rows: slice, columns: int) -> Tensor | None:
        """The partners of these rows, counted from the first column of the block."""
        partners = None if self.partners is None else self.partners[rows]
        if partners is None or partners.shape[1] >= columns:
            return None  # the last block of a half has few columns itself
        if not self.half:
            return partners
        itself = torch.arange(len(partners), device=partners.device)[:, None]
        return torch.where(partners < rows.start, itself, partners - rows.start)

    def _alike(self, mine: Tensor, columns: slice, partners: Tensor | None) -> Tensor:
        theirs = None if self.labels[1] is None else self.labels[1][columns]
        if partners is None or theirs is None:
            return alike(mine, theirs)
        # Comparing each with each would take seven times as long.
        nobody = torch.zeros(len(mine), len(theirs), dtype=torch.bool, device=mine.device)
        return nobody.scatter_(1, partners, mine[:, None] == theirs[partners])

    def _part(self, pairs: Pairs, rows: slice) -> Terms:
        if not self.learns or self.has_slope:
            part = self.loss(pairs)
            if not self.learns or (_known(part) and not part.total.requires_grad):
                return part
        with torch.enable_grad():
            leaves = [end.detach().requires_grad_() for end in (pairs.distance, self.length[rows])]
            part = self.loss(replace(pairs, distance=leaves[0], length=leaves[1]))
        ends = ends_of(part.total)
        others = [end for end in ends if not any(end is leaf for leaf in leaves)]
        by_length_too = any(end is leaves[1] for end in ends)
        self.has_slope = _known(part) and not others and not by_length_too
        if self.has_slope or not part.total.requires_grad:
            return part
        by_distance, by_length, *slopes = _slopes(part.total, [*leaves, *others])
        if by_length is not None:
            of_all = by_length.new_zeros(len(by_length), len(self.length))
            of_all[:, rows] = by_length
            slopes, others = [of_all, *slopes], [self.length, *others]
        for end, slope in zip(others, slopes, strict=True):
            assert slope is not None  # it was found by going there
            slope = slope * 2 if self.half else slope
            self.others[end] = self.others[end].add_(slope) if end in self.others else slope
        if by_distance is None:
            return part
        return replace(part, slope=by_distance.reshape(part.total.shape + pairs.distance.shape))

    def _nothing_yet(self) -> tuple[Sum, Sum]:
        queries = Sum.over(self.products.queries)
        itself = self.sides[0] is self.sides[1]  # then both sides are summed in one place
        return queries, queries if itself else Sum.over(self.products.references)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor) -> Tensor:
        return total.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            msg = "this loss has no second derivative, but one was asked for (create_graph=True)"
            raise RuntimeError(msg)
        return gradient


class _Known(torch.autograd.Function):
    """A total whose slopes are known, so that nothing of its making need be kept."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, slopes: list[Tensor], *ends: Tensor) -> Tensor:
        ctx.save_for_backward(*slopes)
        return total.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True; a slope of a slope would silently be 0
            msg = (
                "a loss in blocks has no second derivative, but one was asked for; hold all pairs "
                "at once by rows=len(embeddings)"
            )
            raise RuntimeError(msg)
        with torch.autocast(gradient.device.type, enabled=False):
            slopes = [
                s[0] * gradient.flatten()[0].to(s)
                if len(s) == 1
                else torch.tensordot(gradient.flatten().to(s), s, dims=1)
                for s in ctx.saved_tensors
            ]
        return None, None, *slopes


def _known(part: Terms) -> bool:
    return part.slope is not None or part.slopes is not None


def _partners(labels: Tensor, others: Tensor | None) -> Tensor | None:
    """For each label the columns where others are the same, and then some where they are not.

    None where that is no help, or cannot be known without waiting for a device.
    """
    if labels.device.type != "cpu" or labels.ndim > 1 or others is None or not len(labels):
        return None
    labels = labels.long().contiguous()
    ordered, order = others.long().sort()
    first = torch.searchsorted(ordered, labels)
    most = int((torch.searchsorted(ordered, labels, right=True) - first).max())
    if not 0 < most * 4 <= len(others):
        return None
    return order[(first[:, None] + torch.arange(most, device=first.device)) % len(others)]


def _slopes(total: Tensor, ends: list[Tensor]) -> list[Tensor | None]:
    """For each end the gradients of each part of the total by it, stacked, or None without any."""
    each = [
        torch.autograd.grad(part, ends, retain_graph=True, allow_unused=True)
        for part in total.flatten()
    ]
    return [
        None
        if all(slope is None for slope in slopes)
        else torch.stack([torch.zeros_like(e) if slope is None else slope for slope in slopes])
        for e, slopes in zip(ends, zip(*each, strict=True), strict=True)
    ]
