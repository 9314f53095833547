"""The people behind the errors: who is hard to recognise, and who is taken for whom.

Axes: p people, k linked pairs of people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from siamlearn.comparison import people_of, strips
from siamlearn.evaluation.reports import require_reports

if TYPE_CHECKING:
    from siamlearn.evaluation import Report

__all__ = ["PeopleDistances", "Zoo", "confusions", "people_distances", "zoo"]

MOST_PEOPLE = 5000  # whose distances fit into a matrix: of each kind 200 MB
OPTIMAL = 500  # people up to whom the best order of a dendrogram is found in about a second


@final
@dataclass(frozen=True, eq=False)
class Zoo:
    """How easily each person is recognised, and taken for others.

    Args:
        names: of the people.
        genuine: mean distance of the pairs of each person; NaN where there is none.
        impostor: mean distance of each person to others; NaN where there is no such pair.
        nearest: distance of the nearest picture of somebody else.
        fnmr: share of the pairs of each person that is not accepted.
        fmr: share of the pairs of each person with others that is.
        kinds: the animal that each person is, as :func:`zoo` tells; "unknown" where a mean is.
        threshold: at which pairs are accepted.

    Example:
        >>> one = torch.ones(1)
        >>> Zoo(("anna",), one, 3 * one, 2 * one, 0 * one, 0 * one, ("sheep",), 1.5).of("sheep")
        ('anna',)
    """

    names: tuple[str, ...]
    genuine: Float[Tensor, " p"]
    impostor: Float[Tensor, " p"]
    nearest: Float[Tensor, " p"]
    fnmr: Float[Tensor, " p"]
    fmr: Float[Tensor, " p"]
    kinds: tuple[str, ...]
    threshold: float

    @property
    def genuine_quarters(self) -> tuple[float, float]:
        """Mean distances of own pictures below and above which a quarter of the people is."""
        return _quarters(self.genuine)

    @property
    def impostor_quarters(self) -> tuple[float, float]:
        """Mean distances to others below and above which a quarter of the people is."""
        return _quarters(self.impostor)

    def of(self, kind: str) -> tuple[str, ...]:
        """Names of the people of one kind."""
        return tuple(name for name, own in zip(self.names, self.kinds, strict=True) if own == kind)


def zoo(report: Report, threshold: float | None = None) -> Zoo:
    """Tell each person's part in the errors, and which animal that makes of them.

    Who is among the quarter of people who are far from their own pictures, or near to them, and
    among the quarter near to other people, or far from them, is outstanding in both ways:

    =========  ======================  ===========================================
    kind       own pictures, others    what it means
    =========  ======================  ===========================================
    dove       near, far               is recognised, and never mistaken
    chameleon  near, near              looks like everybody: accepted, and too easily
    phantom    far, far                looks like nobody: hard to accept
    worm       far, near               hard to recognise and easily mistaken: look here first
    sheep                              all others: no trouble, or only in one way
    =========  ======================  ===========================================

    Were the two ways independent, one person in sixteen would be of each of the four kinds;
    fewer or more say something of the net. Doddington's goats are those with a high ``fnmr``,
    his lambs and wolves those with a high ``fmr``: where distance has no direction, who is taken
    for others and whom others are taken for is one.

    Args:
        threshold: at which a pair is accepted; that of the first operating point if left out,
            or without one that of the equal error rate.

    Example:
        >>> import siamlearn as sl
        >>> line, labels = torch.tensor([[0.0], [1.0], [4.0], [7.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = sl.Embeddings(line, labels, ("anna", "bob"), ("1", "2", "3", "4"))
        >>> seen = zoo(sl.evaluate(found), threshold=3.0)
        >>> seen.genuine.tolist(), seen.impostor.tolist(), seen.fmr.tolist()
        ([1.0, 3.0], [5.0, 5.0], [0.25, 0.25])

    Source:
        Doddington, Liggett, Martin, Przybocki, Reynolds: Sheep, Goats, Lambs and Wolves, ICSLP
        1998. The four kinds and their quarters: Yager, Dunstone: The Biometric Menagerie, IEEE
        TPAMI 32(2), 2010. Deviation: who is equal to the quartile is not outstanding.
    """
    require_reports(report)
    threshold = _threshold(report, threshold)
    who, reference_who, names = people_of(report.embeddings, report.gallery)
    shape = (3, len(names))  # pairs, their distances, those told wrongly
    genuine, impostor = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    nearest = torch.full((len(names),), torch.inf)
    for strip in strips(report.embeddings, report.gallery):
        row, distance = who[strip.rows], strip.distance.double()
        passes = distance <= threshold
        query, reference = (strip.same & strip.once).nonzero().T  # few, of all the pairs
        own = distance[query, reference]
        wrong = ~passes[query, reference]
        for total, value in zip(genuine, (torch.ones_like(own), own, wrong.double()), strict=True):
            total.index_add_(0, row[query], value)
        # Where all are compared with all, the other end of a pair has a row of its own.
        other = strip.valid & ~strip.same
        seen = other.double(), distance.masked_fill(~other, 0), (other & passes).double()
        away = strip.distance.masked_fill(~other, torch.inf)
        ends = [(row, 1)] if report.gallery is None else [(row, 1), (reference_who, 0)]
        for people, axis in ends:
            for total, value in zip(impostor, seen, strict=True):
                total.index_add_(0, people, value.sum(dim=axis))
            nearest.scatter_reduce_(0, people, away.amin(dim=axis), "amin")
    (_, near, fnmr), (_, far, fmr) = (sums / sums[0] for sums in (genuine, impostor))
    nearest = nearest.where(nearest.isfinite(), torch.nan)
    return Zoo(names, near, far, nearest, fnmr, fmr, _kinds(near, far), threshold)


def _quarters(mean: Float[Tensor, " p"]) -> tuple[float, float]:
    return mean.nanquantile(0.25).item(), mean.nanquantile(0.75).item()


def _kinds(genuine: Float[Tensor, " p"], impostor: Float[Tensor, " p"]) -> tuple[str, ...]:
    animals = {(-1, 1): "dove", (-1, -1): "chameleon", (1, 1): "phantom", (1, -1): "worm"}
    sides = []
    for mean in (genuine, impostor):
        low, high = _quarters(mean)
        sides.append(((mean > high).int() - (mean < low).int()).tolist())
    known = (genuine + impostor).isfinite().tolist()
    return tuple(
        animals.get(side, "sheep") if sure else "unknown"
        for side, sure in zip(zip(*sides, strict=True), known, strict=True)
    )


@final
@dataclass(frozen=True, eq=False)
class PeopleDistances:
    """How far people are from each other, in an order in which who is near stands together.

    Args:
        names: of the people, in that order.
        mean: mean distance between the pictures of two people, on the diagonal between those of
            one; NaN where none were compared.
        nearest: the smallest distance between them.

    Example:
        >>> PeopleDistances(("anna",), torch.ones(1, 1), torch.ones(1, 1)).names
        ('anna',)
    """

    names: tuple[str, ...]
    mean: Float[Tensor, "p p"]
    nearest: Float[Tensor, "p p"]


def people_distances(report: Report) -> PeopleDistances:
    """Mean and smallest distance between every two people, ordered by clustering.

    With a gallery, all pairs between two people count, whoever of them is the probe.

    Raises:
        ValueError: there are too many people for a matrix.

    Example:
        >>> import siamlearn as sl
        >>> line, labels = torch.tensor([[0.0], [1.0], [4.0], [7.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = sl.Embeddings(line, labels, ("anna", "bob"), ("1", "2", "3", "4"))
        >>> people_distances(sl.evaluate(found)).mean
        tensor([[1., 5.],
                [5., 3.]], dtype=torch.float64)
    """
    require_reports(report)
    who, reference_who, names = people_of(report.embeddings, report.gallery)
    people = len(names)
    if people > MOST_PEOPLE:
        msg = (
            f"a matrix of distances is for at most {MOST_PEOPLE:,} people, got {people:,}; "
            f"evaluate a subset of the embeddings"
        )
        raise ValueError(msg)
    pairs, total = (torch.zeros(people, people, dtype=torch.float64) for _ in range(2))
    nearest = torch.full((people, people), torch.inf)
    for strip in strips(report.embeddings, report.gallery):
        row = who[strip.rows]
        for sums, value in ((pairs, strip.once), (total, strip.distance.where(strip.once, 0))):
            of_person = sums.new_zeros(len(row), people)
            sums.index_add_(0, row, of_person.index_add_(1, reference_who, value.double()))
        away = strip.distance.where(strip.once, torch.inf)
        column = reference_who.expand_as(away)
        closest = away.new_full((len(row), people), torch.inf).scatter_reduce_(
            1, column, away, "amin"
        )
        nearest.scatter_reduce_(0, row[:, None].expand_as(closest), closest, "amin")
    # A pair stands once, in one of both halves.
    mean = (total + total.T) / (pairs + pairs.T)
    nearest = nearest.minimum(nearest.T)
    nearest = nearest.where(nearest.isfinite(), torch.nan)
    order = _order(mean)
    place = torch.tensor(order)
    return PeopleDistances(
        tuple(names[p] for p in order), mean[place][:, place], nearest[place][:, place]
    )


def _order(mean: Float[Tensor, "p p"]) -> list[int]:
    """People as the leaves of a dendrogram of average linkage."""
    people = len(mean)
    if people < 3:
        return list(range(people))
    from scipy.cluster.hierarchy import leaves_list, linkage

    known = mean.isfinite()
    far = mean.where(known, mean[known].max() if known.any() else 0)
    row, column = torch.triu_indices(people, people, offset=1)
    tree = linkage(far[row, column].numpy(), method="average", optimal_ordering=people <= OPTIMAL)
    leaves: list[int] = leaves_list(tree).tolist()
    return leaves


def confusions(
    report: Report, threshold: float | None = None, *, share: float = 0.5
) -> tuple[tuple[str, ...], ...]:
    """Groups of people who pass for each other, the largest first.

    Two people belong together where so large a share of their pairs is accepted, and so do all
    who are linked through others.

    Args:
        threshold: at which a pair is accepted; that of the first operating point if left out,
            or without one that of the equal error rate.
        share: of the pairs of two people, above 0 and at most 1; a very small one links people
            by any single pair, which at a loose threshold makes one group of all.

    Raises:
        ValueError: the share is no share.

    Example:
        >>> import siamlearn as sl
        >>> line = torch.tensor([[0.0], [1.0], [4.0], [7.0], [2.0]])
        >>> labels = torch.tensor([0, 0, 1, 1, 2])
        >>> found = sl.Embeddings(line, labels, ("anna", "bob", "cleo"), ("1", "2", "3", "4", "5"))
        >>> confusions(sl.evaluate(found), threshold=1.0)
        (('anna', 'cleo'),)
    """
    require_reports(report)
    if not 0 < share <= 1:
        msg = f"share must be above 0 and at most 1, got {share:g}; 0.5 links by half the pairs"
        raise ValueError(msg)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    threshold = _threshold(report, threshold)
    _, _, names = people_of(report.embeddings, report.gallery)
    one, other = _linked(report, threshold, share)
    people = len(names)
    graph = coo_array((torch.ones(len(one)).numpy(), (one.numpy(), other.numpy())), (people,) * 2)
    _, group = connected_components(graph, directed=False)
    groups: dict[int, list[str]] = {}
    for name, number in zip(names, group.tolist(), strict=True):
        groups.setdefault(number, []).append(name)
    found = [tuple(members) for members in groups.values() if len(members) > 1]
    return tuple(sorted(found, key=len, reverse=True))


def _linked(
    report: Report, threshold: float, share: float
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Pairs of people of whose pairs such a share is accepted; kept only where any is."""
    who, reference_who, names = people_of(report.embeddings, report.gallery)
    people = len(names)
    codes, counts = (torch.empty(0, dtype=torch.int64) for _ in range(2))
    for strip in strips(report.embeddings, report.gallery):
        passes = ~strip.same & strip.once & (strip.distance.double() <= threshold)
        row, column = passes.nonzero().T
        one, other = who[strip.rows][row], reference_who[column]
        pair = torch.minimum(one, other) * people + torch.maximum(one, other)
        new, often = torch.unique(pair, return_counts=True)
        codes, place = torch.unique(torch.cat([codes, new]), return_inverse=True)
        counts = torch.zeros_like(codes).index_add_(0, place, torch.cat([counts, often]))
    one, other = codes // people, codes % people
    here, there = (w.bincount(minlength=people) for w in (who, reference_who))
    both = here[one] * there[other]
    if report.gallery is not None:
        both = both + here[other] * there[one]
    linked = counts >= share * both
    return one[linked], other[linked]


def _threshold(report: Report, threshold: float | None) -> float:
    if threshold is not None:
        return threshold
    return report.points[0].point.threshold if report.points else report.eer_threshold
