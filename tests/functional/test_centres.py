"""Classes of several centres: which counts, and how far apart they are."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from siamlearn.functional.centres import centre_merging, nearest_centre, soft_centres
from siamlearn.functional.distances import cosine
from siamlearn.functional.pairs import Pairs
from siamlearn.nn.losses import InfoNCELoss
from siamlearn.nn.references import Proxies


def two_classes(distances: list[list[float]], *, left_out: int = 0) -> Pairs:
    """One picture beside two classes of as many centres, of which the first is its own."""
    distance = torch.tensor([[*distances[0], *distances[1]]], dtype=torch.float64)
    column = torch.arange(distance.shape[1])[None]
    same = column < len(distances[0])
    return Pairs(distance.requires_grad_(), same & (column >= left_out), ~same)


def test_a_class_is_as_far_as_its_nearest_centre_which_alone_is_moved():
    pairs = two_classes([[0.5, 0.25, 0.75], [1.0, 2.0, 1.5]])
    near = nearest_centre(pairs, centres=3)
    near.distance.sum().backward()

    assert near.distance.tolist() == [[0.25, 1.0]]
    assert (near.positive.tolist(), near.negative.tolist()) == ([[True, False]], [[False, True]])
    assert pairs.distance.grad.tolist() == [[0, 1, 0, 1, 0, 0]]


def test_soft_centres_by_hand():
    # At temperature 1 / log 3 a centre that is one nearer weighs three times as much.
    pairs = two_classes([[0.0, 1.0], [2.0, 2.0]])
    soft = soft_centres(pairs, centres=2, temperature=1 / torch.tensor(3.0).log().item())

    assert soft.distance[0].tolist() == pytest.approx([0.25, 2.0])


def test_soft_centres_lie_between_the_nearest_and_the_mean():
    pairs = two_classes([[0.5, 0.25, 0.75], [1.0, 2.0, 1.5]])

    hard = soft_centres(pairs, centres=3, temperature=1e-3)
    torch.testing.assert_close(hard.distance, nearest_centre(pairs, centres=3).distance)
    mean = soft_centres(pairs, centres=3, temperature=1e6)
    assert mean.distance[0].tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("join", [nearest_centre, soft_centres])
def test_one_centre_changes_nothing_and_others_must_be_whole_classes(join):
    pairs = two_classes([[0.5, 0.25, 0.75], [1.0, 2.0, 1.5]])

    assert join(pairs, centres=1) is pairs
    with pytest.raises(ValueError, match="classes of 4 centres each, side by side, got 6"):
        join(pairs, centres=4)


@pytest.mark.parametrize("join", [nearest_centre, soft_centres])
def test_a_class_of_which_a_centre_is_left_out_is_left_out(join):
    left = join(two_classes([[0.5, 0.25], [1.0, 2.0]], left_out=1), centres=2)

    assert left.positive.tolist() == [[False, False]]
    assert left.negative.tolist() == [[False, True]]


@pytest.mark.parametrize("join", [nearest_centre, soft_centres])
@pytest.mark.parametrize(("q", "r"), [(0, 0), (0, 6), (3, 0)])
def test_no_pictures_or_no_classes_are_none_afterwards(join, q, r):
    no = torch.zeros(q, r, dtype=torch.bool)

    assert join(Pairs(torch.zeros(q, r), no, no), centres=3).distance.shape == (q, r // 3)


@pytest.mark.parametrize("rows", [None, 2, 50])
def test_any_loss_may_look_at_the_nearest_centres_by_a_miner(rows):
    proxies = Proxies(3, 4, centres=2)
    embeddings = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(8) % 3
    loss = InfoNCELoss(
        0.5, references=proxies, miner=partial(nearest_centre, centres=2), rows=rows
    )(embeddings, labels)
    nearest = (1 - cosine(embeddings, proxies.vectors)).reshape(8, 3, 2).amax(dim=2)
    expected = F.cross_entropy(nearest / 0.5, labels)

    ends = embeddings, proxies.vectors
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, ends), torch.autograd.grad(expected, ends))


def test_merging_by_hand():
    # Right angle in the first class, none in the second: half the mean of root two and nothing.
    vectors = torch.tensor([[3.0, 0.0], [0.0, 0.5], [1.0, 1.0], [2.0, 2.0]])

    assert centre_merging(vectors, centres=2).item() == pytest.approx(2**0.5 / 4)


def test_centres_that_have_merged_stay_without_a_nan():
    vectors = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        centre_merging(vectors, centres=2).backward()

    assert vectors.grad.eq(0).all()
