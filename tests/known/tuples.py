"""Losses of an anchor with all its pairs, with the loops of their papers and their peers."""

import math
from functools import partial
from itertools import product

import torch
from pytorch_metric_learning import losses as peer_losses
from pytorch_metric_learning import reducers as peer_reducers
from torch import Tensor

from known.loss import PLAIN, Loss, mean
from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses import (
    CircleLoss,
    GeneralisedLiftedLoss,
    LiftedStructureLoss,
    MultiSimilarityLoss,
    PairLoss,
    TupletMarginLoss,
)


def anchors(y: list[int]) -> list[tuple[int, list[int], list[int]]]:
    """Each anchor with its positives and its negatives."""
    everyone = range(len(y))
    return [
        (i, [p for p in everyone if p != i and y[p] == y[i]], [n for n in everyone if y[n] != y[i]])
        for i in everyone
    ]


def multi_similarity_loops(d: Tensor, y: list[int], a: float, b: float, base: float) -> Tensor:
    costs, s = [], 1 - d
    for i, positives, negatives in anchors(y):
        far = sum((-a * (s[i, p] - base)).exp() for p in positives)
        near = sum((b * (s[i, n] - base)).exp() for n in negatives)
        costs.append(torch.log(far + torch.ones(())) / a + torch.log(near + torch.ones(())) / b)
    return mean(costs)


def circle_loops(d: Tensor, y: list[int], m: float, scale: float) -> Tensor:
    costs, s = [], 1 - d
    up, down = (1 + m - s.detach()).relu(), (s.detach() + m).relu()
    for i, positives, negatives in anchors(y):
        near = sum((scale * down[i, n] * (s[i, n] - m)).exp() for n in negatives)
        far = sum((-scale * up[i, p] * (s[i, p] - 1 + m)).exp() for p in positives)
        if positives and negatives:
            costs.append((near * far).log1p())
    return mean(costs)


def tuplet_margin_loops(d: Tensor, y: list[int], slack: float, scale: float) -> Tensor:
    costs, s = [], 1 - d
    for i, positives, negatives in anchors(y):
        for p in positives:
            sine = (1 - s[i, p] ** 2).clamp(min=0).sqrt() if abs(s[i, p]) < 1 else 0
            eased = s[i, p] * math.cos(slack) + sine * math.sin(slack)
            rivals = [(scale * (s[i, n] - eased)).exp() for n in negatives]
            costs.append(sum(rivals, torch.zeros(()).to(d)).log1p())
    return mean(costs)


def lifted_structure_loops(d: Tensor, y: list[int], m: float, *, ends: int) -> Tensor:
    costs, everyone = [], range(len(y))
    for i, positives, _ in anchors(y):
        for p in positives:
            negatives = [(a, n) for a, n in product([i, p][:ends], everyone) if y[a] != y[n]]
            crowd = sum((m - d[a, n]).exp() for a, n in negatives)
            costs.append((crowd.log() + d[i, p]).relu() ** 2 / 2 if negatives else 0 * d[i, p])
    return mean(costs)


def generalised_lifted_loops(d: Tensor, y: list[int], m: float) -> Tensor:
    costs = []
    for i, positives, negatives in anchors(y):
        if positives and negatives:
            far = sum(d[i, p].exp() for p in positives).log()
            costs.append((far + sum((m - d[i, n]).exp() for n in negatives).log()).relu())
    return mean(costs)


def of_whole_anchors(peer: type, **settings: object) -> object:
    """A peer of one loss an anchor, averaged over those that have positives and negatives.

    Its own mean drops anchors of no cost, or takes the positives of an anchor without negatives.
    """
    single = peer(reducer=peer_reducers.DoNothingReducer(), **settings)

    def adapted(embeddings: Tensor, labels: Tensor) -> Tensor:
        whole = [bool(positives and negatives) for _, positives, negatives in anchors(labels)]
        costs = single(embeddings, labels)["loss"]["losses"]
        return costs.flatten()[torch.tensor(whole)].mean()

    return adapted


class OneEnd(PairLoss):
    """What becomes of the lifted structure beside references that are no anchors."""

    needs_rivals = True

    def terms(self, pairs: Pairs) -> Terms:
        return losses.lifted_structure(pairs)


def both_ends(pairs: Pairs) -> Terms:
    """Where all rows are at hand, the rivals of the references are those of the queries."""
    return losses.lifted_structure(pairs, rivals=losses.crowding(pairs))


# What the module looks at first, the function cannot know from a part of the rows. What these laws
# say is said of the module in functional/test_tuples.py.
ROWS = "the other rows must have been looked at before, as the module does"
LAWS_OF_PARTS = (
    "test_blocks_change_neither_value_nor_gradient",
    "test_terms_of_parts_of_the_rows_add_to_those_of_the_whole",
    "test_gradient_is_that_of_small_steps",
    "test_an_empty_block_costs_nothing_with_finite_gradient",
    "test_references_are_compared_with_and_learn_too",
)

LOSSES = [
    Loss(
        name="multi_similarity",
        terms=partial(losses.multi_similarity, negative_scale=5.0, base=0.8),
        module=partial(MultiSimilarityLoss, negative_scale=5.0, base=0.8),
        distance=cosine,
        loops=partial(multi_similarity_loops, a=2.0, b=5.0, base=0.8),
        peer=peer_losses.MultiSimilarityLoss(alpha=2, beta=5, base=0.8),
    ),
    Loss(
        name="circle",
        terms=partial(losses.circle, scale=1.0),
        module=partial(CircleLoss, scale=1.0),
        distance=cosine,
        loops=partial(circle_loops, m=0.25, scale=1.0),
        peer=of_whole_anchors(peer_losses.CircleLoss, m=0.25, gamma=1),
        exempt={
            "test_gradient_is_that_of_small_steps": "its weights have no gradient, as in the paper"
        },
    ),
    Loss(
        name="tuplet_margin",
        terms=partial(losses.tuplet_margin, slack=0.2, scale=4.0),
        module=partial(TupletMarginLoss, 0.2, 4.0),
        distance=cosine,
        loops=partial(tuplet_margin_loops, slack=0.2, scale=4.0),
        peer=peer_losses.TupletMarginLoss(margin=math.degrees(0.2), scale=4),
    ),
    Loss(
        name="lifted_structure",
        terms=both_ends,
        module=LiftedStructureLoss,
        distance=euclidean,
        loops=partial(lifted_structure_loops, m=1.0, ends=2),
        peer=peer_losses.LiftedStructureLoss(neg_margin=1, distance=PLAIN),
        exempt=dict.fromkeys(LAWS_OF_PARTS, ROWS),
    ),
    Loss(
        name="lifted_structure of one end",
        terms=losses.lifted_structure,
        module=partial(OneEnd, euclidean),
        distance=euclidean,
        loops=partial(lifted_structure_loops, m=1.0, ends=1),
    ),
    Loss(
        name="generalised_lifted",
        terms=losses.generalised_lifted,
        module=GeneralisedLiftedLoss,
        distance=euclidean,
        loops=partial(generalised_lifted_loops, m=1.0),
        peer=of_whole_anchors(peer_losses.GeneralizedLiftedStructureLoss, distance=PLAIN),
    ),
]
