from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from siamlearn import comparison as module
from siamlearn.comparison import compare, strips
from siamlearn.data.images import ImageSet
from siamlearn.embeddings import Embeddings, embed
from siamlearn.functional.distances import cosine
from siamlearn.functional.identification import ranks


def pictures(count, *, people=3, side=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 1, side, side)
    return ImageSet(
        torch.randint(256, shape, generator=generator, dtype=torch.uint8),
        torch.arange(count) % people,
        identities=[f"s{i}" for i in range(people)],
        names=[f"{i}.png" for i in range(count)],
    )


def on_a_line(positions, labels, *, identities=("a", "b", "c", "d"), names=None, images=None):
    names = names or [f"{i}.png" for i in range(len(positions))]
    vectors = torch.tensor(positions, dtype=torch.float32)[:, None]
    return Embeddings(vectors, torch.tensor(labels), tuple(identities), tuple(names), images)


def naive(probes, gallery):
    """All pairs one by one, as the docstring says it."""
    own = gallery is None
    references = probes if own else gallery
    genuine, impostor, found = [], [], []
    for q in range(len(probes)):
        right, wrong = [], []
        for r in range(len(references)):
            if (q == r) if own else (probes.names[q] == references.names[r]):
                continue
            who, whom = (e.identities[e.labels[i]] for e, i in ((probes, q), (references, r)))
            distance = (probes.vectors[q] - references.vectors[r]).abs().item()
            (right if who == whom else wrong).append(distance)
            if not own or q < r:
                (genuine if who == whom else impostor).append(distance)
        found.append(1 + sum(d <= min(right) for d in wrong) if right else 0)
    return sorted(genuine), sorted(impostor), found


@st.composite
def lines(draw, *, identities):
    """Embeddings at whole numbers, so that ties are many; names tell position and identity."""
    count = draw(st.integers(1, 9))
    positions = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    # Where name and embedding are equal it is the same picture, here as in a gallery.
    names = [f"{identities[i]}/{p}.png" for p, i in zip(positions, labels, strict=True)]
    return on_a_line(positions, labels, identities=identities, names=names)


@given(
    probes=lines(identities="abcd"),
    gallery=st.none() | lines(identities="dcbe"),
    block=st.sampled_from([1, 5, 2**22]),
)
def test_comparison_equals_all_pairs_one_by_one(probes, gallery, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = compare(probes, gallery)
        seen = list(strips(probes, gallery))

    genuine, impostor, rank = naive(probes, gallery)
    assert found.genuine.sort().values.tolist() == genuine
    assert found.impostor.sort().values.tolist() == impostor
    assert torch.cat([ranks(s.distance, s.same, s.valid) for s in seen]).tolist() == rank


@given(data=st.data(), told=st.booleans(), height=st.sampled_from([1, 4, 99]))
def test_masks_and_columns_say_who_may_be_compared_with_whom(data, told, height):
    probes, gallery = data.draw(lines(identities="abcd")), data.draw(lines(identities="dcbe"))
    probes, gallery = (
        replace(side, sessions=tuple(data.draw(st.sampled_from("xy")) for _ in side.names))
        if told
        else side
        for side in (probes, gallery)
    )
    for against in (gallery, None):
        references = against or probes
        who, whom = ([e.identities[i] for i in e.labels] for e in (probes, references))
        for strip in strips(probes, against, height=height):
            for at, q in enumerate(range(strip.rows.start, strip.rows.stop)):
                same = [who[q] == one for one in whom]
                itself = [
                    q == r if against is None else probes.names[q] == references.names[r]
                    for r in range(len(references))
                ]
                session = [
                    told and probes.sessions[q] == one for one in references.sessions or whom
                ]
                valid = [
                    not own and not (match and then)
                    for own, match, then in zip(itself, same, session, strict=True)
                ]
                right = [r for r, match in enumerate(same) if match and valid[r]]
                left_out = [r for r, may in enumerate(valid) if not may]
                assert strip.same[at].tolist() == same
                assert strip.valid[at].tolist() == valid
                for columns, expected in ((strip.right, right), (strip.left_out, left_out)):
                    listed = columns[at].tolist()
                    assert listed == expected + [len(whom)] * (len(listed) - len(expected))


def test_columns_are_no_wider_than_needed():
    line = on_a_line([0, 1, 2, 3, 4], [0, 0, 0, 1, 2])
    (strip,) = strips(line)

    assert strip.right.tolist() == [[1, 2], [0, 2], [0, 1], [5, 5], [5, 5]]
    assert strip.left_out.tolist() == [[0], [1], [2], [3], [4]]

    (strip,) = strips(replace(line, sessions=("x", "y", "y", "x", "x")))
    assert strip.right.tolist() == [[1, 2], [0, 5], [0, 5], [5, 5], [5, 5]]
    assert strip.left_out.tolist() == [[0, 5], [1, 2], [1, 2], [3, 5], [4, 5]]

    (strip,) = strips(on_a_line([9], [3], names=["9.png"]), line)
    assert strip.right.shape == strip.left_out.shape == (1, 0)


def test_a_picture_in_probes_and_gallery_is_not_compared_with_itself():
    images = pictures(4, people=2)
    everything = embed(nn.Flatten(), images)

    found = compare(everything.subset([0]), everything)

    assert len(found.genuine) + len(found.impostor) == 3
    assert 0 not in found.genuine


def test_pictures_of_one_name_with_other_pixels_are_two_pictures():
    one, other = (embed(nn.Flatten(), pictures(1, seed=seed)) for seed in (0, 1))

    assert len(compare(one, other).genuine) == 1


def test_two_copies_of_one_picture_in_a_set_are_two_pictures():
    twice = on_a_line([3, 3], [0, 0], names=["1.png", "1.png"])

    assert compare(twice).genuine.tolist() == [0]


def test_probes_and_gallery_of_two_nets_are_refused():
    line = on_a_line([1, 2], [0, 1])
    plane = Embeddings(torch.eye(2), line.labels, line.identities, line.names)
    round_ = Embeddings(line.vectors, line.labels, line.identities, line.names, distance=cosine)

    for gallery in (plane, round_):
        with pytest.raises(ValueError, match="embedded by one net and compared by one distance"):
            compare(line, gallery)


def test_pictures_of_one_session_are_genuine_to_nobody_but_impostors_to_others():
    line = on_a_line([0, 1, 5, 9], [0, 0, 0, 1])
    line = Embeddings(
        line.vectors,
        line.labels,
        line.identities,
        line.names,
        sessions=("monday", "monday", "friday", "monday"),
    )

    found = compare(line)

    assert sorted(found.genuine.tolist()) == [4, 5]  # not the 1 of the two mondays
    assert sorted(found.impostor.tolist()) == [4, 8, 9]


def test_sessions_are_known_of_all_pictures_or_of_none():
    line = on_a_line([0, 1], [0, 0])
    told = Embeddings(line.vectors, line.labels, line.identities, line.names, sessions=("a", "b"))

    with pytest.raises(ValueError, match="sessions for the gallery only"):
        compare(line, told)
    with pytest.raises(ValueError, match="got 1 sessions for 2 embeddings"):
        Embeddings(line.vectors, line.labels, line.identities, line.names, sessions=("a",))
