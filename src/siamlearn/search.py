"""Each probe looked for among the references: how far down the right person is.

Axes: n probes, q probes of a strip, r references, m right references and h hidden ones a probe has
at most, k ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, final, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from siamlearn.functional import retrieval
from siamlearn.functional.accepted import Accepted, accepted
from siamlearn.functional.vectors import full_precision

__all__ = ["Compared", "Found", "found", "joined", "search"]

# Pairs looked at together: half a MiB of float32, which stays in the cache of a core.
PIECE = 2**17


class Compared(Protocol):
    """Some probes beside all references, such as a strip of a comparison.

    Example:
        >>> from types import SimpleNamespace
        >>> every = torch.ones(1, 2).bool()
        >>> strip: Compared = SimpleNamespace(distance=torch.rand(1, 2), same=every, valid=every)
        >>> found(strip).relevant
        tensor([2])
    """

    @property
    def distance(self) -> Float[Tensor, "q r"]:
        """How far apart each two are."""

    @property
    def same(self) -> Bool[Tensor, "q r"]:
        """Whether they show one identity."""

    @property
    def valid(self) -> Bool[Tensor, "q r"]:
        """Whether they may be compared at all; all others are as if they were not there."""


@runtime_checkable
class Listed(Protocol):
    """What knows the columns, too, and so need not look for them: a strip does."""

    @property
    def right(self) -> Int[Tensor, "q m"]:
        """Those of the right references of each probe, then r."""

    @property
    def left_out(self) -> Int[Tensor, "q h"]:
        """Those that it is not compared with, then r."""


@final
@dataclass(frozen=True, eq=False)
class Found:
    """What came out when each probe was looked for among the references.

    Everything stands for each probe, so that it can be averaged, resampled and looked into. A
    probe that has no right reference has rank 0, and NaN for every share; :meth:`mean` is over the
    others, and :attr:`unanswerable` says how many that leaves out. Ties never flatter: a wrong
    reference at the same distance comes before the right one.

    Args:
        rank: how many references one has to look at until the first right one, from 1.
        relevant: how many right references there are.
        right: distance of the nearest right reference, infinity where there is none.
        wrong: distance of the nearest wrong reference, infinity where there is none.
        average_precision: see :func:`siamlearn.functional.retrieval.average_precision`.
        r_precision: see :func:`siamlearn.functional.retrieval.r_precision`.
        map_at_r: see :func:`siamlearn.functional.retrieval.map_at_r`.
        ndcg: see :func:`siamlearn.functional.retrieval.ndcg`.
        within: how many right references are among the first 1, 2, … k.

    Example:
        >>> from types import SimpleNamespace
        >>> distance = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.5, 0.9], [0.1, 0.1, 0.1]])
        >>> same = torch.tensor([[False, True, True], [True, False, False], [False] * 3])
        >>> strip = SimpleNamespace(distance=distance, same=same, valid=torch.ones(3, 3).bool())
        >>> seen = found(strip)
        >>> seen.rank.tolist(), seen.unanswerable
        ([2, 2, 0], 1)
        >>> round(seen.mean(seen.average_precision), 4)
        0.5417
    """

    rank: Int[Tensor, " n"]
    relevant: Int[Tensor, " n"]
    right: Float[Tensor, " n"]
    wrong: Float[Tensor, " n"]
    average_precision: Float[Tensor, " n"]
    r_precision: Float[Tensor, " n"]
    map_at_r: Float[Tensor, " n"]
    ndcg: Float[Tensor, " n"]
    within: Int[Tensor, "n k"]

    def __len__(self) -> int:
        return len(self.rank)

    def __repr__(self) -> str:
        return f"Found({len(self)} probes, {self.unanswerable} of them without a right reference)"

    @property
    def answerable(self) -> Bool[Tensor, " n"]:
        """Which probes have a right reference at all."""
        return self.relevant > 0

    @property
    def unanswerable(self) -> int:
        """How many probes have no right reference, and so are in no mean."""
        return int((self.relevant == 0).sum())

    @property
    def reciprocal_rank(self) -> Float[Tensor, " n"]:
        """One over the rank; its mean is the MRR.

        Source:
            Voorhees: The TREC-8 Question Answering Track Report, TREC 1999.
        """
        return self._shares(1 / self.rank.clamp(min=1).double())

    def hit_at(self, k: int) -> Float[Tensor, " n"]:
        """Whether one of the first k references is right, 1 or 0.

        Its mean is the rank-k identification rate (ISO/IEC 19795-1), of which the CMC is the
        curve, and what metric learning calls Recall@K. A person with several references takes
        several ranks.

        Source:
            Jégou, Douze, Schmid: Product Quantization for Nearest Neighbor Search, TPAMI 33, 2011;
            in metric learning since Oh Song, Xiang, Jegelka, Savarese: Deep Metric Learning via
            Lifted Structured Feature Embedding, CVPR 2016.
        """
        require_positive(k)
        return self._shares((self.rank <= k).double())

    def precision_at(self, k: int) -> Float[Tensor, " n"]:
        """Share of right ones among the first k references.

        It is divided by k even where fewer than k are right, or fewer than k are there.

        Source:
            Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, sec. 8.4.
        """
        return self._shares(self._within(k) / k)

    def recall_at(self, k: int) -> Float[Tensor, " n"]:
        """Share of the right references that are among the first k references.

        This is the recall of information retrieval, not metric learning's Recall@K, which is
        :meth:`hit_at`.

        Source:
            Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008, sec. 8.3, 8.4.
        """
        return self._within(k) / self.relevant

    def mean(self, values: Float[Tensor, " n"]) -> float:
        """Mean over the probes that have a right reference.

        Raises:
            ValueError: none has one.
        """
        return values[self.require_answerable()].mean().item()

    def means(self, *, at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
        """All means by their usual names, beside how many probes they are and are not over.

        Args:
            at: the numbers k of references that rank-k, precision and recall look at.

        Raises:
            ValueError: no probe has a right reference, or a k is more than was kept.
        """
        names = {f"rank-{k}": self.hit_at(k) for k in at}
        names |= {f"precision@{k}": self.precision_at(k) for k in at}
        names |= {f"recall@{k}": self.recall_at(k) for k in at}
        names |= {
            "R-precision": self.r_precision,
            "mAP": self.average_precision,
            "MAP@R": self.map_at_r,
            "MRR": self.reciprocal_rank,
            "nDCG": self.ndcg,
        }
        counts = {"answerable": len(self) - self.unanswerable, "unanswerable": self.unanswerable}
        return {**counts, **{name: self.mean(values) for name, values in names.items()}}

    def open_set(self, *, strangers: bool = False) -> Accepted:
        """Searches for people who are there and for people who are not, as pairs to accept.

        A mated search is accepted where its nearest reference is right and near enough: at rank 1.
        A non-mated search is accepted wrongly where any reference is near enough. So the FMR of
        what is returned is the FPIR, its FNMR the FNIR, ``fnmr_at(0.01)`` the FNIR at FPIR 0.01,
        and one minus that the detection and identification rate.

        Args:
            strangers: True takes the probes that have no right reference as the non-mated searches;
                False takes all probes, each searched for with its own identity left out.

        Raises:
            ValueError: there are no mated or no non-mated searches.

        Example:
            >>> from types import SimpleNamespace
            >>> distance = torch.tensor([[0.1, 0.5], [0.4, 0.3], [0.6, 0.7]])
            >>> same = torch.tensor([[True, False], [True, False], [False, True]])
            >>> strip = SimpleNamespace(distance=distance, same=same, valid=torch.ones_like(same))
            >>> round(found(strip).open_set().fnmr_at(0.4).item(), 4)
            0.6667

        Source:
            ISO/IEC 19795-1:2021; Grother, Ngan, Hanaoka: Face Recognition Vendor Test Part 2:
            Identification, NISTIR 8271, 2019; the detection and identification rate: Phillips,
            Grother, Micheals: Evaluation Methods in Face Recognition, Handbook of Face Recognition,
            2011.
        """
        mated = torch.where(self.rank == 1, self.right, torch.inf)[self.require_answerable()]
        others = self.wrong[~self.answerable] if strangers else self.wrong
        if not len(others):
            msg = (
                f"strangers must be probes without a right reference, but all {len(self)} probes "
                f"have one; strangers=False searches for each with its own identity left out"
            )
            raise ValueError(msg)
        return accepted(mated, others)

    def require_answerable(self) -> Bool[Tensor, " n"]:
        """Which probes have a right reference, of which there must be at least one."""
        if self.unanswerable == len(self):
            msg = (
                f"a mean needs a probe with a right reference, but none of the {len(self)} has "
                f"one; probes and gallery must share identities, with other pictures of them"
            )
            raise ValueError(msg)
        return self.answerable

    def _shares(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.where(self.answerable, values, torch.nan)

    def _within(self, k: int) -> Float[Tensor, " n"]:
        require_positive(k)
        longest = self.within.shape[1]
        if k > longest:
            msg = (
                f"k must be at most the {longest} that were kept, got {k}; search with longest={k}"
            )
            raise ValueError(msg)
        return self.within[:, k - 1].double()


def require_positive(k: int) -> None:
    if k < 1:
        msg = f"k must be at least 1 reference, got {k}"
        raise ValueError(msg)


def search(strips: Iterable[Compared], *, longest: int = 50) -> Found:
    """Look for each probe among the references, strip by strip.

    Nothing of the size of all pairs is kept, and distances of right references are compared with
    those of the wrong ones without sorting either, as long as a probe has less than some hundred
    right ones.

    Args:
        strips: probes beside all references, each probe once; the result is in their order.
        longest: up to which k :meth:`Found.precision_at` and :meth:`Found.recall_at` can be asked.

    Raises:
        ValueError: there are no probes.

    Example:
        >>> from siamlearn.comparison import strips
        >>> from siamlearn.embeddings import Embeddings
        >>> line, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])
        >>> embeddings = Embeddings(line, labels, ("anna", "bob"), ("1.png", "2.png", "3.png"))
        >>> search(strips(embeddings))
        Found(3 probes, 1 of them without a right reference)
    """
    require_positive(longest)
    return joined([found(strip, longest=longest) for strip in strips])


def joined(parts: Sequence[Found]) -> Found:
    """What was found for some probes and for others, one after the other.

    Raises:
        ValueError: there are none.

    Example:
        >>> from types import SimpleNamespace
        >>> every = torch.ones(1, 2).bool()
        >>> part = found(SimpleNamespace(distance=torch.rand(1, 2), same=every, valid=every))
        >>> joined([part, part])
        Found(2 probes, 0 of them without a right reference)
    """
    if not parts:
        msg = "there must be at least one strip of probes to search for, got none"
        raise ValueError(msg)
    names = [field.name for field in fields(Found)]
    return Found(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def found(strip: Compared, *, longest: int = 50) -> Found:
    """What comes out for the probes of one strip; see :func:`search`.

    Raises:
        ValueError: ``longest`` is not positive.

    Example:
        >>> from types import SimpleNamespace
        >>> same, valid = torch.tensor([[False, True]]), torch.ones(1, 2).bool()
        >>> strip = SimpleNamespace(distance=torch.tensor([[1.0, 2.0]]), same=same, valid=valid)
        >>> found(strip).rank
        tensor([2])
    """
    require_positive(longest)
    distance = full_precision(strip.distance.detach())
    r = distance.shape[1]
    if isinstance(strip, Listed):
        right_ones, left_out = strip.right, strip.left_out
    else:
        right_ones, left_out = columns_of(strip.same & strip.valid), columns_of(~strip.valid)
    relevant, out = (right_ones < r).sum(dim=1), (left_out < r).sum(dim=1)
    right = distance.gather(1, right_ones.clamp(max=r - 1)).masked_fill(right_ones == r, torch.inf)
    # Not known how far: farther than anything if right, nearer than anything if wrong.
    right = right.nan_to_num(torch.inf, posinf=torch.inf, neginf=-torch.inf).sort(dim=1).values
    before, wrong = beside(distance, right, torch.cat([right_ones, left_out], dim=1))
    place = retrieval.places(right, before, relevant=relevant, others=r - relevant - out)
    return Found(
        rank=F.pad(place, (0, 1))[:, 0],
        relevant=relevant,
        right=F.pad(right, (0, 1), value=torch.inf)[:, 0],
        wrong=wrong.nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf),
        average_precision=retrieval.average_precision(place),
        r_precision=retrieval.r_precision(place),
        map_at_r=retrieval.map_at_r(place),
        ndcg=retrieval.ndcg(place),
        within=retrieval.within(place, longest),
    )


def beside(
    distance: Float[Tensor, "q r"], right: Float[Tensor, "q m"], hidden: Int[Tensor, "q h"]
) -> tuple[Int[Tensor, "q m"], Float[Tensor, " q"]]:
    """How many wrong ones are not farther than each right one, and how far the nearest is."""
    q, r = distance.shape
    before, nearest = right.new_empty(right.shape, dtype=torch.int64), distance.new_empty(q)
    height = min(q, max(1, PIECE // (r + 1)))
    # One column more than there are references: there the rows of hidden columns end.
    wrong = distance.new_empty(height, r + 1)
    scratch = torch.empty_like(wrong, dtype=torch.bool)
    wrong[:, r] = torch.inf
    for start in range(0, q, max(1, height)):
        rows = slice(start, min(start + height, q))
        here, memory = wrong[: rows.stop - start], scratch[: rows.stop - start]
        here[:, :r] = distance[rows]
        here.scatter_(1, hidden[rows], torch.inf)
        before[rows] = retrieval.not_farther(right[rows], here, scratch=memory)
        torch.amin(here, dim=1, out=nearest[rows])
    return before, nearest


def columns_of(mask: Bool[Tensor, "q r"]) -> Int[Tensor, "q m"]:
    """The columns of the true ones of each row, then r to fill it."""
    q, r = mask.shape
    # Eight at a time are looked at as one whole number, which is quick where they are few.
    mask = (F.pad(mask, (0, 8 - r % 8)) if r % 8 or not r else mask).contiguous()
    row, word = mask.view(torch.int64).nonzero(as_tuple=True)
    index, byte = mask.view(q, -1, 8)[row, word].nonzero(as_tuple=True)
    row, column = row[index], 8 * word[index] + byte
    counts = row.bincount(minlength=q)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    columns = row.new_full((q, int(counts.max()) if q else 0), r)
    columns[row, place] = column
    return columns
