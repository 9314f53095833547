"""What every loss must do as a module: its function, whatever way the pairs are held and named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from known.trials import (
    Largest,
    a_batch,
    a_module,
    assert_same,
    batches,
    every_distance,
    every_loss,
    few,
    value,
    with_gradient,
)
from siamlearn.functional.blocks import accumulate
from siamlearn.functional.pairs import Pairs
from siamlearn.nn.losses import PairLoss


def learned(module: PairLoss, embeddings: Tensor, *batch: Tensor, **how: object) -> tuple:
    """The loss, and its gradients by the embeddings and by whatever the module learns."""
    return with_gradient(module(embeddings, *batch, **how), embeddings, *module.parameters())


@every_loss
@few
@given(batch=batches(), rows=st.none() | st.integers(1, 10))
def test_the_module_is_the_function(loss, batch, rows):
    module = a_module(loss, rows=rows)

    assert_same((module(*batch),), (value(loss, *batch),))


@every_loss
@every_distance
@few
@given(batch=batches(), rows=st.none() | st.integers(1, 9))
def test_rows_change_neither_value_nor_gradient_of_the_module(loss, distance, batch, rows):
    module = a_module(loss, distance=distance, rows=rows)
    blocks = learned(module, *batch)
    module.rows = max(len(batch[1]), 1)

    assert_same(blocks, learned(module, *batch))


@every_loss
@few
@given(batch=batches(), rows=st.none() | st.integers(1, 9), seed=st.integers(0, 99))
def test_rows_change_nothing_for_what_a_miner_chooses_either(loss, batch, rows, seed):
    # A pair is kept or not by its own distance, so that the rows may be cut anywhere.
    def some(pairs: Pairs) -> Pairs:
        kept = (pairs.distance * (seed + 7.3)).frac() < 0.7
        return pairs.keep(positive=kept, negative=kept)

    module = a_module(loss, miner=some, rows=rows)
    blocks = learned(module, *batch)
    module.rows = max(len(batch[1]), 1)

    assert_same(blocks, learned(module, *batch))


@every_loss
@pytest.mark.parametrize("rows", [None, 5, 12])
def test_pictures_of_one_identity_each_may_be_labelled_as_of_several(loss, rows):
    embeddings, labels = a_batch()
    several = torch.nn.functional.one_hot(labels, 7).bool()
    module = a_module(loss, rows=rows)

    assert_same(learned(module, embeddings, several), learned(module, embeddings, labels))


@every_loss
@pytest.mark.parametrize("rows", [None, 5, 12])
def test_the_answers_themselves_may_be_given_instead_of_labels(loss, rows):
    embeddings, labels = a_batch()
    same = labels[:, None] == labels
    module = a_module(loss, rows=rows)

    assert_same(learned(module, embeddings, same=same), learned(module, embeddings, labels))


@every_loss
@pytest.mark.parametrize("rows", [None, 5, 12])
def test_the_batch_as_its_own_references_leaves_out_each_picture_itself(loss, rows):
    embeddings, labels = a_batch()
    same = labels[:, None] == labels
    module = a_module(loss, rows=rows)
    expected = learned(module, embeddings, labels)

    assert_same(learned(module, embeddings, labels, (embeddings, labels)), expected)
    told = learned(module, embeddings, None, (embeddings, labels), same=same)
    assert_same(told, expected)


@every_loss
def test_references_are_compared_with_and_learn_too(loss):
    embeddings, labels = a_batch(8)
    references, names = a_batch(12)
    queries_and_references = (embeddings, references)
    everyone = accumulate(
        loss.terms, embeddings, labels, references, names, distance=loss.distance
    ).mean()
    cost = a_module(loss, rows=3)(embeddings, labels, (references, names))

    gradients = torch.autograd.grad(cost, queries_and_references)
    assert_same(
        (cost, *gradients), (everyone, *torch.autograd.grad(everyone, queries_and_references))
    )
    assert all(gradient.norm() > 0 for gradient in gradients)


@every_loss
def test_nothing_is_as_large_as_all_pairs(loss):
    embeddings, _ = a_batch(128)
    module = a_module(loss, rows=4)
    with Largest() as largest:
        module(embeddings, torch.arange(128) // 2).backward()

    assert largest.numbers <= 16 * 128
