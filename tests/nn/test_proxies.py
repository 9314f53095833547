"""The shell around losses against proxies: roles, settings, samples."""

import pytest
import torch

from siamlearn.functional import losses
from siamlearn.functional.blocks import accumulate
from siamlearn.functional.centres import centre_merging
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairings import References, itself, references_first
from siamlearn.nn.losses import (
    InfoNCELoss,
    ProxyAnchorLoss,
    ProxyNCALoss,
    SoftTripleLoss,
)
from siamlearn.nn.references import Memory, Proxies

LOSSES = [ProxyNCALoss, ProxyAnchorLoss, SoftTripleLoss]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def a_batch(n=8, classes=6):
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(n, 4, generator=generator)
    return embeddings.requires_grad_(), torch.randint(classes, (n,), generator=generator)


@every_loss
def test_a_loss_against_proxies_wants_them(loss):
    with pytest.raises(ValueError, match=r"pass references=Proxies\(classes, dimensions\)"):
        loss()


@pytest.mark.parametrize("rows", [None, 1, 4, 50])
def test_proxies_are_the_rows_of_proxy_anchor_whatever_is_held_at_once(rows):
    proxies, (embeddings, labels) = Proxies(6, 4), a_batch()
    ours = ProxyAnchorLoss(references=proxies, rows=rows)(embeddings, labels)
    queries = proxies.vectors, torch.arange(6)
    expected = accumulate(
        losses.proxy_anchor, *queries, embeddings, labels, distance=cosine, rows=6
    ).mean()

    ends = embeddings, proxies.vectors
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours, ends), torch.autograd.grad(expected, ends))
    # Six proxies push, as many as have pictures pull: not as many as there are pictures.
    counts = []

    def counted(pairs):
        terms = losses.proxy_anchor(pairs)
        counts.append(terms.count)
        return terms

    references_first(
        counted, embeddings, labels, distance=cosine, references=proxies(embeddings, labels)
    )
    assert sum(counts).tolist() == [len(labels.unique()), 6]


def test_references_first_needs_references():
    with pytest.raises(ValueError, match="references_first needs references with labels"):
        InfoNCELoss(pairing=references_first)(*a_batch())


@every_loss
@pytest.mark.parametrize("rows", [None, 3])
def test_a_sample_of_the_classes_is_enough(loss, rows):
    more = {"merging": 0.0} if loss is SoftTripleLoss else {}
    cost = loss(
        references=Proxies(500, 4, sample=0.05, centres=2 if more else 1, sparse=True),
        rows=rows,
        **more,
    )
    batch = a_batch(classes=500)
    cost(*batch).backward()

    touched = cost.references.vectors.grad.coalesce().indices()[0] // (2 if more else 1)
    assert len(touched.unique()) == 25
    assert torch.isin(batch[1], touched).all()
    assert batch[0].grad.norm() > 0


@pytest.mark.parametrize("rows", [None, 1, 3, 50])
@pytest.mark.parametrize("merging", [0.0, 0.7])
def test_merging_is_added_once_however_many_blocks_there_are(rows, merging):
    proxies, (embeddings, labels) = Proxies(6, 4, centres=3), a_batch()
    ours = SoftTripleLoss(merging=merging, references=proxies, rows=rows)(embeddings, labels)
    references = References(proxies.vectors, torch.arange(6).repeat_interleave(3))
    expected = accumulate(
        lambda pairs: losses.soft_triple(pairs, centres=3),
        embeddings,
        labels,
        *references[:2],
        distance=cosine,
        rows=8,
    ).mean() + merging * centre_merging(proxies.vectors, centres=3)

    ends = embeddings, proxies.vectors
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours, ends), torch.autograd.grad(expected, ends))


def test_centres_come_from_the_proxies():
    assert SoftTripleLoss(references=Proxies(6, 4, centres=3)).centres == 3
    assert SoftTripleLoss(references=itself).centres == 1
    # One centre has nothing to merge with.
    assert SoftTripleLoss(references=Proxies(6, 4)).merging == 0
    with pytest.raises(ValueError, match="not of a sample: pass merging=0"):
        SoftTripleLoss(references=Proxies(6, 4, centres=3, sample=0.5))


@pytest.mark.parametrize(
    ("loss", "how", "says"),
    [
        (ProxyNCALoss, {"temperature": 0}, "temperature must be above zero"),
        (ProxyAnchorLoss, {"margin": 0}, "margin must be above zero"),
        (ProxyAnchorLoss, {"scale": -1}, "scale must be above zero"),
        (SoftTripleLoss, {"scale": 0}, "scale must be above zero"),
        (SoftTripleLoss, {"softness": 0}, "softness must be above zero"),
        (SoftTripleLoss, {"margin": -1}, "margin must be at least zero and finite, got -1"),
        (SoftTripleLoss, {"merging": -1}, "merging must be at least zero and finite, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(loss, how, says):
    with pytest.raises(ValueError, match=says):
        loss(references=Proxies(6, 4), **how)


def test_repr_names_the_choices():
    assert repr(ProxyAnchorLoss(references=Proxies(6, 4))) == (
        "ProxyAnchorLoss(\n  distance=cosine, pairing=references_first, margin=0.1, scale=32.0\n"
        "  (references): Proxies(classes=6, dimensions=4)\n)"
    )


@every_loss
def test_proxies_learn_to_tell_identities_apart(loss):
    # Pictures of six people, each along an axis: their proxies, drawn by chance, go there.
    pictures, labels = torch.eye(6).repeat_interleave(4, dim=0), torch.arange(24) // 4
    proxies = Proxies(6, 6, centres=2 if loss is SoftTripleLoss else 1, seed=5)
    assert not torch.equal(
        cosine(pictures, proxies.vectors).argmin(dim=1) // proxies.centres, labels
    )
    cost = loss(references=proxies)
    optimizer = torch.optim.Adam(cost.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        cost(pictures, labels).backward()
        optimizer.step()

    nearest = cosine(pictures, proxies.vectors).argmin(dim=1) // proxies.centres
    assert torch.equal(nearest, labels)


def test_a_memory_serves_a_loss_with_a_gradient_for_the_batch():
    loss = InfoNCELoss(references=Memory(20))
    loss(*a_batch())
    embeddings, labels = a_batch()
    loss(embeddings, labels).backward()

    assert embeddings.grad.norm() > 0
