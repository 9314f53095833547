"""Miners: what each chooses, by the loops of its paper, and the laws that all of them keep."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import miners as peer_miners
from torch import Tensor

from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.mining import (
    distance_weighted,
    easiest,
    hardest,
    multi_similarity_mining,
    pair_margin,
    semi_hard,
)
from siamlearn.functional.pairs import Pairs, between
from siamlearn.nn.losses import ContrastiveLoss, TripletLoss

PLAIN = peer_distances.LpDistance(normalize_embeddings=False)
MINERS = {
    "multi_similarity": partial(multi_similarity_mining, epsilon=0.3),
    "hardest": hardest,
    "hardest few": partial(hardest, positives=2, negatives=3),
    "nearest negatives": partial(hardest, positives=None, negatives=2),
    "easiest": easiest,
    "easiest few": partial(easiest, positives=2, negatives=2),
    "semi_hard": partial(semi_hard, margin=0.5),
    "all farther": partial(semi_hard, margin=float("inf")),
    "pair_margin": partial(pair_margin, positive_margin=0.5, negative_margin=2.0),
    "easy positive, hard negative": lambda pairs: hardest(easiest(pairs), positives=None),
    "distance_weighted": partial(distance_weighted, dimensions=8, seed=3, farthest=9.0),
    "distance_weighted few": partial(distance_weighted, dimensions=8, seed=3, negatives=2),
}
every_miner = pytest.mark.parametrize("miner", MINERS.values(), ids=MINERS.keys())
every_ordinary_miner = pytest.mark.parametrize(
    "miner", list(MINERS.values())[:-2], ids=list(MINERS)[:-2]
)
few = settings(max_examples=40)


@st.composite
def batches(draw, longest: int = 14) -> tuple[Tensor, Tensor]:
    """Embeddings, in half of the cases on a grid, where many distances are tied; and labels."""
    n = draw(st.integers(0, longest))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    labels = torch.randint(draw(st.integers(1, 5)), (n,), generator=generator)
    embeddings = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return (embeddings.round() if draw(st.booleans()) else embeddings), labels


def pairs_of(embeddings: Tensor, labels: Tensor) -> Pairs:
    own = torch.arange(len(labels))
    return between(embeddings, labels, embeddings, labels, distance=euclidean, own=own)


def cut(pairs: Pairs, rows: slice) -> Pairs:
    return Pairs(pairs.distance[rows], pairs.positive[rows], pairs.negative[rows])


def assert_chosen(pairs: Pairs, positive: Tensor, negative: Tensor) -> None:
    assert torch.equal(pairs.positive, positive)
    assert torch.equal(pairs.negative, negative)


# --- The laws -------------------------------------------------------------------------------------


@every_miner
@few
@given(batch=batches())
def test_a_miner_only_ever_narrows(miner, batch):
    pairs = pairs_of(*batch)
    mined = miner(pairs)

    assert not (mined.positive & ~pairs.positive).any()
    assert not (mined.negative & ~pairs.negative).any()
    assert mined.distance is pairs.distance


@every_miner
@few
@given(batch=batches(), where=st.integers(0, 14))
def test_a_miner_treats_each_row_on_its_own(miner, batch, where):
    pairs = pairs_of(*batch)
    parts = [miner(cut(pairs, rows)) for rows in (slice(where), slice(where, None))]

    assert_chosen(
        miner(pairs),
        torch.cat([part.positive for part in parts]),
        torch.cat([part.negative for part in parts]),
    )


@every_miner
@few
@given(
    batch=batches(),
    names=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=5, max_size=5, unique=True),
)
def test_names_of_identities_do_not_matter(miner, batch, names):
    embeddings, labels = batch
    mined = miner(pairs_of(embeddings, torch.tensor(names)[labels]))

    assert_chosen(miner(pairs_of(*batch)), mined.positive, mined.negative)


@every_ordinary_miner
@few
@given(batch=batches(), seed=st.integers(0, 99))
def test_the_order_of_the_batch_does_not_matter_also_where_pairs_are_tied(miner, batch, seed):
    pairs = pairs_of(*batch)
    n = len(pairs.distance)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    shuffled = miner(
        Pairs(*(t[order][:, order] for t in (pairs.distance, pairs.positive, pairs.negative)))
    )
    mined = miner(pairs)

    assert_chosen(shuffled, mined.positive[order][:, order], mined.negative[order][:, order])


@every_miner
@few
@given(batch=batches())
def test_a_pair_that_was_left_out_counts_for_nothing(miner, batch):
    pairs = pairs_of(*batch)
    out = ~(pairs.positive | pairs.negative)
    elsewhere = pairs.distance.masked_fill(out, torch.nan)
    mined = miner(pairs)
    other = miner(Pairs(elsewhere, pairs.positive, pairs.negative))

    assert_chosen(mined, other.positive, other.negative)


@every_miner
def test_a_nan_is_chosen_so_that_the_loss_shows_it(miner):
    embeddings = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    embeddings[7] = torch.nan
    pairs = pairs_of(embeddings, torch.arange(12) % 3)
    mined = miner(pairs)
    nan = pairs.distance.isnan()

    assert nan.any()
    assert torch.equal(mined.positive & nan, pairs.positive & nan)
    assert torch.equal(mined.negative & nan, pairs.negative & nan)
    assert ContrastiveLoss(miner=miner)(embeddings, torch.arange(12) % 3).isnan()


@every_miner
@pytest.mark.parametrize("loss", [ContrastiveLoss, TripletLoss])
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(torch.arange(12) % 4, id="four identities"),
        pytest.param(torch.zeros(12, dtype=torch.int64), id="one identity"),
        pytest.param(torch.arange(12), id="each its own"),
        pytest.param(torch.tensor([0] * 5 + list(range(1, 8))), id="one of many, others alone"),
    ],
)
def test_mined_losses_do_not_depend_on_blocks(miner, loss, labels):
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(12, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def value_and_gradient(rows: int | None) -> tuple[Tensor, ...]:
        value = loss(1.0, miner=miner, rows=rows)(embeddings, labels)
        return value, *torch.autograd.grad(value, embeddings, materialize_grads=True)

    whole = value_and_gradient(12)
    for rows in (None, 3, 5):
        torch.testing.assert_close(value_and_gradient(rows), whole)
    assert all(part.isfinite().all() for part in whole)


@every_miner
@pytest.mark.parametrize("loss", [ContrastiveLoss, TripletLoss])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_mined_losses_of_next_to_nothing_are_finite(miner, loss, n):
    embeddings = torch.zeros(n, 2, requires_grad=True)
    value = loss(miner=miner)(embeddings, torch.zeros(n, dtype=torch.int64))
    value.backward()

    assert value == 0
    assert embeddings.grad.eq(0).all()


@every_miner
def test_no_references_leave_nothing_to_choose(miner):
    nothing = torch.zeros(3, 0, dtype=torch.bool)

    assert_chosen(miner(Pairs(torch.zeros(3, 0), nothing, nothing)), nothing, nothing)


@every_miner
def test_a_miner_never_waits_for_the_device(miner):
    # Tensors of the meta device have no values: whoever asks for one gets an error.
    distance = torch.empty(6, 9, device="meta")
    same = torch.empty(6, 9, dtype=torch.bool, device="meta")
    mined = miner(Pairs(distance, same, ~same))

    assert mined.positive.shape == mined.negative.shape == (6, 9)


# --- What each chooses, by loops ------------------------------------------------------------------


def by_loops(choice, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Masks of what a choice takes from each row: lists of columns, given {column: distance}."""
    masks = torch.zeros_like(pairs.positive), torch.zeros_like(pairs.negative)
    for row, distance in enumerate(pairs.distance.tolist()):
        sides = [
            {j: distance[j] for j in mask[row].nonzero().flatten().tolist()}
            for mask in (pairs.positive, pairs.negative)
        ]
        for mask, columns in zip(masks, choice(*sides), strict=True):
            mask[row, list(columns)] = True
    return masks


def multi_similarity_loops(p: dict, n: dict):
    return (
        [i for i in p if any(p[i] > n[k] - 0.3 for k in n)],
        [k for k in n if any(n[k] < p[i] + 0.3 for i in p)],
    )


def greatest(values: dict, few: int):
    return [i for i in values if sum(other > values[i] for other in values.values()) < few]


def smallest(values: dict, few: int):
    return [i for i in values if sum(other < values[i] for other in values.values()) < few]


def semi_hard_loops(p: dict, n: dict, margin: float = 0.5):
    triplets = [(i, k) for i in p for k in n if 0 < n[k] - p[i] < margin]
    return {i for i, _ in triplets}, {k for _, k in triplets}


def easy_positive_hard_negative(p: dict, n: dict):
    return smallest(p, 1), smallest(n, 1)


LOOPS = {
    "multi_similarity": multi_similarity_loops,
    "hardest": lambda p, n: (greatest(p, 1), smallest(n, 1)),
    "hardest few": lambda p, n: (greatest(p, 2), smallest(n, 3)),
    "nearest negatives": lambda p, n: (p, smallest(n, 2)),
    "easiest": lambda p, n: (smallest(p, 1), n),
    "easiest few": lambda p, n: (smallest(p, 2), greatest(n, 2)),
    "semi_hard": semi_hard_loops,
    "all farther": partial(semi_hard_loops, margin=float("inf")),
    "pair_margin": lambda p, n: ([i for i in p if p[i] > 0.5], [k for k in n if n[k] < 2]),
    "easy positive, hard negative": easy_positive_hard_negative,
}


@pytest.mark.parametrize("name", LOOPS)
@few
@given(batch=batches())
def test_a_miner_chooses_what_its_definition_says(name, batch):
    pairs = pairs_of(*batch)

    assert_chosen(MINERS[name](pairs), *by_loops(LOOPS[name], pairs))


# --- The peer -------------------------------------------------------------------------------------


def columns(pairs: Pairs) -> tuple[set, set]:
    return tuple(
        {tuple(pair) for pair in mask.nonzero().tolist()}
        for mask in (pairs.positive, pairs.negative)
    )


def peer_columns(chosen) -> tuple[set, set]:
    """Of what a miner of pytorch-metric-learning returns: its pairs, or the pairs of triplets."""
    chosen = [part.tolist() for part in chosen]
    a, p, b, n = chosen if len(chosen) == 4 else (chosen[0], chosen[1], chosen[0], chosen[2])
    return set(zip(a, p, strict=True)), set(zip(b, n, strict=True))


def a_batch(n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 4, generator=generator), torch.arange(n) % 9


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (
            partial(multi_similarity_mining, epsilon=0.1),
            peer_miners.MultiSimilarityMiner(epsilon=0.1, distance=PLAIN),
        ),
        (hardest, peer_miners.BatchHardMiner(distance=PLAIN)),
        (
            easiest,
            peer_miners.BatchEasyHardMiner("easy", "all", distance=PLAIN),
        ),
        (
            lambda pairs: hardest(easiest(pairs), positives=None),
            peer_miners.BatchEasyHardMiner("easy", "hard", distance=PLAIN),
        ),
        (
            lambda pairs: hardest(semi_hard(easiest(pairs), margin=float("inf")), positives=None),
            peer_miners.BatchEasyHardMiner("easy", "semihard", distance=PLAIN),
        ),
        (
            partial(semi_hard, margin=0.2),
            peer_miners.TripletMarginMiner(0.2, "semihard", distance=PLAIN),
        ),
        (
            partial(pair_margin, positive_margin=2.0, negative_margin=2.5),
            peer_miners.PairMarginMiner(2.0, 2.5, distance=PLAIN),
        ),
    ],
    ids=[
        "multi-similarity",
        "batch-hard",
        "easy positive",
        "easy positive, hard negative",
        "easy positive, semi-hard negative",
        "semi-hard",
        "pair margin",
    ],
)
def test_chooses_the_pairs_that_pytorch_metric_learning_chooses(ours, peer):
    embeddings, labels = a_batch()
    chosen = columns(ours(pairs_of(embeddings, labels)))

    assert all(chosen)
    assert chosen == peer_columns(peer(embeddings, labels))


def test_multi_similarity_mining_equals_its_peer_on_cosines():
    embeddings, labels = a_batch()
    pairs = between(embeddings, labels, embeddings, labels, distance=cosine, own=torch.arange(40))
    peer = peer_miners.MultiSimilarityMiner(epsilon=0.1)

    assert columns(multi_similarity_mining(pairs)) == peer_columns(peer(embeddings, labels))


# --- Drawing --------------------------------------------------------------------------------------


def one_positive_and(distances: list[float], rows: int) -> Pairs:
    """Rows whose masks differ, as those of a batch do: all beside the same negatives."""
    negative = torch.tensor([distances]).expand(rows, -1)
    positive = torch.eye(rows, dtype=torch.bool)
    distance = torch.cat([negative, torch.ones(rows, rows)], dim=1)
    far = torch.zeros(rows, len(distances), dtype=torch.bool)
    none = torch.zeros(rows, rows, dtype=torch.bool)
    return Pairs(distance, torch.cat([far, positive], 1), torch.cat([~far, none], 1))


def test_negatives_are_drawn_with_the_weights_of_the_paper():
    distances, rows, n = [0.3, 0.5, 0.9, 1.1, 1.3, 1.5], 4000, 8
    mined = distance_weighted(one_positive_and(distances, rows), dimensions=n, seed=0)
    seen = mined.negative[:, : len(distances)].sum(dim=0).double() / rows
    d = torch.tensor(distances, dtype=torch.float64).clamp(min=0.5)
    weight = d ** (2 - n) * (1 - d**2 / 4) ** ((3 - n) / 2) * (d < 1.4)
    share = weight / weight.sum()

    assert mined.negative.sum(dim=1).eq(1).all()
    # Four standard deviations of a share that is counted over so many rows.
    assert ((seen - share).abs() <= 4 * (share * (1 - share) / rows).sqrt()).all()


def test_negatives_are_drawn_one_after_the_other_without_putting_back():
    # With weights a and b > c, the pair {b, c} has the chance of b then c, or c then b.
    distances, rows, n = [0.9, 1.1, 1.3], 4000, 8
    pairs = one_positive_and(distances, rows)
    mined = distance_weighted(pairs, dimensions=n, seed=1, negatives=2)
    left_out = (~mined.negative[:, :3]).double().mean(dim=0)
    d = torch.tensor(distances, dtype=torch.float64)
    a, b, c = (d ** (2 - n) * (1 - d**2 / 4) ** ((3 - n) / 2)).tolist()
    a, b, c = (weight / (a + b + c) for weight in (a, b, c))
    expected = torch.tensor(
        [b * c / (1 - b) + c * b / (1 - c), a * c / (1 - a) + c * a / (1 - c),
         a * b / (1 - a) + b * a / (1 - b)], dtype=torch.float64
    )  # fmt: skip

    assert mined.negative.sum(dim=1).eq(2).all()
    assert ((left_out - expected).abs() <= 4 * (expected * (1 - expected) / rows).sqrt()).all()


def test_as_many_negatives_are_drawn_as_there_are_positives():
    embeddings = torch.nn.functional.normalize(a_batch()[0])
    labels = torch.tensor([0] * 5 + [1] * 2 + list(range(2, 35)))
    mined = distance_weighted(
        pairs_of(embeddings, labels), dimensions=4, seed=0, nearest=0.1, farthest=2.1
    )

    assert mined.negative.sum(dim=1).tolist() == [4] * 5 + [1] * 2 + [0] * 33
    assert torch.equal(mined.positive, pairs_of(embeddings, labels).positive)


def test_another_seed_draws_other_negatives_and_the_same_seed_the_same():
    pairs = one_positive_and([1.0] * 50, 200)
    first, again, other = (
        distance_weighted(pairs, dimensions=8, seed=seed).negative for seed in (7, 7, 8)
    )

    assert torch.equal(first, again)
    # A fiftieth of 200 rows agrees by chance: 4, and at most 4 + 4 standard deviations.
    assert (first & other).sum() <= 12


def test_rows_of_one_batch_draw_independently():
    # Two rows of the same distances agree in one of fifty cases.
    drawn = distance_weighted(one_positive_and([1.0] * 50, 200), dimensions=8, seed=0).negative
    agree = (drawn[:-1] & drawn[1:]).sum()

    assert agree <= 12


def test_negatives_beyond_reach_are_not_drawn_even_if_they_are_all_there_is():
    mined = distance_weighted(one_positive_and([1.5, 1.9], 4), dimensions=8, seed=0)

    assert not mined.negative.any()
    assert mined.positive.any(dim=1).all()


@pytest.mark.parametrize("dimensions", [2, 3, 128, 2048])
def test_weights_do_not_overflow(dimensions):
    pairs = one_positive_and([0.0, 0.5, 1.2, 2.0, 2.0], 6)
    mined = distance_weighted(pairs, dimensions=dimensions, seed=0, negatives=2, farthest=3.0)

    assert mined.negative.sum(dim=1).eq(2).all()


# --- Traps ----------------------------------------------------------------------------------------


def test_anchors_without_positives_or_negatives_give_nothing_to_multi_similarity_mining():
    distance = torch.tensor([[0.1, 0.2], [0.1, 0.2]])
    positive = torch.tensor([[True, True], [False, False]])

    mined = multi_similarity_mining(Pairs(distance, positive, ~positive), epsilon=100.0)

    assert not mined.positive.any()
    assert not mined.negative.any()


@pytest.mark.parametrize(
    "miner",
    [
        partial(multi_similarity_mining, epsilon=0.5),
        partial(semi_hard, margin=0.5),
        partial(pair_margin, positive_margin=1.0, negative_margin=1.5),
    ],
)
def test_pairs_on_an_edge_are_in_order(miner):
    # All of these are floats without rounding.
    same = torch.tensor([[True, False]])
    on_the_edge = miner(Pairs(torch.tensor([[1.0, 1.5]]), same, ~same))
    within = miner(Pairs(torch.tensor([[1.125, 1.375]]), same, ~same))

    assert_chosen(on_the_edge, torch.zeros_like(same), torch.zeros_like(same))
    assert_chosen(within, same, ~same)


def test_tied_pairs_are_chosen_together():
    same = torch.tensor([[True, True, True, False, False, False]])
    pairs = Pairs(torch.tensor([[0.1, 0.4, 0.4, 0.2, 0.2, 0.9]]), same, ~same)

    assert_chosen(
        hardest(pairs),
        torch.tensor([[False, True, True, False, False, False]]),
        torch.tensor([[False, False, False, True, True, False]]),
    )


def test_batch_hard_triplet_loss_is_that_of_its_paper():
    # Hermans et al., eq. 5, with the mean over anchors that are not in order.
    embeddings, labels = a_batch()
    d = torch.cdist(embeddings, embeddings)
    costs = []
    for a in range(40):
        farthest = max(d[a, p] for p in range(40) if labels[p] == labels[a] and p != a)
        nearest = min(d[a, n] for n in range(40) if labels[n] != labels[a])
        costs.append((farthest - nearest + 0.3).clamp(min=0))
    costs = torch.stack(costs)

    ours = TripletLoss(0.3, miner=hardest)(embeddings, labels)

    torch.testing.assert_close(ours, costs[costs > 0].mean())


def test_no_gradient_goes_through_a_choice():
    distance = torch.rand(3, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    same = torch.tensor([[True, True, True, False, False, False]]).expand(3, -1)
    for miner in MINERS.values():
        mined = miner(Pairs(distance, same, ~same))
        assert mined.distance is distance
        assert not mined.positive.requires_grad


@pytest.mark.parametrize("few", [0, -1])
def test_a_miner_must_keep_something(few):
    pairs = Pairs(torch.zeros(1, 3), *torch.tensor([[[True, False, False]], [[False, True, True]]]))

    with pytest.raises(ValueError, match=f"at least 1 pair a row, got {few}"):
        hardest(pairs, negatives=few)
