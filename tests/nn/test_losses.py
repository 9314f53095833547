"""The shell around the losses: choices, checks. What they compute is in ``laws.py``."""

from functools import partial

import pytest
import torch

from siamlearn.functional.distances import cosine, euclidean, squared_euclidean
from siamlearn.functional.mining import hardest
from siamlearn.functional.pairings import adjacent_pairs, adjacent_triplets, anchor_swap, two_towers
from siamlearn.functional.pairs import Pairs, Terms
from siamlearn.nn.losses import (
    AdaFaceLoss,
    ArcFaceLoss,
    ContrastiveLoss,
    CurricularFaceLoss,
    EmbeddingNorm,
    HistogramLoss,
    InfoNCELoss,
    IntraPairVarianceLoss,
    LiftedStructureLoss,
    PairLoss,
    SupConLoss,
    TripletLoss,
)
from siamlearn.nn.references import Proxies

LOSSES = [ContrastiveLoss, TripletLoss, InfoNCELoss, SupConLoss]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def a_batch(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = torch.randn(n, 5, generator=torch.Generator().manual_seed(0))
    return embeddings.requires_grad_(), torch.arange(n) % 3


def test_a_siamese_batch_costs_what_the_notebook_says():
    # (1-y)·d² + y·max(0, margin-d)², y = 1 for different people, margin 2, mean over the pairs.
    embeddings, labels = a_batch(64)[0] / 2, torch.arange(64) // 5 % 3
    left, right = embeddings.chunk(2)
    total = 0.0
    for i in range(32):
        y = float(labels[i] != labels[32 + i])
        d = (left[i] - right[i]).square().sum().sqrt()
        total += (1 - y) * d**2 + y * max(0, 2 - d) ** 2
    expected = total / 32

    ours = ContrastiveLoss(margin=2.0, pairing=adjacent_pairs)(embeddings, labels)

    assert (labels[:32] == labels[32:]).unique().tolist() == [False, True]
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, embeddings), torch.autograd.grad(expected, embeddings)
    )


def test_a_batch_of_triplets_costs_the_mean_of_its_triplets():
    embeddings, _ = a_batch(12)
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 9, 9, 9, 9])
    anchor, positive, negative = embeddings.chunk(3)
    costs = (anchor - positive).norm(dim=1) - (anchor - negative).norm(dim=1) + 0.5

    ours = TripletLoss(0.5, pairing=adjacent_triplets)(embeddings, labels)

    torch.testing.assert_close(ours, costs[costs > 0].mean())


def test_an_odd_siamese_batch_is_refused():
    with pytest.raises(ValueError, match="2 equal parts, one beside the other, got 5 rows"):
        ContrastiveLoss(pairing=adjacent_pairs)(*a_batch(5))


@pytest.mark.parametrize("loss", [TripletLoss, InfoNCELoss, SupConLoss])
def test_losses_that_need_rivals_refuse_a_siamese_batch(loss):
    with pytest.raises(ValueError, match="would always be 0; use all_pairs"):
        loss(pairing=adjacent_pairs)


@pytest.mark.parametrize("loss", [ContrastiveLoss, TripletLoss])
@pytest.mark.parametrize("margin", [0, -1.0, float("nan"), float("inf")])
def test_margin_must_be_above_zero(loss, margin):
    with pytest.raises(ValueError, match=f"margin must be above zero and finite, got {margin}"):
        loss(margin)


@pytest.mark.parametrize("loss", [InfoNCELoss, SupConLoss])
@pytest.mark.parametrize("temperature", [0, -0.07, float("nan"), float("inf")])
def test_temperature_must_be_above_zero(loss, temperature):
    with pytest.raises(ValueError, match=f"temperature must be above zero.*got {temperature}"):
        loss(temperature)


@every_loss
@pytest.mark.parametrize("rows", [0, -3])
def test_rows_must_be_at_least_one(loss, rows):
    with pytest.raises(ValueError, match=f"rows must be at least 1, got {rows}"):
        loss(rows=rows)


def refused(embeddings: torch.Tensor, labels: torch.Tensor, rule: str) -> None:
    """The batch is refused, and so are references of that shape."""
    with pytest.raises(ValueError, match=rule):
        ContrastiveLoss()(embeddings, labels)
    with pytest.raises(ValueError, match=rule):
        ContrastiveLoss()(*a_batch(4), (embeddings, labels))


def test_labels_must_match_embeddings():
    rule = r"labels of shape \(3,\) for embeddings of shape \(4, 2\)"
    refused(torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64), rule)
    rule = r"labels of shape \(4, 1\) for embeddings of shape \(4, 2\)"
    refused(torch.zeros(4, 2), torch.zeros(4, 1, dtype=torch.int64), rule)


def test_embeddings_must_be_rows_of_floats():
    labels = torch.zeros(4, dtype=torch.int64)

    refused(torch.zeros(4, 2, 3, 3), labels, r"got torch.float32 of shape \(4, 2, 3, 3\)")
    refused(torch.zeros(4, 2, dtype=torch.uint8), labels, "rows? of floats.*got torch.uint8")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_labels_must_be_whole_numbers(dtype):
    refused(torch.zeros(4, 2), torch.zeros(4, dtype=dtype), f"whole numbers.*got {dtype}")


def test_repr_names_the_choices():
    assert repr(ContrastiveLoss(0.5)) == (
        "ContrastiveLoss(distance=euclidean, pairing=all_pairs, margin=0.5, positive_margin=0.0, "
        "squared=True, apart=False)"
    )
    assert repr(InfoNCELoss(0.1, distance=squared_euclidean, rows=64)) == (
        "InfoNCELoss(distance=squared_euclidean, pairing=all_pairs, rows=64, temperature=0.1)"
    )


@every_loss
def test_a_miner_chooses_the_pairs_that_count(loss):
    embeddings, labels = a_batch()

    def nobody(pairs: Pairs) -> Pairs:
        none = torch.zeros_like(pairs.positive)
        return pairs.keep(positive=none, negative=none)

    def everybody(pairs: Pairs) -> Pairs:
        return pairs.keep(positive=pairs.positive, negative=pairs.negative)

    for rows in (None, 5):
        assert loss(miner=nobody, rows=rows)(embeddings, labels) == 0
        torch.testing.assert_close(
            loss(miner=everybody, rows=rows)(embeddings, labels),
            loss(rows=rows)(embeddings, labels),
        )


@pytest.mark.parametrize(("rows", "blocks"), [(None, [12]), (5, [5, 5, 2])])
def test_rows_bound_the_blocks(rows, blocks):
    seen = []

    def spy(pairs: Pairs) -> Pairs:
        seen.append(len(pairs.distance))
        return pairs

    ContrastiveLoss(miner=spy, rows=rows)(*a_batch()).backward()

    assert seen == blocks


@every_loss
def test_the_distance_is_a_choice(loss):
    embeddings, labels = a_batch()
    costs = {
        loss(distance=distance)(embeddings, labels).item()
        for distance in (euclidean, squared_euclidean, cosine)
    }

    assert len(costs) == 3


def test_what_a_new_loss_learns_gets_its_gradient_also_in_blocks():
    class Scaled(PairLoss):
        """A fake loss with a scale of its own."""

        def __init__(self, rows: int | None) -> None:
            super().__init__(distance=euclidean, rows=rows)
            self.scale = torch.nn.Parameter(torch.tensor(3.0))

        def terms(self, pairs: Pairs) -> Terms:
            near = torch.where(pairs.positive, self.scale.square() * pairs.distance, 0)
            return Terms(near.sum(), pairs.positive.sum())

    whole, blocks = Scaled(rows=None), Scaled(rows=5)
    for loss in (whole, blocks):
        loss(*a_batch()).backward()

    assert whole.scale.grad > 0
    torch.testing.assert_close(blocks.scale.grad, whole.scale.grad)


@every_loss
def test_a_net_under_autocast_learns_from_a_loss_in_float32(loss):
    net = torch.nn.Linear(5, 3)
    images, labels = a_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = net(images)
        cost = loss(rows=5)(embeddings, labels)
    cost.backward()

    assert embeddings.dtype == torch.bfloat16
    assert cost.dtype == torch.float32
    assert net.weight.grad.isfinite().all()
    assert net.weight.grad.norm() > 0


def test_a_pair_loss_says_what_is_wanted():
    with pytest.raises(TypeError, match="abstract method"):
        PairLoss(distance=euclidean)


def test_wrong_batches_are_refused_in_words():
    x, y = a_batch(6)
    for rule, call in {
        "labels must be a tensor, got list": lambda: ContrastiveLoss()(x, y.tolist()),
        "embeddings must be a tensor": lambda: ContrastiveLoss()(x.tolist(), y),
        r"true or false: labels.bool\(\)": lambda: ContrastiveLoss()(x, torch.eye(6).long()),
        "must be two tensors": lambda: ContrastiveLoss()(x, y, x),
        "as many dimensions as the batch, got 4 and 5": lambda: ContrastiveLoss()(
            x, y, (torch.zeros(6, 4), y)
        ),
        "of the kind that the batch has": lambda: ContrastiveLoss()(
            x, y, (x, torch.eye(6, dtype=torch.bool))
        ),
        "references of its own.*same= says nothing": lambda: ArcFaceLoss(3, 5)(
            x, same=y[:, None] == y
        ),
        "references of its own.*references= says": lambda: ArcFaceLoss(3, 5)(x, y, (x, y)),
        "one entry for each embedding": lambda: EmbeddingNorm()(x, y[:1]),
    }.items():
        with pytest.raises(ValueError, match=rule):
            call()


@pytest.mark.parametrize("rows", [None, 2, 6])
def test_two_towers_take_the_answers_of_one_half_beside_the_other(rows):
    embeddings, labels = a_batch()
    loss = InfoNCELoss(pairing=two_towers, rows=rows)
    same = labels[:, None] == labels

    told, named = loss(embeddings, same=same), loss(embeddings, labels)
    torch.testing.assert_close(told, named)
    torch.testing.assert_close(
        torch.autograd.grad(told, embeddings), torch.autograd.grad(named, embeddings)
    )
    # Answers need not be the same both ways.
    same[:6, 6:] = torch.eye(6, dtype=torch.bool)
    assert loss(embeddings, same=same) != told


def test_pairings_of_one_column_say_that_answers_are_not_for_them():
    x, y = a_batch(6)
    same = y[:, None] == y
    for pairing in (adjacent_pairs, adjacent_triplets, anchor_swap):
        with pytest.raises(ValueError, match=f"{pairing.__name__} needs labels, got same="):
            ContrastiveLoss(pairing=pairing)(x, same=same)
        with pytest.raises(ValueError, match="with itself, got references"):
            ContrastiveLoss(pairing=pairing)(x, y, (x, y))
    with pytest.raises(ValueError, match="two_towers needs labels, got same="):
        ContrastiveLoss(pairing=two_towers)(x, None, (x + 1, y), same=same)


@pytest.mark.parametrize("name", ["miner", "pairing", "distance", "references"])
def test_choices_must_be_functions(name):
    with pytest.raises(ValueError, match=f"{name} must be a function"):
        ContrastiveLoss(**{name: (1, 2)})
    with pytest.raises(ValueError, match=f"{name} must be a function"):
        ContrastiveLoss(**{name: Proxies})


def test_repr_names_functions_and_their_settings():
    mined = ContrastiveLoss(miner=partial(hardest, negatives=2))

    assert "miner=hardest(negatives=2)" in repr(mined)
    assert "0x" not in repr(ArcFaceLoss(3, 5))
    assert "references" not in repr(ArcFaceLoss(3, 5))


def test_half_a_loss_is_a_loss():
    loss = ContrastiveLoss()

    torch.testing.assert_close((loss / 2)(*a_batch()), loss(*a_batch()) / 2)


def test_a_bad_batch_is_not_remembered_in_what_is_usual():
    x, y = a_batch(6)
    for loss in (AdaFaceLoss(3, 5), CurricularFaceLoss(3, 5)):
        loss(x * torch.nan, y)

        assert loss(x, y).isfinite()


@pytest.mark.parametrize("loss", [HistogramLoss, IntraPairVarianceLoss, LiftedStructureLoss])
@pytest.mark.parametrize("rows", [None, 12])
def test_losses_that_look_twice_refuse_a_second_derivative(loss, rows):
    x, y = a_batch(12)

    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss(rows=rows)(x, y), x, create_graph=True)
