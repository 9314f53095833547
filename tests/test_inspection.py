import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamlearn import comparison as module
from siamlearn import inspection
from siamlearn.embeddings import Embeddings
from siamlearn.evaluation import Report
from siamlearn.functional.accepted import accepted
from siamlearn.functional.distances import cosine, euclidean
from siamlearn.functional.intervals import Trials, interval
from siamlearn.functional.resampling import Tally, draws
from siamlearn.inspection import (
    Pair,
    bands,
    confusions,
    pca_map,
    people_distances,
    tsne_map,
    umap_map,
    worst_pairs,
    zoo,
)
from siamlearn.inspection import people as people_module
from siamlearn.search import search

NAN = float("nan")


def on_a_line(positions, labels, *, identities=("anna", "bob", "cleo", "dan"), names=None):
    names = names or [f"{i}.png" for i in range(len(positions))]
    vectors = torch.tensor(positions, dtype=torch.float32)[:, None]
    return Embeddings(vectors, torch.tensor(labels), tuple(identities), tuple(names))


def some_of_a_report(**values):
    """A Report with nothing but these values."""
    report = object.__new__(Report)
    vars(report).update(values)
    return report


def reported(embeddings, gallery=None, *, threshold=2.0, points=()):
    """As much of a report as is looked at; a real one refuses people without pairs."""
    return some_of_a_report(
        embeddings=embeddings, gallery=gallery, points=points, eer_threshold=threshold
    )


@st.composite
def lines(draw, *, identities):
    """Embeddings at whole numbers, so that ties are many; names tell position and identity."""
    count = draw(st.integers(1, 9))
    positions = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    # Where name and embedding are equal it is the same picture, here as in a gallery.
    names = [f"{identities[i]}/{p}.png" for p, i in zip(positions, labels, strict=True)]
    return on_a_line(positions, labels, identities=identities, names=names)


reports = st.builds(
    reported,
    lines(identities="abcd"),
    st.none() | lines(identities="dcbe"),
    threshold=st.sampled_from([0.0, 1.0, 2.5]),
)


@pytest.fixture(params=[1, 5, 2**22], scope="module")
def _pairs_a_strip(request):
    """However many pairs a strip holds, the results are the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", request.param)
        yield


in_strips = pytest.mark.usefixtures("_pairs_a_strip")


def pairs_of(report):
    """All pairs one by one: places, names of people, distance."""
    own = report.gallery is None
    probes = report.embeddings
    references = probes if own else report.gallery
    for q in range(len(probes)):
        for r in range(len(references)):
            if q >= r if own else probes.names[q] == references.names[r]:
                continue
            who, whom = (e.identities[e.labels[i]] for e, i in ((probes, q), (references, r)))
            yield q, r, who, whom, (probes.vectors[q] - references.vectors[r]).abs().item()


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else NAN


# anna at 0, 1; bob at 4, 7; cleo at 2.
FIVE = reported(on_a_line([0, 1, 4, 7, 2], [0, 0, 1, 1, 2]))


def test_the_worst_pairs_by_hand():
    found = worst_pairs(FIVE, count=2)

    assert found.genuine == (Pair(2, 3, 3.0), Pair(0, 1, 1.0))
    assert found.impostor == (Pair(1, 4, 1.0), Pair(0, 4, 2.0))
    assert found.probes is found.references is FIVE.embeddings


@in_strips
@settings(max_examples=40)
@given(report=reports, count=st.integers(1, 12))
def test_the_worst_pairs_are_the_ends_of_all_pairs_in_order(report, count):
    found = worst_pairs(report, count)

    pairs = list(pairs_of(report))
    genuine = [Pair(q, r, d) for q, r, who, whom, d in pairs if who == whom]
    impostor = [Pair(q, r, d) for q, r, who, whom, d in pairs if who != whom]
    assert found.genuine == tuple(sorted(genuine, key=lambda p: -p.distance)[:count])
    assert found.impostor == tuple(sorted(impostor, key=lambda p: p.distance)[:count])


def test_at_least_one_pair_is_asked_for():
    with pytest.raises(ValueError, match="count must be at least 1 pair of each kind, got 0"):
        worst_pairs(FIVE, count=0)


def test_the_zoo_by_hand():
    seen = zoo(FIVE)  # accepted: anna with cleo at 2 and 1, bob with cleo at 2

    assert (seen.names, seen.threshold) == (("anna", "bob", "cleo"), 2.0)
    assert seen.genuine.tolist()[:2] == [1, 3]
    assert seen.genuine[2].isnan()
    assert seen.impostor.tolist() == [(4 + 7 + 3 + 6 + 2 + 1) / 6, (20 + 2 + 5) / 6, 10 / 4]
    assert seen.nearest.tolist() == [1, 2, 1]
    assert seen.fnmr.tolist()[:2] == [0, 1]
    assert seen.fmr.tolist() == [2 / 6, 1 / 6, 3 / 4]
    assert seen.kinds == ("sheep", "phantom", "unknown")


@in_strips
@settings(max_examples=40)
@given(report=reports)
def test_the_zoo_equals_all_pairs_one_by_one(report):
    seen = zoo(report)

    pairs, limit = list(pairs_of(report)), report.eer_threshold
    for p, name in enumerate(seen.names):
        own = [d for _, _, who, whom, d in pairs if who == whom == name]
        other = [d for _, _, who, whom, d in pairs if who != whom and name in (who, whom)]
        expected = (
            *(mean(own), mean(other), min(other, default=NAN)),
            *(mean(d > limit for d in own), mean(d <= limit for d in other)),
        )
        values = (seen.genuine, seen.impostor, seen.nearest, seen.fnmr, seen.fmr)
        assert [v[p].item() for v in values] == pytest.approx(expected, nan_ok=True)


def test_who_is_outstanding_in_both_ways_is_an_animal():
    # People stand in a row, the outer ones far from all others; each has two pictures.
    middles, widths = [0, 40, 50, 60, 70, 140], [1, 2, 10, 0.5, 3, 9]
    positions = [m + sign * w / 2 for m, w in zip(middles, widths, strict=True) for sign in (-1, 1)]
    labels = [p for p in range(6) for _ in range(2)]
    seen = zoo(reported(on_a_line(positions, labels, identities="abcdef")))

    assert seen.kinds == ("dove", "sheep", "worm", "chameleon", "sheep", "phantom")
    assert seen.of("worm") == ("c",)


def test_where_all_are_equal_nobody_is_outstanding():
    seen = zoo(reported(on_a_line([0] * 8, [0, 0, 1, 1, 2, 2, 3, 3])))
    assert seen.kinds == ("sheep",) * 4


def test_the_threshold_is_that_of_the_operating_point_where_there_is_one():
    point = SimpleNamespace(point=SimpleNamespace(threshold=1.0))
    report = reported(FIVE.embeddings, points=(point,))
    assert zoo(report).threshold == 1.0
    assert confusions(report, share=0.5) == (("anna", "cleo"),)
    assert zoo(report, threshold=0.5).threshold == 0.5


def test_distances_between_people_by_hand():
    found = people_distances(FIVE)

    place = [found.names.index(name) for name in ("anna", "bob", "cleo")]
    expected = torch.tensor([[1, 5, 1.5], [5, 3, 3.5], [1.5, 3.5, NAN]])
    torch.testing.assert_close(found.mean[place][:, place].float(), expected, equal_nan=True)
    nearest = torch.tensor([[1, 3, 1], [3, 3, 2], [1, 2, NAN]])
    torch.testing.assert_close(found.nearest[place][:, place], nearest, equal_nan=True)


@in_strips
@settings(max_examples=40)
@given(report=reports)
def test_distances_between_people_equal_all_pairs_one_by_one(report):
    found = people_distances(report)

    pairs = list(pairs_of(report))
    assert sorted(found.names) == sorted({*zoo(report).names})
    for i, one in enumerate(found.names):
        for j, other in enumerate(found.names):
            between = [d for _, _, who, whom, d in pairs if {who, whom} == {one, other}]
            expected = mean(between), min(between, default=NAN)
            values = found.mean[i, j].item(), found.nearest[i, j].item()
            assert values == pytest.approx(expected, nan_ok=True)


def test_who_is_near_stands_side_by_side():
    positions, labels = [0, 50, 1, 51, 2, 52], list(range(6))
    found = people_distances(reported(on_a_line(positions, labels, identities="abcdef")))
    assert {frozenset(found.names[:3]), frozenset(found.names[3:])} == {
        frozenset("ace"),
        frozenset("bdf"),
    }


def test_too_many_people_for_a_matrix_are_refused(monkeypatch):
    monkeypatch.setattr(people_module, "MOST_PEOPLE", 2)
    with pytest.raises(ValueError, match="for at most 2 people, got 3; evaluate a subset"):
        people_distances(FIVE)


def test_confusions_by_hand():
    # At 2 both pairs of anna and cleo are accepted, and one of the two of bob and cleo.
    assert confusions(FIVE) == (("anna", "bob", "cleo"),)
    assert confusions(FIVE, share=0.6) == (("anna", "cleo"),)
    assert confusions(FIVE, threshold=0.5) == ()
    assert confusions(FIVE, threshold=7, share=1) == (("anna", "bob", "cleo"),)


@in_strips
@settings(max_examples=40)
@given(report=reports, share=st.sampled_from([0.01, 0.5, 1.0]))
def test_confusions_equal_all_pairs_one_by_one(report, share):
    limit = report.eer_threshold
    between = {}
    for _, _, who, whom, distance in pairs_of(report):
        if who != whom:
            between.setdefault(frozenset((who, whom)), []).append(distance <= limit)
    groups = [{name} for name in zoo(report).names]
    for both, passes in between.items():
        if mean(passes) >= share:
            joined = [group for group in groups if group & both]
            groups = [group for group in groups if not group & both]
            groups.append(set().union(*joined))

    found = confusions(report, share=share)
    assert {frozenset(group) for group in found} == {frozenset(g) for g in groups if len(g) > 1}
    assert sorted(map(len, found), reverse=True) == list(map(len, found))


@pytest.mark.parametrize("share", [0, 1.5, NAN])
def test_a_share_of_pairs_is_a_share(share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        confusions(FIVE, share=share)


@pytest.fixture(scope="module")
def counted():
    """A report of five people with overlapping distances, as far as bands look at it."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.arange(5.0).repeat_interleave(4) + torch.randn(20, generator=generator)
    found = on_a_line(vectors.tolist(), [p for p in range(5) for _ in range(4)], identities="abcde")
    strip = next(iter(module.strips(found, height=20)))
    seen = accepted(strip.genuine, strip.impostor)
    tally = Tally(seen.threshold.double(), 5)
    once, same = strip.once, strip.same
    tally.add(strip.distance, once & same, once & ~same, found.labels, found.labels)
    return some_of_a_report(
        cells=tally.cells(),
        people=5,
        pictures=20,
        impostor=len(strip.impostor),
        seen=seen,
        embeddings=found,
        gallery=None,
        found=search([strip]),
    )


def test_bands_have_the_rates_of_the_report_and_the_interval_of_each_threshold(counted):
    found = bands(counted, resamples=200)
    np.testing.assert_array_equal(found.fmr, counted.seen.fmr)
    np.testing.assert_array_equal(found.fnmr, counted.seen.fnmr)
    drawn = counted.cells.resampled(draws(5, 200))
    trials = Trials(5, 20)
    for k in (0, 10, 100):
        for value, low, high, resampled, most in (
            (found.fmr, found.fmr_low, found.fmr_high, drawn.fmr, trials.impostor),
            (found.fnmr, found.fnmr_low, found.fnmr_high, drawn.fnmr, trials.genuine),
        ):
            ends = interval(value[k].item(), resampled[:, k], units=5, trials=most)
            torch.testing.assert_close((low[k], high[k]), ends)


def test_the_band_of_the_roc_is_the_interval_of_fnmr_at_each_fmr(counted):
    found = bands(counted, resamples=200)
    assert (found.at_fmr[0], found.at_fmr[-1]) == (0, 1)
    assert (found.at_fmr.diff() > 0).all()
    drawn = counted.cells.resampled(draws(5, 200))
    for k in (0, 50, 150):
        rate = found.at_fmr[k].item()
        value = counted.seen.fnmr_at(rate)
        assert found.fnmr_at[k] == value
        ends = interval(value, drawn.fnmr_at(rate), units=5, trials=Trials(5, 20).genuine)
        torch.testing.assert_close((found.fnmr_at_low[k], found.fnmr_at_high[k]), ends)


def test_a_higher_level_makes_wider_bands(counted):
    narrow, wide = (bands(counted, level=level, resamples=100) for level in (0.8, 0.99))
    assert (wide.fmr_low <= narrow.fmr_low).all()
    assert (wide.fmr_high >= narrow.fmr_high).all()
    assert (wide.level, narrow.level) == (0.99, 0.8)


def crowd(pictures, dimensions, distance=None):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(pictures, dimensions, generator=generator)
    labels = torch.arange(pictures) % 2
    names = tuple(map(str, range(pictures)))
    found = Embeddings(vectors, labels, ("anna", "bob"), names)
    return found if distance is None else replace(found, distance=distance)


@pytest.mark.parametrize(("pictures", "dimensions"), [(1, 1), (1, 5), (2, 1), (3, 2), (9, 7)])
def test_the_plane_of_most_variance_keeps_as_much_as_two_dimensions_can(pictures, dimensions):
    found = pca_map(crowd(pictures, dimensions))
    assert found.points.shape == (pictures, 2)
    assert found.points.isfinite().all()
    if dimensions <= 2:  # nothing is lost
        vectors = found.embeddings.vectors
        torch.testing.assert_close(
            torch.cdist(found.points, found.points), torch.cdist(vectors, vectors)
        )


def test_the_axes_of_the_plane_say_their_share_of_the_variance():
    found = pca_map(on_a_line([0, 1, 5], [0, 1, 1]))
    assert found.axes == ("principal axis 1 (100 %)", "principal axis 2 (0 %)")


@pytest.mark.parametrize("dimensions", [1, 2, 8])
def test_tsne_parts_two_groups_and_is_the_same_again(dimensions):
    found = crowd(40, dimensions)
    found = replace(found, vectors=0.1 * found.vectors + 10 * found.labels[:, None])
    first, second = tsne_map(found), tsne_map(found)
    assert torch.equal(first.points, second.points)
    apart = torch.cdist(first.points, first.points)
    same = found.labels[:, None] == found.labels
    assert apart[same].max() < apart[~same].max()
    assert first.points[found.labels == 0].mean(0).dist(first.points[found.labels == 1].mean(0)) > 5
    assert first.axes == ("", "")


def test_embeddings_compared_by_cosine_are_laid_out_as_unit_vectors():
    found = crowd(12, 3, cosine)
    longer = replace(found, vectors=found.vectors * 2.0 ** (torch.arange(12) % 3)[:, None])
    assert torch.equal(tsne_map(found).points, tsne_map(longer).points)
    longer = replace(longer, distance=euclidean)
    assert not torch.equal(tsne_map(found).points, tsne_map(longer).points)


def test_a_net_that_gives_every_picture_the_same_can_be_laid_out():
    found = crowd(12, 3)
    same = replace(found, vectors=torch.ones_like(found.vectors))
    assert tsne_map(same).points.isfinite().all()
    assert pca_map(same).points.abs().max() == 0


def test_too_few_pictures_are_not_laid_out_by_neighbours():
    with pytest.raises(ValueError, match="t-SNE needs at least 4 pictures, got 3"):
        tsne_map(crowd(3, 2))
    with pytest.raises(ValueError, match="perplexity must be above 0 and below the 9 pictures"):
        tsne_map(crowd(9, 2), perplexity=9)


def test_without_umap_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ModuleNotFoundError, match="pip install umap-learn"):
        umap_map(crowd(9, 2))


def test_umap_parts_two_groups():
    pytest.importorskip("umap", reason="umap-learn is not installed")
    found = crowd(40, 5)
    found = replace(found, vectors=0.1 * found.vectors + 10 * found.labels[:, None])
    points = umap_map(found).points
    assert points[found.labels == 0].mean(0).dist(points[found.labels == 1].mean(0)) > 3


@pytest.mark.parametrize(
    "look",
    [
        inspection.worst_pairs,
        inspection.zoo,
        inspection.people_distances,
        inspection.confusions,
        inspection.bands,
        inspection.reliability,
    ],
    ids=lambda look: look.__name__,
)
def test_what_is_no_report_is_refused_in_words(look):
    with pytest.raises(TypeError, match=r"a Report is needed first, as evaluate\(…\) returns it"):
        look(torch.eye(3))


@pytest.mark.parametrize("look", [inspection.pca_map, inspection.tsne_map, inspection.umap_map])
def test_a_map_of_anything_but_embeddings_is_refused_in_words(look):
    with pytest.raises(TypeError, match=r"a map is of Embeddings, .* got Tensor"):
        look(torch.eye(3))
