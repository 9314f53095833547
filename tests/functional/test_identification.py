import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamlearn.functional.identification import cmc, ranks


@st.composite
def blocks(draw):
    """Distances on a coarse grid, so that there are ties; who is who; what may be compared."""
    q, r = draw(st.integers(1, 6)), draw(st.integers(0, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    distance = torch.randint(5, (q, r), generator=generator) / 4
    same = torch.rand(q, r, generator=generator) < 0.4
    valid = torch.rand(q, r, generator=generator) < draw(st.sampled_from([0.0, 0.7, 1.0]))
    return distance, same, valid


def rank_by_loop(distance: list[float], same: list[bool], valid: list[bool]) -> int:
    # A wrong one at the same distance comes first.
    columns = [(d, s) for d, s, v in zip(distance, same, valid, strict=True) if v]
    order = [s for _, s in sorted(columns)]
    return order.index(True) + 1 if True in order else 0


@given(block=blocks())
def test_rank_is_where_the_first_right_one_stands(block):
    rows = zip(*(tensor.tolist() for tensor in block), strict=True)

    assert ranks(*block).tolist() == [rank_by_loop(*row) for row in rows]


@given(block=blocks())
def test_everything_may_be_compared_if_nothing_is_said(block):
    distance, same, _ = block

    assert ranks(distance, same).equal(ranks(distance, same, torch.ones_like(same)))


@given(block=blocks(), seed=st.integers(0, 99))
def test_order_of_the_gallery_does_not_matter(block, seed):
    order = torch.randperm(block[0].shape[1], generator=torch.Generator().manual_seed(seed))

    assert ranks(*(tensor[:, order] for tensor in block)).equal(ranks(*block))


@given(block=blocks())
def test_only_the_order_of_distances_matters(block):
    distance, *who = block

    assert ranks(2 * distance + 1, *who).equal(ranks(distance, *who))


@given(block=blocks())
def test_another_wrong_reference_never_improves_a_rank(block):
    distance, same, valid = block
    more = (
        torch.cat([distance, torch.full_like(distance[:, :1], 0.5)], dim=1)
        if distance.shape[1]
        else torch.full((len(distance), 1), 0.5),
        torch.nn.functional.pad(same, (0, 1), value=False),
        torch.nn.functional.pad(valid, (0, 1), value=True),
    )

    assert (ranks(*more) >= ranks(*block)).all()


def test_a_constant_distance_finds_nobody_first():
    same = torch.eye(4).bool()

    assert ranks(torch.zeros(4, 4), same).tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("nobody", [torch.nan, torch.inf])
def test_unknown_distances_never_flatter(nobody):
    distance = torch.tensor([[nobody, nobody, nobody], [nobody, 0.2, 0.1]])
    same = torch.tensor([[True, False, False], [False, True, False]])

    assert ranks(distance, same)[0] == 3
    assert ranks(distance, same)[1] >= 2


def test_leave_one_out_by_hand():
    x = torch.tensor([[0.0], [1.0], [1.5], [9.0]])
    labels = torch.tensor([0, 0, 1, 2])
    rank = ranks(torch.cdist(x, x), labels[:, None] == labels, ~torch.eye(4).bool())

    assert rank.tolist() == [1, 2, 0, 0]
    assert cmc(rank, longest=3).tolist() == [0.5, 1.0, 1.0]


@given(
    rank=st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any),
    longest=st.integers(1, 12),
)
def test_cmc_counts_the_answerable_queries(rank, longest):
    answerable = [r for r in rank if r]
    expected = [sum(r <= k for r in answerable) / len(answerable) for k in range(1, longest + 1)]
    curve = cmc(torch.tensor(rank), longest)

    assert curve.tolist() == pytest.approx(expected)
    assert (curve.diff() >= 0).all()
    assert longest < 9 or curve[-1] == 1


def test_cmc_of_unanswerable_queries_is_refused():
    with pytest.raises(ValueError, match="none of the 3 has one"):
        cmc(torch.zeros(3, dtype=torch.int64), longest=2)
