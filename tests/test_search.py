from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import average_precision_score, ndcg_score

import siamlearn.search
from siamlearn.comparison import strips
from siamlearn.embeddings import Embeddings
from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.identification import cmc, ranks
from siamlearn.search import Found, found, joined, search

NAMES = list(Found.__dataclass_fields__)
SHARES = ["average_precision", "r_precision", "map_at_r", "ndcg"]


@st.composite
def blocks(draw, tied=True):
    """Distances, on a coarse grid for ties; who is who; what may be compared at all."""
    q, r = draw(st.integers(1, 6)), draw(st.integers(0, 19))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    distance = torch.rand(q, r, generator=generator)
    distance = distance.mul(5).floor() / 4 if tied else distance
    same = torch.rand(q, r, generator=generator) < draw(st.sampled_from([0.1, 0.4, 1.0]))
    valid = torch.rand(q, r, generator=generator) < draw(st.sampled_from([0.0, 0.7, 1.0]))
    return SimpleNamespace(distance=distance, same=same, valid=valid)


def rows_of(strip):
    """Of each probe the references that may be compared, nearest first, wrong ones before."""
    for distance, same, valid in zip(strip.distance, strip.same, strip.valid, strict=True):
        columns = zip(distance[valid].tolist(), same[valid].tolist(), strict=True)
        yield sorted(columns)


def assert_equal(one: Found, other: Found) -> None:
    for name in NAMES:
        a, b = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def faces(generator, people=12, pictures=4, d=8, distance=euclidean):
    """People around centres, in no order; two of them have one picture only."""
    labels = torch.cat([torch.arange(people).repeat(pictures), torch.tensor([people, people + 1])])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.randn(people + 2, d, generator=generator)
    vectors = centres[labels] + torch.randn(len(labels), d, generator=generator)
    names = [str(i) for i in range(len(labels))]
    return Embeddings(vectors, labels, names[: people + 2], names, distance=distance)


def test_three_probes_by_hand():
    distance = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.9, 0.1], [0.3, 0.2, 0.7, 0.0]])
    same = torch.tensor([[False, True, False, True], [True, False, False, False], [False] * 4])
    valid = torch.tensor([[True] * 4, [True, True, True, False], [True] * 4])
    seen = found(SimpleNamespace(distance=distance, same=same, valid=valid), longest=4)

    assert seen.rank.tolist() == [2, 2, 0]
    assert seen.relevant.tolist() == [2, 1, 0]
    torch.testing.assert_close(seen.right, torch.tensor([0.2, 0.5, torch.inf]))
    torch.testing.assert_close(seen.wrong, torch.tensor([0.1, 0.5, 0.0]))
    assert seen.within.tolist() == [[0, 1, 1, 2], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert seen.unanswerable == 1
    assert seen.mean(seen.average_precision) == 0.5  # 1/2 and 2/4; 1/2
    assert seen.mean(seen.r_precision) == 0.25
    assert seen.mean(seen.map_at_r) == 0.125
    assert seen.mean(seen.reciprocal_rank) == 0.5
    assert seen.mean(seen.recall_at(2)) == 0.75
    assert seen.mean(seen.precision_at(4)) == 0.375
    assert [seen.mean(seen.hit_at(k)) for k in (1, 2, 99)] == [0, 1, 1]


@given(strip=blocks(), longest=st.integers(1, 22))
def test_probes_are_what_their_sorted_rows_say(strip, longest):
    seen = found(strip, longest=longest)
    for i, row in enumerate(rows_of(strip)):
        order = [right for _, right in row]
        assert seen.relevant[i] == sum(order)
        assert seen.rank[i] == (order.index(True) + 1 if any(order) else 0)
        assert seen.right[i] == min((d for d, right in row if right), default=torch.inf)
        assert seen.wrong[i] == min((d for d, right in row if not right), default=torch.inf)
        assert seen.within[i].tolist() == [sum(order[:k]) for k in range(1, longest + 1)]
        at = [sum(order[:k]) / k for k in range(1, len(order) + 1) if order[k - 1]]
        assert not at or seen.average_precision[i].item() == pytest.approx(sum(at) / len(at))


@given(strip=blocks(tied=False))
def test_scikit_learn_agrees_where_there_are_no_ties(strip):
    seen = found(strip)
    for i, row in enumerate(rows_of(strip)):
        order, score = [right for _, right in row], [-d for d, _ in row]
        if any(order) and len(set(score)) == len(score) > 1:
            expected = average_precision_score(order, score), ndcg_score([order], [score])
            assert (seen.average_precision[i], seen.ndcg[i]) == pytest.approx(expected)


@given(strip=blocks())
def test_ties_never_flatter(strip):
    # scikit-learn takes references at one distance together, which is never worse.
    seen = found(strip)
    for i, row in enumerate(rows_of(strip)):
        order = [right for _, right in row]
        if any(order):
            together = average_precision_score(order, [-d for d, _ in row])
            assert seen.average_precision[i] <= together + 1e-12


@pytest.mark.parametrize("k", [None, "max_bin_count"])
def test_pytorch_metric_learning_agrees(k):
    pytest.importorskip("faiss")
    embeddings = faces(torch.Generator().manual_seed(0))
    seen = search(strips(embeddings))
    names = {
        "mean_average_precision_at_r": "MAP@R",
        "r_precision": "R-precision",
        "precision_at_1": "precision@1",
    }
    if k is None:  # only then all references are looked at
        names |= {"mean_average_precision": "mAP", "mean_reciprocal_rank": "MRR"}
    peer = AccuracyCalculator(include=tuple(names), k=k, device=torch.device("cpu"))
    theirs = peer.get_accuracy(embeddings.vectors, embeddings.labels)
    means = seen.means()

    assert {names[name]: value for name, value in theirs.items()} == {
        name: pytest.approx(means[name], abs=1e-6) for name in names.values()
    }
    assert 0.1 < means["MAP@R"] < 0.9
    assert means["unanswerable"] == 2


@given(strip=blocks(), seed=st.integers(0, 99))
def test_order_of_the_gallery_does_not_matter(strip, seed):
    order = torch.randperm(strip.distance.shape[1], generator=torch.Generator().manual_seed(seed))
    turned = SimpleNamespace(**{name: side[:, order] for name, side in vars(strip).items()})

    assert_equal(found(turned), found(strip))


@given(strip=blocks())
def test_what_may_not_be_compared_is_as_if_it_were_not_there(strip):
    valid = torch.ones_like(strip.valid[0])
    for i in range(len(strip.distance)):
        keep = strip.valid[i]
        alone = SimpleNamespace(
            distance=strip.distance[[i]][:, keep],
            same=strip.same[[i]][:, keep],
            valid=valid[None, keep],
        )
        whole = SimpleNamespace(**{name: side[[i]] for name, side in vars(strip).items()})
        assert_equal(found(alone), found(whole))


@pytest.mark.parametrize("distance", [cosine, euclidean])
@pytest.mark.parametrize(("height", "piece"), [(1, 2**18), (7, 120), (1000, 1)])
def test_strips_and_pieces_of_any_height_agree(monkeypatch, distance, height, piece):
    embeddings = faces(torch.Generator().manual_seed(1), distance=distance)
    # One product for all, as blocks of other heights round the last digit in another way.
    whole = next(iter(strips(embeddings, height=1000)))
    parts = [
        SimpleNamespace(
            **{name: getattr(whole, name)[rows] for name in ("distance", "same", "valid")}
        )
        for rows in torch.arange(len(embeddings)).split(height)
    ]
    expected = found(whole)
    monkeypatch.setattr(siamlearn.search, "PIECE", piece)

    assert_equal(search(parts), expected)


def test_many_pictures_of_one_person_are_found_as_few_are(monkeypatch):
    embeddings = faces(torch.Generator().manual_seed(2), people=2, pictures=20)
    expected = search(strips(embeddings))
    monkeypatch.setattr("siamlearn.functional.retrieval.FEW", 5)

    assert_equal(search(strips(embeddings)), expected)


@given(seed=st.integers(0, 999), told=st.booleans(), shared=st.booleans())
def test_columns_that_a_strip_knows_and_masks_find_the_same(seed, told, shared):
    generator = torch.Generator().manual_seed(seed)
    everybody = faces(generator, people=4, pictures=3, distance=euclidean)
    if told:
        days = torch.randint(2, (len(everybody),), generator=generator).tolist()
        everybody = replace(everybody, sessions=tuple(map(str, days)))
    # Pictures 5 to 8 are probes and in the gallery, too.
    probes, gallery = everybody.subset(range(9)), everybody.subset(range(5, len(everybody)))
    for strip in strips(probes, gallery if shared else None, height=4):
        names = ("distance", "same", "valid")
        masks = SimpleNamespace(**{name: getattr(strip, name) for name in names})
        assert_equal(found(strip), found(masks))


@given(strip=blocks(), where=st.integers(0, 99), kind=st.sampled_from([torch.nan, torch.inf]))
def test_unknown_distances_count_against_the_net(strip, where, kind):
    if not strip.distance.numel():
        return
    known, place = found(strip), where % strip.distance.numel()
    strip.distance.view(-1)[place] = kind
    unknown, i = found(strip), place // strip.distance.shape[1]
    genuine = strip.same.view(-1)[place]
    if genuine or kind is torch.nan:
        assert unknown.rank[i] >= known.rank[i]
        for name in SHARES:
            assert not getattr(unknown, name)[i] > getattr(known, name)[i] + 1e-12
    assert unknown.rank.equal(ranks(strip.distance, strip.same, strip.valid))
    assert unknown.relevant.equal(known.relevant)
    assert not unknown.right.isnan().any()
    assert not unknown.wrong.isnan().any()


@given(strip=blocks())
def test_ranks_are_those_of_identification(strip):
    seen = found(strip)

    assert seen.rank.equal(ranks(strip.distance, strip.same, strip.valid))
    if seen.answerable.any():
        curve = cmc(seen.rank, longest=5)
        assert [seen.mean(seen.hit_at(k)) for k in range(1, 6)] == pytest.approx(curve.tolist())


@given(strip=blocks())
def test_shares_are_shares_and_have_no_value_without_an_answer(strip):
    seen = found(strip)
    values = [getattr(seen, name) for name in SHARES]
    values += [seen.reciprocal_rank, seen.hit_at(3), seen.precision_at(3), seen.recall_at(3)]
    for value in values:
        assert value.isnan().equal(~seen.answerable)
        assert ((value >= 0) & (value <= 1 + 1e-12))[seen.answerable].all()


def test_one_picture_in_the_gallery():
    strip = SimpleNamespace(
        distance=torch.tensor([[0.3], [0.2]]),
        same=torch.tensor([[True], [False]]),
        valid=torch.ones(2, 1).bool(),
    )
    seen = found(strip)

    assert seen.rank.tolist() == [1, 0]
    assert [seen.mean(getattr(seen, name)) for name in SHARES] == [1, 1, 1, 1]
    assert seen.mean(seen.precision_at(5)) == 0.2


def test_distances_with_a_gradient_and_in_half_precision_are_taken_as_they_are():
    strip = SimpleNamespace(
        distance=torch.tensor([[0.25, 0.5]]).half().requires_grad_(),
        same=torch.tensor([[False, True]]),
        valid=torch.ones(1, 2).bool(),
    )
    seen = found(strip)

    assert seen.right.tolist() == [0.5]
    assert strip.distance.tolist() == [[0.25, 0.5]]  # not written into


def test_open_set_by_hand():
    # Mated: 0.1 and 0.2 at rank 1; the third probe finds somebody else first, and is never
    # accepted rightly. Non-mated: 0.5, 0.3 and 0.4.
    distance = torch.tensor([[0.1, 0.5], [0.3, 0.2], [0.4, 0.6]])
    same = torch.tensor([[True, False], [False, True], [False, True]])
    seen = found(SimpleNamespace(distance=distance, same=same, valid=torch.ones_like(same)))
    searches = seen.open_set()

    assert searches.pairs == (3, 3)
    assert searches.at(0.15) == (0, pytest.approx(2 / 3))
    assert searches.at(0.35) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert searches.at(1.0) == (1, pytest.approx(1 / 3))
    assert searches.fnmr_at(0.01) == pytest.approx(1 / 3)


def test_strangers_are_probes_whose_person_is_not_there():
    distance = torch.tensor([[0.1, 0.5], [0.3, 0.2]])
    same = torch.tensor([[True, False], [False, False]])
    seen = found(SimpleNamespace(distance=distance, same=same, valid=torch.ones_like(same)))

    assert seen.open_set(strangers=True).pairs == (1, 1)
    assert seen.open_set(strangers=True).at(0.25)[0] == 1
    assert seen.open_set().pairs == (1, 2)


@given(strip=blocks())
def test_no_threshold_makes_open_set_better_than_rank_1(strip):
    seen = found(strip)
    if seen.answerable.any():
        missed = 1 - seen.mean(seen.hit_at(1))
        searches = seen.open_set()
        finite = searches.threshold.isfinite()
        assert (searches.fnmr[finite] >= missed - 1e-12).all()


def test_means_say_how_many_probes_they_leave_out():
    means = search(strips(faces(torch.Generator().manual_seed(3)))).means(at=(1, 3))

    assert (means["answerable"], means["unanswerable"]) == (48, 2)
    assert means["rank-1"] == means["precision@1"]
    assert means["rank-3"] >= means["rank-1"]
    assert means["recall@3"] >= means["recall@1"]


def alone():
    return found(
        SimpleNamespace(
            distance=torch.rand(3, 2), same=torch.zeros(3, 2).bool(), valid=torch.ones(3, 2).bool()
        )
    )


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: alone().means(), "none of the 3 has one"),
        (lambda: alone().open_set(), "none of the 3 has one"),
        (lambda: alone().precision_at(51), "at most the 50 that were kept, got 51"),
        (lambda: alone().recall_at(0), "at least 1 reference, got 0"),
        (lambda: alone().hit_at(-1), "at least 1 reference, got -1"),
        (lambda: search([]), "at least one strip"),
        (lambda: joined([]), "at least one strip"),
        (lambda: search([], longest=0), "at least 1 reference, got 0"),
    ],
)
def test_what_cannot_be_said_is_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_strangers_are_refused_where_all_are_known():
    same = torch.ones(2, 1).bool()
    seen = found(SimpleNamespace(distance=torch.rand(2, 1), same=same, valid=same))
    with pytest.raises(ValueError, match="all 2 probes have one; strangers=False"):
        seen.open_set(strangers=True)


PAGE = Path(__file__).parents[1] / "docs/howto/identification.md"


@pytest.mark.parametrize(
    "name", [name for name in vars(Found) if name.endswith("_at") or name == "open_set"]
)
def test_the_page_on_identification_names_every_method(name):
    assert f"`{name}(" in PAGE.read_text(encoding="utf-8")
