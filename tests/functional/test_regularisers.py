"""Terms that are not about pairs: values by hand, traps, and their peers."""

import pytest
import torch
from pytorch_metric_learning import regularizers

from siamlearn.functional import losses
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairings import all_pairs
from siamlearn.functional.pairs import Pairs

of_embeddings = pytest.mark.parametrize(
    ("term", "peer"),
    [
        (losses.embedding_norm, regularizers.LpRegularizer()),
        (losses.zero_mean, regularizers.ZeroMeanRegularizer()),
    ],
)


def some_vectors(n: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, generator=generator, dtype=torch.float64).requires_grad_()


@of_embeddings
def test_terms_of_embeddings_equal_their_peers(term, peer):
    vectors = some_vectors()
    ours, theirs = term(vectors).mean(), peer(vectors)

    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, vectors), torch.autograd.grad(theirs, vectors)
    )


@of_embeddings
@pytest.mark.parametrize("n", [0, 3])
def test_zero_vectors_and_empty_batches_cost_nothing(term, peer, n):
    vectors = torch.zeros(n, 4, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        cost = term(vectors).mean()
        cost.backward()

    assert cost == 0
    assert vectors.grad.eq(0).all()


@of_embeddings
def test_terms_of_parts_add_to_those_of_the_whole(term, peer):
    vectors = some_vectors()
    parts = term(vectors[:2]) + term(vectors[2:])

    torch.testing.assert_close(parts.mean(), term(vectors).mean())


@of_embeddings
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(term, peer, dtype):
    vectors = some_vectors().to(dtype)

    torch.testing.assert_close(term(vectors).mean(), term(vectors.float()).mean())


def test_norms_have_an_order_and_a_power():
    vectors = torch.tensor([[3.0, -4.0], [1.0, 0.0]])

    assert losses.embedding_norm(vectors, order=1).mean() == (7 + 1) / 2
    assert losses.embedding_norm(vectors, power=2).mean() == (25 + 1) / 2


def test_centre_distance_by_hand():
    embeddings = torch.tensor([[3.0, 4.0], [1.0, 1.0]], requires_grad=True)
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    cost = losses.centre_distance(embeddings, centres).mean()
    cost.backward()

    assert cost == (25 / 2 + 1 / 2) / 2
    assert torch.equal(embeddings.grad, (embeddings - centres).detach() / 2)


@pytest.mark.parametrize("rows", [None, 1, 3, 7])
def test_nearest_rivals_equal_those_of_the_peer(rows):
    vectors = some_vectors()
    ours = all_pairs(
        losses.nearest_rival, vectors, torch.arange(7), distance=cosine, rows=rows
    ).mean()
    theirs = regularizers.RegularFaceRegularizer()(vectors)

    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, vectors), torch.autograd.grad(theirs, vectors)
    )


def test_who_has_no_rival_does_not_count():
    distance = torch.tensor([[0.25, 0.5, 0.75], [0.1, 0.2, 0.3]], requires_grad=True)
    negative = torch.tensor([[False, True, True], [False, False, False]])
    with torch.autograd.set_detect_anomaly(True):
        terms = losses.nearest_rival(Pairs(distance, torch.zeros_like(negative), negative))
        terms.mean().backward()

    assert (terms.total.item(), terms.count.item()) == (0.5, 1)
    assert distance.grad.tolist() == [[0, -1, 0], [0, 0, 0]]
