"""Losses added up, each with its weight."""

import copy

import pytest
import torch

from siamlearn.nn.losses import (
    CentreLoss,
    ContrastiveLoss,
    EmbeddingNorm,
    MarginLoss,
    SumLoss,
    TripletLoss,
    ZeroMean,
)


def a_batch(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = torch.randn(n, 5, generator=torch.Generator().manual_seed(0))
    return embeddings.requires_grad_(), torch.arange(n) % 3


def length(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return embeddings.norm(dim=1).mean()


def costs_as_much(loss: SumLoss, *parts: tuple[float, object], batch=None) -> None:
    batch = batch or a_batch()
    by_hand = sum(weight * part(*batch) for weight, part in parts)
    torch.testing.assert_close(loss(*batch), by_hand)
    torch.testing.assert_close(
        torch.autograd.grad(loss(*batch), batch[0]), torch.autograd.grad(by_hand, batch[0])
    )


def test_a_sum_costs_what_its_parts_cost_times_their_weights():
    contrastive, triplet, norm = ContrastiveLoss(), TripletLoss(rows=5), EmbeddingNorm()

    costs_as_much(contrastive + 0.5 * triplet, (1, contrastive), (0.5, triplet))
    costs_as_much(contrastive * 2 + norm * 0.1, (2, contrastive), (0.1, norm))
    costs_as_much(
        3 * (contrastive + 0.5 * triplet) + norm, (3, contrastive), (1.5, triplet), (1, norm)
    )
    costs_as_much(sum([contrastive, triplet, norm]), (1, contrastive), (1, triplet), (1, norm))
    costs_as_much(-1 * norm + contrastive, (-1, norm), (1, contrastive))


def test_functions_may_stand_on_either_side():
    contrastive = ContrastiveLoss()

    costs_as_much(contrastive + length, (1, contrastive), (1, length))
    costs_as_much(length + 0.5 * contrastive, (1, length), (0.5, contrastive))
    costs_as_much(
        SumLoss([length, torch.nn.Module.__call__.__get__(contrastive)], [2, 1]),
        (2, length),
        (1, contrastive),
    )


def test_a_sum_of_sums_is_flat():
    loss = 2 * ((ContrastiveLoss() + length) + 0.5 * (TripletLoss() + ZeroMean()))

    assert loss.weights == (2, 2, 1, 1)
    assert len(loss.losses) == 4


def test_what_the_parts_learn_is_learned_saved_and_moved():
    loss = MarginLoss(learned=True) + 0.1 * CentreLoss(classes=3, dimensions=5)
    loss(*a_batch()).backward()
    saved = copy.deepcopy(loss.state_dict())
    other = MarginLoss(learned=True) + 0.1 * CentreLoss(classes=3, dimensions=5, seed=1)
    other.load_state_dict(saved)

    assert set(saved) == {"losses.0.boundary", "losses.1.centres"}
    assert all(parameter.grad.norm() > 0 for parameter in loss.parameters())
    assert torch.equal(other(*a_batch()), loss(*a_batch()))
    assert {parameter.dtype for parameter in loss.double().parameters()} == {torch.float64}


def test_references_and_answers_reach_every_part():
    contrastive, norm = ContrastiveLoss(), EmbeddingNorm()
    (embeddings, labels), (others, names) = a_batch(), a_batch(6)
    same = labels[:, None] == labels
    loss = contrastive + norm

    torch.testing.assert_close(
        loss(embeddings, labels, (others, names)),
        contrastive(embeddings, labels, (others, names)) + norm(embeddings),
    )
    torch.testing.assert_close(loss(embeddings, same=same), loss(embeddings, labels))


def test_repr_is_the_sum_as_it_is_written():
    assert repr(0.5 * ZeroMean() + EmbeddingNorm() + length) == (
        "0.5 * ZeroMean() + EmbeddingNorm(order=2, power=1) + length"
    )


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_weights_must_be_finite(weight):
    with pytest.raises(ValueError, match=rf"a finite weight for each, got 1 losses.*{weight}"):
        weight * ZeroMean()


def test_a_sum_needs_losses_and_as_many_weights():
    with pytest.raises(
        ValueError, match="at least one loss and a finite weight for each, got 0 losses"
    ):
        SumLoss([])
    with pytest.raises(ValueError, match="weight for each, got 1 losses and weights"):
        SumLoss([ZeroMean()], [1, 2])


@pytest.mark.parametrize("thing", [1, "loss", None])
def test_what_is_no_loss_cannot_be_added(thing):
    with pytest.raises(TypeError, match="unsupported operand"):
        ZeroMean() + thing
    with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate"):
        thing + ZeroMean()


@pytest.mark.parametrize("weight", ["2", None, torch.ones(2), ZeroMean()])
def test_weights_are_numbers(weight):
    with pytest.raises(TypeError):
        ZeroMean() * weight
