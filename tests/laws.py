"""What every loss must do: each loss is listed once, each law once, and all meet.

A new loss is added to ``known``, with the paper's own loops and, where there is one, its peer in
pytorch-metric-learning; it then inherits the laws below, and those of corners, modules,
compilation and ranks in the files beside this one. A law that cannot hold for it is named there,
with the reason.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from known import LOSSES
from known.trials import (
    a_batch,
    assert_same,
    batches,
    every_distance,
    every_loss,
    few,
    value,
    with_gradient,
)
from siamlearn.functional.blocks import accumulate
from siamlearn.functional.pairs import Terms, between


@every_loss
@every_distance
@few
@given(batch=batches(), rows=st.integers(1, 10))
def test_blocks_change_neither_value_nor_gradient(loss, distance, batch, rows):
    embeddings, labels = batch
    whole = value(loss, embeddings, labels, distance=distance)
    blocks = value(loss, embeddings, labels, distance=distance, rows=rows)

    assert_same(with_gradient(blocks, embeddings), with_gradient(whole, embeddings))


@every_loss
@few
@given(batch=batches(), cut=st.integers(0, 10))
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
@every_distance
@few
@given(batch=batches(), seed=st.integers(0, 99), told=st.booleans())
def test_the_slope_is_the_derivative_also_of_what_a_miner_leaves(loss, distance, batch, seed, told):
    n = len(batch[1])
    pairs = between(*batch, *batch, distance=distance, own=torch.arange(n))
    chance = torch.rand(2, n, n, generator=torch.Generator().manual_seed(seed))
    kept = pairs.keep(positive=chance[0] < 0.7, negative=chance[1] < 0.7)
    here = kept.distance.detach().requires_grad_()
    most = int(pairs.positive.sum(dim=1).max()) if n else 0
    partners = pairs.positive.int().argsort(dim=1, descending=True)[:, :most] if told else None
    known = {"distance": here, "length": kept.length.detach(), "partners": partners}

    terms = loss.terms(replace(kept, **known))

    # 0 · here: also where nothing was counted, and the total is a plain zero.
    parts = [part + 0 * here.sum() for part in terms.total.flatten()]
    found = [torch.autograd.grad(part, here, retain_graph=True)[0] for part in parts]
    assert all(slope.isfinite().all() for slope in found)
    slopes = terms.slopes
    if terms.slope is not None:
        assert terms.slope.shape == terms.total.shape + here.shape
        slopes = terms.slope.reshape(terms.total.numel(), n, n).unbind()
    for slope, derivative in zip(slopes, found, strict=True) if slopes else ():
        assert not slope.requires_grad
        assert not n or slope.untyped_storage().data_ptr() != here.untyped_storage().data_ptr()
        few_alone = slope.shape != here.shape
        whole = torch.zeros_like(here).scatter_add(1, partners, slope) if few_alone else slope
        assert_same((whole,), (derivative,))


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
@few
@given(
    batch=batches(),
    names=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8, unique=True),
)
def test_names_of_identities_do_not_matter(loss, batch, names):
    embeddings, labels = batch

    renamed = value(loss, embeddings, torch.tensor(names)[labels])

    assert_same((renamed,), (value(loss, embeddings, labels),), within=0)


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
@pytest.mark.parametrize("rows", [None, 5, 8])
def test_gradient_is_that_of_small_steps(loss, rows):
    embeddings, labels = a_batch(8)

    assert torch.autograd.gradcheck(lambda x: value(loss, x, labels, rows=rows), embeddings)


@every_loss
@every_distance
@few
@given(batch=batches(longest=7))
def test_equals_the_loops_of_the_paper(loss, distance, batch):
    embeddings, labels = batch
    assume(len(labels) > 1)
    # Not so far apart that the exponentials of the loops overflow.
    embeddings = embeddings.detach().div(2).requires_grad_()
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


def test_whoever_is_exempt_from_a_law_names_it_and_says_why():
    files = Path(__file__).parent.glob("laws*.py")
    laws = {law for file in files for law in re.findall(r"def (test_\w+)\(loss", file.read_text())}
    assert len(laws) > 20
    for loss in LOSSES:
        assert set(loss.exempt) <= laws, loss.name
        assert all(len(reason) > 10 for reason in loss.exempt.values()), loss.name
