"""What every loss must do: each loss is listed once, each law once, and all meet.

A new loss is added to ``LOSSES``, with the paper's own loops and, where there is one, its peer in
pytorch-metric-learning; it then inherits every law below.
"""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from known import LOSSES
from known.loss import Loss
from siamlearn.functional.blocks import accumulate
from siamlearn.functional.distances import cosine, euclidean, squared_euclidean
from siamlearn.functional.pairings import all_pairs
from siamlearn.functional.pairs import Terms

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
every_distance = pytest.mark.parametrize("distance", [cosine, euclidean, squared_euclidean])
few = hypothesis_settings(max_examples=25)


@st.composite
def batches(draw, longest: int = 16) -> tuple[Tensor, Tensor]:
    """Embeddings and labels; identities may have one picture, or be all there is."""
    n = draw(st.integers(0, longest))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    labels = torch.randint(draw(st.integers(1, 6)), (n,), generator=generator)
    embeddings = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), labels


def a_batch(n: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    embeddings = torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    return embeddings.to(dtype).requires_grad_(), torch.arange(n) % 4


def value(loss: Loss, embeddings: Tensor, labels: Tensor, **how: object) -> Tensor:
    how = {"distance": loss.distance, "rows": len(labels), **how}
    return all_pairs(loss.terms, embeddings, labels, **how).mean()


def with_gradient(value: Tensor, embeddings: Tensor) -> tuple[Tensor, ...]:
    return value, *torch.autograd.grad(value, embeddings, materialize_grads=True)


def assert_same(one: tuple[Tensor, ...], other: tuple[Tensor, ...], within: float = 1e-10) -> None:
    torch.testing.assert_close(one, other, rtol=within, atol=within)


# --- The laws -------------------------------------------------------------------------------------


@every_loss
@every_distance
@few
@given(batch=batches(), rows=st.integers(1, 16))
def test_blocks_change_neither_value_nor_gradient(loss, distance, batch, rows):
    embeddings, labels = batch
    whole = value(loss, embeddings, labels, distance=distance)
    blocks = value(loss, embeddings, labels, distance=distance, rows=rows)

    assert_same(with_gradient(blocks, embeddings), with_gradient(whole, embeddings))


@every_loss
@few
@given(batch=batches(), cut=st.integers(0, 16))
def test_terms_of_parts_of_the_rows_add_to_those_of_the_whole(loss, batch, cut):
    embeddings, labels = batch
    own = torch.arange(len(labels))

    def terms(rows: slice) -> Terms:
        rest = embeddings, labels
        mine = embeddings[rows], labels[rows]
        return accumulate(loss.terms, *mine, *rest, distance=loss.distance, own=own[rows])

    whole, parts = terms(slice(None)), terms(slice(cut)) + terms(slice(cut, None))

    assert_same((parts.total, parts.count), (whole.total, whole.count))


@every_loss
@few
@given(batch=batches(), seed=st.integers(0, 99))
def test_order_of_the_batch_does_not_matter(loss, batch, seed):
    embeddings, labels = batch
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = value(loss, embeddings[order], labels[order])

    assert_same(
        with_gradient(shuffled, embeddings),
        with_gradient(value(loss, embeddings, labels), embeddings),
    )


@every_loss
@given(
    batch=batches(),
    names=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6, unique=True),
)
@few
def test_names_of_identities_do_not_matter(loss, batch, names):
    embeddings, labels = batch

    renamed = value(loss, embeddings, torch.tensor(names)[labels])

    assert_same((renamed,), (value(loss, embeddings, labels),), within=0)


@every_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_may_be_any_whole_numbers(loss, dtype):
    embeddings, labels = a_batch()

    assert_same(
        (value(loss, embeddings, labels.to(dtype)),), (value(loss, embeddings, labels),), within=0
    )


@every_loss
@every_distance
@few
@given(batch=batches(), seed=st.integers(0, 99))
def test_rotating_all_embeddings_changes_nothing(loss, distance, batch, seed):
    embeddings, labels = batch
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q

    turned = value(loss, embeddings @ turn, labels, distance=distance)

    assert_same((turned,), (value(loss, embeddings, labels, distance=distance),))


@every_loss
@pytest.mark.parametrize(("q", "r"), [(0, 0), (3, 0), (0, 3)])
@pytest.mark.parametrize("rows", [None, 2])
def test_an_empty_block_costs_nothing_with_finite_gradient(loss, q, r, rows):
    queries, references = torch.ones(q, 2, requires_grad=True), torch.ones(r, 2, requires_grad=True)
    names = torch.zeros(q, dtype=torch.int64), torch.zeros(r, dtype=torch.int64)
    cost = accumulate(
        loss.terms, queries, names[0], references, names[1], distance=loss.distance, rows=rows
    ).mean()
    cost.backward()

    assert cost == 0
    assert queries.grad.isfinite().all()
    assert references.grad is None or references.grad.isfinite().all()


@every_loss
@every_distance
@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        pytest.param([[1.0, 2.0]], [0], id="one picture"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [5, 5, 5], id="one identity"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [0, 1, 2], id="each its own"),
        pytest.param([[1.0, 2.0]] * 4, [0, 0, 1, 1], id="all in one place"),
        pytest.param([[0.0, 0.0]] * 4, [0, 0, 1, 1], id="all zero"),
        pytest.param([[1e-30, 0.0], [0.0, 1e-30]] * 2, [0, 0, 1, 1], id="nearly zero"),
        pytest.param([[1e9, 0.0], [0.0, 1e9]] * 2, [0, 0, 1, 1], id="huge"),
    ],
)
def test_corner_cases_have_finite_values_and_gradients(loss, distance, rows, embeddings, labels):
    embeddings = torch.tensor(embeddings, requires_grad=True)
    # Also on the way there: who looks for a NaN of their own must not be stopped at ours.
    with torch.autograd.set_detect_anomaly(True):
        cost = value(loss, embeddings, torch.tensor(labels), distance=distance, rows=rows)
        cost.backward()

    assert cost.isfinite()
    assert cost >= 0
    assert embeddings.grad.isfinite().all()


@every_loss
@pytest.mark.parametrize("rows", [None, 5])
def test_gradient_is_the_slope(loss, rows):
    embeddings, labels = a_batch(8)

    assert torch.autograd.gradcheck(lambda x: value(loss, x, labels, rows=rows), embeddings)


@every_loss
@every_distance
@few
@given(batch=batches(longest=8))
def test_equals_the_loops_of_the_paper(loss, distance, batch):
    embeddings, labels = batch
    assume(len(labels) > 1)
    by_hand = torch.as_tensor(loss.loops(distance(embeddings, embeddings), labels.tolist()))
    by_hand = by_hand + 0 * embeddings.sum()

    assert_same(
        with_gradient(value(loss, embeddings, labels, distance=distance), embeddings),
        with_gradient(by_hand, embeddings),
        within=1e-9,
    )


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.peer], ids=lambda loss: loss.name)
@few
@given(batch=batches())
def test_equals_pytorch_metric_learning(loss, batch):
    embeddings, labels = batch
    # Without positives or without negatives it returns 0, whatever the paper says.
    assume(len(labels) > len(labels.unique()) > 1)

    assert_same(
        with_gradient(value(loss, embeddings, labels), embeddings),
        with_gradient(loss.peer(embeddings, labels), embeddings),
        within=1e-7,
    )


@every_loss
@every_distance
@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, distance, rows, dtype):
    embeddings, labels = a_batch(dtype=dtype)
    wide = embeddings.detach().float().requires_grad_()
    module = loss.module(distance=distance, rows=rows)
    cost, gradient = with_gradient(module(embeddings, labels), embeddings)

    assert cost.dtype == torch.float32
    expected = with_gradient(module(wide, labels), wide)
    torch.testing.assert_close(cost, expected[0])
    torch.testing.assert_close(gradient, expected[1].to(dtype))


@every_loss
@every_distance
@pytest.mark.parametrize("rows", [None, 5])
def test_autocast_changes_nothing(loss, distance, rows):
    embeddings, labels = a_batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value(loss, embeddings, labels, distance=distance, rows=rows)

    outside = value(loss, embeddings, labels, distance=distance, rows=rows)
    torch.testing.assert_close(
        with_gradient(inside, embeddings), with_gradient(outside, embeddings)
    )


@every_loss
def test_layout_in_memory_does_not_matter(loss):
    embeddings, labels = a_batch()
    strewn = embeddings.detach().repeat_interleave(2, dim=1).T.contiguous().T[:, ::2]
    assert not strewn.is_contiguous()

    assert_same((value(loss, strewn, labels),), (value(loss, embeddings, labels),))


@every_loss
@pytest.mark.parametrize("rows", [None, 5])
def test_a_nan_embedding_is_not_hidden(loss, rows):
    embeddings, labels = a_batch()
    embeddings.data[7, 1] = torch.nan

    assert value(loss, embeddings, labels, rows=rows).isnan()


@every_loss
@few
@given(batch=batches(), rows=st.none() | st.integers(1, 16))
def test_the_module_is_the_function(loss, batch, rows):
    embeddings, labels = batch

    assert_same((loss.module(rows=rows)(embeddings, labels),), (value(loss, embeddings, labels),))


@every_loss
def test_references_are_compared_with_and_learn_too(loss):
    embeddings, labels = a_batch(8)
    references, names = a_batch(12)
    queries_and_references = (embeddings, references)
    everyone = accumulate(
        loss.terms, embeddings, labels, references, names, distance=loss.distance
    ).mean()
    cost = loss.module(rows=3)(embeddings, labels, (references, names))

    gradients = torch.autograd.grad(cost, queries_and_references)
    assert_same(
        (cost, *gradients), (everyone, *torch.autograd.grad(everyone, queries_and_references))
    )
    assert all(gradient.norm() > 0 for gradient in gradients)
