"""Values by hand and traps of the softmax losses; what all losses share is in ``laws.py``."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances as peer_distances
from pytorch_metric_learning import losses as peer_losses
from torch import Tensor

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine, squared_euclidean
from siamlearn.functional.inner_product import negative_inner_product
from siamlearn.functional.losses.exponentials import log_sum_exp
from siamlearn.functional.pairings import all_pairs, two_towers
from siamlearn.functional.pairs import Pairs
from siamlearn.nn.losses import InfoNCELoss, NCALoss, NPairsLoss

OF_TEMPERATURE = [losses.info_nce, losses.sup_con, losses.decoupled, losses.nca]


def a_row(positive: list[float], negative: list[float], left_out: list[float] = ()) -> Pairs:
    """One anchor beside its positives, its negatives, and pairs that a miner left out."""
    distance = torch.tensor([[*positive, *negative, *left_out]])
    column = torch.arange(distance.shape[1])[None]
    same = column < len(positive)
    return Pairs(distance, same, ~same & (column < len(positive) + len(negative)))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- The sum of exponentials ----------------------------------------------------------------------


def test_a_sum_of_exponentials_is_that_of_torch_over_what_is_chosen():
    logits, mask = 30 * noise(20, 9), noise(20, 9, seed=1) > 0
    mask[3] = False
    logits.requires_grad_()
    whole = log_sum_exp(logits, mask)
    row = noise(20, seed=2)
    gradient = torch.autograd.grad(whole.log, logits, row)[0]
    others = torch.arange(20) != 3

    expected = logits.masked_fill(~mask, -torch.inf).logsumexp(dim=1)
    torch.testing.assert_close(whole.log[others], expected[others])
    torch.testing.assert_close(whole.weigh(row), gradient)
    assert whole.log[3] < -1e300
    assert whole.log[3].isfinite()
    assert gradient[~mask].eq(0).all()


def test_a_sum_of_exponentials_has_a_second_derivative():
    logits, mask = noise(4, 5).requires_grad_(), noise(4, 5, seed=1) > 0
    mask[2] = False

    assert torch.autograd.gradgradcheck(lambda x: log_sum_exp(x, mask).log[mask.any(1)], logits)


def test_no_gap_is_too_large_for_a_sum_of_exponentials():
    logits = torch.tensor([[-3e20, -1e20, 5.0]])

    assert log_sum_exp(logits, torch.tensor([[True, True, False]])).log.item() == -torch.tensor(
        1e20
    )


# --- By hand --------------------------------------------------------------------------------------


def test_decoupled_by_hand():
    # The positives at 0 and 1 against the negatives at 1 and 2, not against themselves.
    terms = losses.decoupled(a_row([0.0, 1.0], [1.0, 2.0], left_out=[0.0]), temperature=0.5)

    assert terms.count.item() == 2
    assert terms.total.item() == pytest.approx(
        2 + 2 * math.log(math.exp(-2) + math.exp(-4)), rel=1e-5
    )


def test_a_decoupled_positive_pulls_as_strongly_however_near_it_is():
    near, far = (losses.decoupled(a_row([p], [1.0]), temperature=0.5) for p in (0.01, 1.9))

    assert near.slope[0, 0] == far.slope[0, 0] == 2
    assert losses.info_nce(a_row([0.01], [1.0]), temperature=0.1).slope[0, 0] < 1e-2


def test_decoupled_still_asks_for_one_place_where_there_are_no_negatives():
    terms = losses.decoupled(a_row([0.25, 0.5], []), temperature=0.5)

    assert terms.mean().item() == pytest.approx((0.5 + 1) / 2)
    assert terms.slope.tolist() == [[2, 2]]


def test_nca_by_hand():
    # Both positives together against all three.
    terms = losses.nca(a_row([0.0, 1.0], [1.0], left_out=[0.0]), temperature=0.5)

    assert terms.count.item() == 1
    assert terms.total.item() == pytest.approx(
        math.log(1 + 2 * math.exp(-2)) - math.log(1 + math.exp(-2))
    )


def test_nca_is_content_with_one_near_positive():
    terms = losses.nca(a_row([0.0, 50.0], [40.0]))

    assert terms.total.item() < 1e-6
    assert terms.slope.abs().max() < 1e-6


def test_nca_keeps_pulling_where_pytorch_metric_learning_drops_the_anchor():
    # The first is 0.25 from the third and 400 from its positive, the second 380.25 and 400. That
    # the first picks its positive has a chance of e^-399.75: less than a float32 can say.
    embeddings, labels = torch.tensor([[0.0], [20.0], [0.5]]), torch.tensor([0, 0, 1])
    unscaled = peer_distances.LpDistance(normalize_embeddings=False, power=2)

    assert peer_losses.NCALoss(distance=unscaled)(embeddings, labels).item() == 19.75
    assert NCALoss()(embeddings, labels).item() == pytest.approx((399.75 + 19.75) / 2)


def test_n_pairs_by_hand():
    # Inner products: 2 with the positive, 1 and -1 with the negatives.
    terms = losses.n_pairs(a_row([-2.0], [-1.0, 1.0]))

    assert terms.total.item() == pytest.approx(math.log(1 + math.exp(-1) + math.exp(-3)))


def test_n_pairs_of_two_pictures_an_identity_is_the_softmax_of_their_products():
    anchors, positives, labels = noise(6, 4), noise(6, 4, seed=1), torch.arange(6)
    products = anchors @ positives.T
    one_way, other_way = (F.cross_entropy(p, labels) for p in (products, products.T))

    torch.testing.assert_close(NPairsLoss()(anchors, labels, (positives, labels)), one_way)
    torch.testing.assert_close(
        NPairsLoss(pairing=two_towers)(torch.cat([anchors, positives]), labels.repeat(2)),
        (one_way + other_way) / 2,
    )


def test_the_inner_product_is_the_same_pair_by_pair_and_knows_lengths():
    x = noise(5, 3)

    torch.testing.assert_close(negative_inner_product(2 * x, x), -2 * x @ x.T)
    torch.testing.assert_close(
        negative_inner_product(x[:, None], x[:, None]).flatten(), -x.square().sum(dim=1)
    )
    assert negative_inner_product(x.half(), x.half()).dtype == torch.float32


# --- Two towers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 3, 99])
def test_info_nce_over_two_towers_is_the_loss_of_clip(rows):
    pictures, words = noise(8, 5).requires_grad_(), noise(8, 5, seed=1).requires_grad_()
    logits = F.normalize(pictures) @ F.normalize(words).T / 0.07
    right = torch.arange(8)
    clip = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2

    loss = InfoNCELoss(pairing=two_towers, rows=rows)
    ours = loss(torch.cat([pictures, words]), right.repeat(2))

    torch.testing.assert_close(ours, clip)
    torch.testing.assert_close(
        torch.autograd.grad(ours, [pictures, words]), torch.autograd.grad(clip, [pictures, words])
    )


# --- Digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", OF_TEMPERATURE)
@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_float32_is_as_float64_at_extreme_temperatures(loss, temperature):
    embeddings, labels = noise(24, 6), torch.arange(24) % 5

    def outcome(x: Tensor) -> tuple[Tensor, Tensor]:
        x.requires_grad_()
        cost = all_pairs(
            lambda pairs: loss(pairs, temperature=temperature), x, labels, distance=cosine
        ).mean()
        return cost.double(), torch.autograd.grad(cost, x)[0].double()

    wide, narrow = outcome(embeddings.clone()), outcome(embeddings.float())
    scale = wide[1].abs().max().item()
    torch.testing.assert_close(narrow[0], wide[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(narrow[1], wide[1], rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("loss", OF_TEMPERATURE)
def test_one_block_has_a_second_derivative(loss):
    embeddings, labels = noise(6, 3).requires_grad_(), torch.tensor([0, 0, 1, 1, 1, 2])

    def cost(x: Tensor) -> Tensor:
        terms = all_pairs(
            lambda pairs: loss(pairs, temperature=0.5),
            x,
            labels,
            distance=squared_euclidean,
            rows=6,
        )
        return terms.mean()

    assert torch.autograd.gradgradcheck(cost, embeddings)


@pytest.mark.parametrize("loss", OF_TEMPERATURE)
def test_a_temperature_that_learns_gets_its_gradient(loss):
    distance, same = noise(6, 9).abs(), noise(6, 9, seed=1) > 0.5
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    terms = loss(Pairs(distance, same, ~same), temperature=temperature)

    assert terms.slope is None
    assert torch.autograd.gradcheck(
        lambda t: loss(Pairs(distance, same, ~same), temperature=t).total, temperature
    )
