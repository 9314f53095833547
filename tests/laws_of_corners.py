"""What every loss must do where there is little, nothing, too much, or half the digits."""

from dataclasses import replace

import pytest
import torch

from known.trials import (
    a_batch,
    a_module,
    assert_same,
    every_distance,
    every_loss,
    with_gradient,
)
from siamlearn.functional.blocks import accumulate
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairs import between

every_height = pytest.mark.parametrize("rows", [None, 2, 16])


@every_loss
@every_height
@pytest.mark.parametrize(("q", "r"), [(0, 0), (3, 0), (0, 3)])
def test_an_empty_block_costs_nothing_with_finite_gradient(loss, q, r, rows):
    queries, references = torch.ones(q, 2, requires_grad=True), torch.ones(r, 2, requires_grad=True)
    names = torch.zeros(q, dtype=torch.int64), torch.zeros(r, dtype=torch.int64)
    cost = accumulate(
        loss.terms, queries, names[0], references, names[1], distance=loss.distance, rows=rows
    ).mean()
    _, *gradients = with_gradient(cost, queries, references)

    assert cost == 0
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_loss
@every_height
def test_a_batch_of_none_and_of_one_go_through_the_module(loss, rows):
    module = a_module(loss, torch.float32, rows=rows)
    for n in (0, 1):
        embeddings = torch.ones(n, 3, requires_grad=True)
        cost, gradient = with_gradient(module(embeddings, torch.zeros(n).long()), embeddings)

        assert cost.isfinite()
        assert gradient.isfinite().all()


@every_loss
@pytest.mark.parametrize("rows", [None, 5])
def test_a_batch_on_the_processor_stays_there_whatever_the_usual_device(loss, rows):
    embeddings, labels = a_batch(24)[0], torch.arange(24) // 2 % 7
    module = a_module(loss, rows=rows)
    here = module(embeddings, labels)
    with torch.device("meta"):
        there = module(embeddings, labels)

    assert_same((there,), (here,))


@every_loss
@every_distance
@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        pytest.param([[1.0, 2.0]], [0], id="one picture"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [5, 5, 5], id="one identity"),
        pytest.param([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]], [0, 1, 2], id="each its own"),
        pytest.param([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]], [0, 0, 1], id="a duplicate"),
        pytest.param([[1.0, 2.0]] * 4, [0, 0, 1, 1], id="all in one place"),
        pytest.param([[1.0, 2.0], [-1.0, -2.0]] * 2, [0, 0, 1, 1], id="all opposite"),
        pytest.param([[1.0, 2.0], [0.0, 0.0]] * 2, [0, 0, 1, 1], id="some zero"),
        pytest.param([[0.0, 0.0]] * 4, [0, 0, 1, 1], id="all zero"),
        pytest.param([[1e-30, 0.0], [0.0, 1e-30]] * 2, [0, 0, 1, 1], id="nearly zero"),
        pytest.param([[1e9, 0.0], [0.0, 1e9]] * 2, [0, 0, 1, 1], id="huge"),
    ],
)
def test_corner_cases_have_finite_values_and_gradients(loss, distance, embeddings, labels):
    embeddings, labels = torch.tensor(embeddings, requires_grad=True), torch.tensor(labels)
    for rows in (2, 16):  # block by block, and all at once
        module = a_module(loss, torch.float32, distance=distance, rows=rows)
        # Also on the way there: who looks for a NaN of their own must not be stopped at ours.
        with torch.autograd.set_detect_anomaly(True):
            cost, gradient = with_gradient(module(embeddings, labels), embeddings)

        assert cost.isfinite(), rows
        assert cost >= 0 or loss.below_zero, rows
        assert gradient.isfinite().all(), rows


@every_loss
@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e6])
def test_extreme_temperatures_have_finite_values_and_slopes(loss, scale):
    # To divide the distances is to multiply the temperature.
    batch = a_batch(8, torch.float32)
    pairs = between(*batch, *batch, distance=loss.distance, own=torch.arange(8))
    scaled = (pairs.distance.detach() * scale).requires_grad_()

    with torch.autograd.set_detect_anomaly(True):
        terms = loss.terms(replace(pairs, distance=scaled))
        cost, slope = with_gradient(terms.mean(), scaled)

    assert cost.isfinite()
    assert slope.isfinite().all()
    assert terms.slope is None or terms.slope.isfinite().all()


@every_loss
@every_height
def test_one_positive_and_one_negative_nearer_than_it_cost_something(loss, rows):
    # At 0, 90 and 20 degrees: the positive is far, the negative near.
    angle = torch.tensor([0.0, 90.0, 20.0]).deg2rad()
    embeddings = torch.stack([angle.cos(), angle.sin()], dim=1).requires_grad_()
    module = a_module(loss, torch.float32, rows=rows)
    cost, gradient = with_gradient(module(embeddings, torch.tensor([0, 0, 1])), embeddings)

    assert cost != 0
    assert gradient.norm() > 1e-6


@every_loss
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_may_be_any_whole_numbers(loss, dtype):
    embeddings, labels = a_batch()
    module = a_module(loss)

    assert_same((module(embeddings, labels.to(dtype)),), (module(embeddings, labels),), within=0)


@every_loss
@pytest.mark.parametrize("first", [2**24, 2**53, -(2**63), 2**63 - 4])
def test_labels_may_be_of_any_size(loss, first):
    # From 2**24 on, a float32 cannot tell a whole number from the next, from 2**53 on no double.
    embeddings, labels = a_batch()
    module = a_module(loss, rows=5)

    assert_same((module(embeddings, labels + first),), (module(embeddings, labels),), within=0)


@every_loss
@every_distance
@pytest.mark.parametrize("rows", [None, 12])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, distance, rows, dtype):
    embeddings, labels = a_batch(dtype=dtype)
    wide = embeddings.detach().float().requires_grad_()
    module = a_module(loss, torch.float32, distance=distance, rows=rows)
    cost, gradient = with_gradient(module(embeddings, labels), embeddings)

    assert cost.dtype == torch.float32
    expected = with_gradient(module(wide, labels), wide)
    torch.testing.assert_close(cost, expected[0])
    torch.testing.assert_close(gradient, expected[1].to(dtype))


@every_loss
@every_distance
@pytest.mark.parametrize("rows", [None, 12])
def test_autocast_changes_nothing(loss, distance, rows):
    embeddings, labels = a_batch(dtype=torch.float32)
    module = a_module(loss, torch.float32, distance=distance, rows=rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = module(embeddings, labels)

        backward_too = with_gradient(module(embeddings, labels), embeddings)

    expected = with_gradient(module(embeddings, labels), embeddings)
    torch.testing.assert_close(with_gradient(inside, embeddings), expected)
    torch.testing.assert_close(backward_too, expected)


@every_loss
@pytest.mark.parametrize("rows", [None, 12])
@pytest.mark.parametrize("scale", [2.0**-83, 2.0**83], ids=["1e-25", "1e25"])
def test_by_cosine_embeddings_may_have_any_length(loss, rows, scale):
    embeddings, labels = a_batch(dtype=torch.float32)
    module = a_module(loss, torch.float32, distance=cosine, rows=rows)
    cost, gradient = with_gradient(module(embeddings * scale, labels), embeddings)

    torch.testing.assert_close(
        (cost, gradient), with_gradient(module(embeddings, labels), embeddings)
    )
    assert gradient.norm() > 0


@every_loss
@pytest.mark.parametrize("rows", [None, 12])
def test_layout_in_memory_does_not_matter(loss, rows):
    embeddings, labels = a_batch()
    strewn = embeddings.detach().repeat_interleave(2, dim=1).T.contiguous().T[:, ::2]
    strewn_labels = labels.repeat_interleave(2)[::2]
    assert not strewn.is_contiguous()
    assert not strewn_labels.is_contiguous()

    module = a_module(loss, rows=rows)
    assert_same((module(strewn, strewn_labels),), (module(embeddings, labels),))


@every_loss
@pytest.mark.parametrize("rows", [None, 5, 12])
def test_a_nan_embedding_is_not_hidden(loss, rows):
    embeddings, labels = a_batch()
    embeddings.data[7, 1] = torch.nan

    assert a_module(loss, rows=rows)(embeddings, labels).isnan()
