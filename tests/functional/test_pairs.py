from dataclasses import replace
from functools import partial

import pytest
import torch

from siamlearn.functional.blocks import accumulate
from siamlearn.functional.distances import (
    cosine,
    euclidean,
    signal_to_noise,
    squared_euclidean,
)
from siamlearn.functional.losses import contrastive, sup_con
from siamlearn.functional.pairings import (
    References,
    adjacent_pairs,
    adjacent_triplets,
    all_pairs,
)
from siamlearn.functional.pairs import Pairs, Terms, adjacent, between
from siamlearn.nn.losses import ContrastiveLoss, SupConLoss


def nearness(pairs: Pairs) -> Terms:
    """A fake loss of two parts: positives by their distance, negatives by its square."""
    pull = torch.where(pairs.positive, pairs.distance, 0).sum()
    push = torch.where(pairs.negative, pairs.distance.square(), 0).sum()
    return Terms(
        torch.stack([pull, push]), torch.stack([pairs.positive.sum(), pairs.negative.sum()])
    )


def a_batch(n: int = 11, d: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator).double().requires_grad_(), torch.arange(n) % 3


def test_between_leaves_out_the_query_itself_and_nothing_else():
    embeddings, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([4, 4, 9])
    pairs = between(embeddings, labels, embeddings, labels, distance=euclidean, own=torch.arange(3))

    assert pairs.distance.tolist() == [[0, 1, 5], [1, 0, 4], [5, 4, 0]]
    assert pairs.positive.int().tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert pairs.negative.int().tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_own_says_where_each_query_stands():
    embeddings, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([4, 4])
    memory = torch.cat([torch.tensor([[7.0]]), embeddings]), torch.tensor([4, 4, 4])
    pairs = between(embeddings, labels, *memory, distance=euclidean, own=torch.tensor([1, 2]))

    assert pairs.positive.int().tolist() == [[1, 0, 1], [1, 1, 0]]
    assert not pairs.negative.any()


def test_keep_only_ever_leaves_out():
    same = torch.tensor([[True, False, False]])
    pairs = Pairs(torch.zeros(1, 3), same, torch.tensor([[False, True, False]]))
    kept = pairs.keep(positive=~same, negative=torch.ones_like(same))

    assert not kept.positive.any()
    assert kept.negative.equal(pairs.negative)


def test_adjacent_puts_the_first_half_beside_the_second():
    embeddings = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0], [2.0]])
    pairs = adjacent(embeddings, torch.tensor([5, 6, 7, 5, 5, 7]), distance=euclidean)

    assert pairs.distance.tolist() == [[3], [9], [0]]
    assert pairs.positive.tolist() == [[True], [False], [True]]
    assert pairs.negative.equal(~pairs.positive)


@pytest.mark.parametrize("distance", [euclidean, cosine])
def test_adjacent_is_a_diagonal_of_between(distance):
    embeddings, labels = a_batch(12)
    halves = (*zip(embeddings.chunk(2), labels.chunk(2), strict=True),)
    whole = between(*halves[0], *halves[1], distance=distance)

    pairs = adjacent(embeddings, labels, distance=distance)

    torch.testing.assert_close(pairs.distance[:, 0], whole.distance.diagonal())
    assert pairs.positive[:, 0].equal(whole.positive.diagonal())


def test_three_parts_are_anchor_positive_and_negative():
    embeddings = torch.tensor([[0.0], [1.0], [2.0], [5.0], [9.0], [9.0]])
    pairs = adjacent(embeddings, torch.tensor([5, 6, 5, 6, 7, 7]), distance=euclidean, parts=3)

    assert pairs.distance.tolist() == [[2, 9], [4, 8]]
    assert pairs.positive.tolist() == [[True, False]] * 2


@pytest.mark.parametrize(("pairing", "parts"), [(adjacent_pairs, 2), (adjacent_triplets, 3)])
def test_adjacent_parts_must_be_equal(pairing, parts):
    with pytest.raises(ValueError, match=f"a batch of {parts} equal parts.*got 5 rows"):
        pairing(nearness, *a_batch(5), distance=euclidean)


@pytest.mark.parametrize("pairing", [adjacent_pairs, adjacent_triplets])
def test_an_empty_batch_has_no_adjacent_pairs(pairing):
    terms = pairing(nearness, *a_batch(0), distance=euclidean)

    assert terms.count.tolist() == [0, 0]
    assert terms.mean() == 0


@pytest.mark.parametrize("pairing", [adjacent_pairs, adjacent_triplets])
def test_adjacent_pairs_have_no_references(pairing):
    with pytest.raises(ValueError, match="got references; use pairing=all_pairs"):
        pairing(nearness, *a_batch(6), distance=euclidean, references=References(*a_batch(6)))


def test_mean_of_nothing_is_zero_and_parts_have_their_own_mean():
    terms = Terms(torch.tensor([6.0, 0.0]), torch.tensor([3, 0]))

    assert terms.mean() == 2
    assert (terms + terms).mean() == 2


@pytest.mark.parametrize("rows", [1, 2, 5, 10, 11, 99])
@pytest.mark.parametrize("distance", [euclidean, cosine])
def test_blocks_equal_the_whole_also_where_a_loss_has_several_parts(rows, distance):
    embeddings, labels = a_batch()
    references, names = a_batch(7)
    ends = embeddings, references

    def value_and_gradients(rows: int | None) -> tuple[torch.Tensor, ...]:
        how = {"distance": distance, "rows": rows}
        terms = accumulate(nearness, embeddings, labels, references, names, **how)
        value = (terms.total * torch.tensor([1.0, -3.0])).sum() + terms.mean()
        return terms.total, terms.count, *torch.autograd.grad(value, ends)

    torch.testing.assert_close(
        value_and_gradients(rows), value_and_gradients(None), rtol=1e-10, atol=1e-10
    )


def test_blocks_hold_no_more_rows_than_asked():
    seen = []

    def spy(pairs: Pairs) -> Terms:
        seen.append(tuple(pairs.distance.shape))
        return nearness(pairs)

    all_pairs(spy, *a_batch(), distance=euclidean, rows=4).mean().backward()

    assert seen == [(4, 11), (4, 11), (3, 11)]  # each once: nothing is computed again


def test_blocks_pass_gradients_to_whatever_else_the_loss_learns():
    embeddings, labels = a_batch()
    log_scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def gradients(rows: int | None) -> tuple[torch.Tensor, ...]:
        scale = log_scale.exp()  # made once, outside of the blocks

        def scaled(pairs: Pairs) -> Terms:
            return nearness(Pairs(pairs.distance * scale, pairs.positive, pairs.negative))

        value = all_pairs(scaled, embeddings, labels, distance=euclidean, rows=rows).mean()
        return torch.autograd.grad(value, (embeddings, log_scale))

    torch.testing.assert_close(gradients(4), gradients(None))


def test_blocks_find_also_what_only_some_of_them_learn():
    embeddings, labels = a_batch()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def late(pairs: Pairs) -> Terms:
        factor = scale if pairs.positive[0, -1] else 1.0  # true in the middle block only
        return nearness(Pairs(pairs.distance * factor, pairs.positive, pairs.negative))

    def slope(rows: int | None) -> torch.Tensor:
        value = all_pairs(late, embeddings, labels, distance=euclidean, rows=rows).mean()
        return torch.autograd.grad(value, scale)[0]

    starts = [bool(labels[start] == labels[-1]) for start in (0, 4, 8)]
    assert starts == [False, True, False]
    assert slope(4) != 0


def test_blocks_need_no_gradient_where_none_is_asked():
    embeddings, labels = a_batch()
    frozen = embeddings.detach()
    whole = all_pairs(nearness, frozen, labels, distance=euclidean)
    blocks = all_pairs(nearness, frozen, labels, distance=euclidean, rows=3)
    with torch.no_grad():
        ungraded = all_pairs(nearness, embeddings, labels, distance=euclidean, rows=3)

    for terms in (blocks, ungraded):
        assert not terms.total.requires_grad
        torch.testing.assert_close((terms.total, terms.count), (whole.total, whole.count))


def test_blocks_leave_the_gradients_of_others_alone():
    embeddings, labels = a_batch()
    all_pairs(nearness, embeddings, labels, distance=euclidean, rows=3)

    assert embeddings.grad is None


def test_blocks_refuse_a_second_derivative_instead_of_giving_a_wrong_one():
    embeddings, labels = a_batch()
    value = all_pairs(nearness, embeddings, labels, distance=euclidean, rows=3).mean()

    with pytest.raises(RuntimeError, match=r"no second derivative.*rows=len"):
        torch.autograd.grad(value, embeddings, create_graph=True)


def test_blocks_forget_their_pairs():
    class Kept:
        def __init__(self) -> None:
            self.most, self.sizes = 0, []

        def pack(self, tensor: torch.Tensor) -> torch.Tensor:
            self.sizes.append(tensor.numel())
            return tensor

    embeddings, labels = a_batch(200)
    kept = Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        terms = all_pairs(nearness, embeddings, labels, distance=euclidean, rows=10)

    assert max(kept.sizes) <= 10 * 200
    assert {s.numel() for s in terms.total.grad_fn.saved_tensors} == {2 * embeddings.numel()}


def test_a_margin_is_not_given_the_slope_of_what_it_has_moved():
    def farther(pairs: Pairs) -> Pairs:
        return replace(pairs, distance=pairs.distance.square())

    embeddings = torch.randn(120, 4, generator=torch.Generator().manual_seed(1)).double()
    embeddings.requires_grad_()
    labels = torch.arange(120) // 3

    def gradient(rows: int | None) -> torch.Tensor:
        loss = ContrastiveLoss(4.0, squared=False, apart=True, miner=farther, rows=rows)
        return torch.autograd.grad(loss(embeddings, labels), embeddings)[0]

    torch.testing.assert_close(gradient(None), gradient(120))
    torch.testing.assert_close(gradient(7), gradient(120))


@pytest.mark.parametrize("n", [40, 160])
def test_partners_hold_every_positive_once_and_else_no_positive(n):
    labels = torch.randint(n // 3, (n,), generator=torch.Generator().manual_seed(n))
    found = []

    def spy(pairs: Pairs) -> Terms:
        found.append(pairs)
        return nearness(pairs)

    embeddings = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    for symmetric in (False, True):
        all_pairs(spy, embeddings, labels, distance=euclidean, rows=7, symmetric=symmetric)

    known = [pairs for pairs in found if pairs.partners is not None]
    assert len(known) > len(found) / 2
    for pairs in known:
        assert pairs.few(pairs.positive).sum(1).equal(pairs.positive.sum(1))
        marks = torch.zeros(pairs.positive.shape)
        pairs.add_few(marks, pairs.few(pairs.positive).float())
        assert marks.equal(pairs.positive.float())


def test_half_of_the_pairs_equals_all_where_the_last_block_is_as_narrow_as_the_positives():
    # Sixteen pictures in blocks of twelve rows: the last has four columns, and four positives a
    # row are looked for, of an identity that stands at both ends of the batch.
    generator = torch.Generator().manual_seed(0)
    embeddings = (0.3 * torch.randn(16, 3, generator=generator)).double().requires_grad_()
    labels = torch.tensor([7, 7, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 7, 7, 6, 6])

    def gradient(rows: int) -> torch.Tensor:
        loss = ContrastiveLoss(squared=False, apart=True, rows=rows)
        return torch.autograd.grad(loss(embeddings, labels), embeddings)[0]

    torch.testing.assert_close(gradient(12), gradient(16))


@pytest.mark.parametrize("rows", [None, 5, 40])
def test_a_distance_that_learns_gets_its_gradient(rows):
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, queries: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
            return torch.cdist(queries * self.scale, references * self.scale)

    embeddings, _ = a_batch(40)
    found = []
    for height in (rows, 40):
        distance = Scaled()
        loss = ContrastiveLoss(squared=False, apart=True, distance=distance, rows=height)
        loss(embeddings, torch.arange(40) // 2).backward()
        found.append(distance.scale.grad)

    assert found[1].norm() > 0
    torch.testing.assert_close(*found)


def test_embeddings_all_but_in_one_direction_keep_their_gradient_in_one_block():
    # Half of the cosines round to just above 1, where clamping the distance would lose them.
    generator = torch.Generator().manual_seed(0)
    wide = 1 + 2e-4 * torch.randn(64, 16, generator=generator, dtype=torch.float64)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        embeddings = wide.to(dtype).requires_grad_()
        cost = SupConLoss(0.1, rows=64)(embeddings, torch.arange(64) // 4)
        gradients.append(torch.autograd.grad(cost, embeddings)[0].double())

    assert (gradients[0] - gradients[1]).norm() < 0.01 * gradients[1].norm()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 8, 23])
def test_what_is_known_of_a_block_is_what_its_masks_say(rows, symmetric):
    embeddings, labels = a_batch(24)[0].detach(), torch.arange(24) // 3
    known = []

    def look(pairs: Pairs) -> Terms:
        same = pairs.label[:, None] == labels[24 - pairs.distance.shape[1] :]
        assert not (pairs.positive & ~same).any()
        assert not (pairs.negative & same).any()
        known.append(pairs.rest is not None and pairs.partners is not None)
        for mask in (pairs.negative, pairs.negative | pairs.positive):
            found = pairs.select(pairs.distance, mask, -7.0)
            assert found.equal(torch.where(mask, pairs.distance, -7.0))
        far = pairs.negative & (pairs.distance > 1)
        for kept in (
            pairs.keep(positive=pairs.positive, negative=pairs.distance > 1),
            replace(pairs, negative=far),  # as a miner may be written
        ):
            found = kept.select(pairs.distance, kept.negative, -7.0)
            assert found.equal(torch.where(far, pairs.distance, -7.0))
        return Terms(pairs.distance.sum(), pairs.positive.sum() + pairs.negative.sum())

    sides = embeddings, labels, embeddings, labels
    own = torch.arange(24)
    found = accumulate(look, *sides, distance=euclidean, own=own, rows=rows, symmetric=symmetric)
    assert found.count == 24 * 23
    assert any(known)


@pytest.mark.parametrize("distance", [cosine, euclidean, squared_euclidean, signal_to_noise])
@pytest.mark.parametrize("loss", [nearness, contrastive, partial(contrastive, apart=True), sup_con])
@pytest.mark.parametrize("beside", ["itself", "others"])
def test_every_distance_goes_back_block_by_block_as_autograd_does(distance, loss, beside):
    embeddings = torch.randn(40, 5, generator=torch.Generator().manual_seed(1)).double()
    embeddings[3], embeddings[9] = 2.0, embeddings[8]  # without variance; twice the same
    embeddings.requires_grad_()
    labels = torch.arange(40) // 4
    others = torch.randn(30, 5, generator=torch.Generator().manual_seed(2)).double()
    others.requires_grad_()
    own = torch.arange(40) if beside == "itself" else None
    sides = (embeddings, labels) if beside == "itself" else (others, labels[:30])

    ends = [embeddings] if beside == "itself" else [embeddings, others]

    def gradients(rows):
        terms = accumulate(loss, embeddings, labels, *sides, distance=distance, own=own, rows=rows)
        return torch.autograd.grad(terms.mean(), ends)

    for rows in (None, 7):
        for found, known in zip(gradients(rows), gradients(40), strict=True):
            # What has no variance is 1e12 away, of which doubles keep 1e-4.
            torch.testing.assert_close(
                found, known, rtol=1e-7, atol=1e-13 * float(known.abs().max())
            )
