import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from siamlearn.answers import Verdict
from siamlearn.data.images import ImageSet
from siamlearn.embeddings import embed
from siamlearn.folders import replacing
from siamlearn.functional.distances import cosine
from siamlearn.gallery import Gallery
from siamlearn.nn.nets import ConvBlock, EmbeddingNet, NetConfig
from siamlearn.operating import OperatingPoint

SHAPE = (1, 4, 4)


def shades(*greys, names=None):
    """Pictures of one grey each; who is on them is said by name."""
    names = names or [f"g{grey}" for grey in greys]
    identities = list(dict.fromkeys(names))
    return ImageSet(
        torch.stack([torch.full(SHAPE, grey, dtype=torch.uint8) for grey in greys]),
        torch.tensor([identities.index(name) for name in names]),
        identities=identities,
        names=[f"{name}/{i}.png" for i, name in enumerate(names)],
    )


class Brightness(nn.Module):
    """The mean grey, from 0 to 255, as an embedding of one dimension."""

    def forward(self, images):
        return images.mean(dim=(1, 2, 3))[:, None] * 255


def at(threshold, **changes):
    values = {"name": "FMR 1 %", "fmr": 0.01, "seen_fmr": 0.01, "seen_fnmr": 0.1}
    counts = {"people": ("0", "1"), "pictures": 4, "genuine": 2, "impostor": 4}
    return OperatingPoint(threshold=threshold, **{**values, **counts, **changes})


def grey(value, shape=(4, 4)):
    return np.full(shape, value, dtype=np.uint8)


@pytest.fixture
def gallery():
    people = shades(10, 20, 60, 100, names=["anna", "anna", "bob", "carl"])
    return Gallery(Brightness(), at(15.0), shape=SHAPE).enroll(people)


def net_of_ours(seed=0, **changes):
    torch.manual_seed(seed)
    config = NetConfig(input=(1, 16, 12), blocks=(ConvBlock(4, 3, pool=2),), embedding=6)
    return EmbeddingNet(config)


def noise(people=3, each=2, *, shape=(1, 16, 12), seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(people * each) // each
    return ImageSet(
        torch.randint(256, (len(labels), *shape), generator=generator, dtype=torch.uint8),
        labels,
        identities=[f"s{i}" for i in range(people)],
        names=[f"{i}.png" for i in range(len(labels))],
    )


def test_the_nearest_picture_of_each_person_counts(gallery):
    match = gallery.identify(grey(30))

    assert match.name == match.nearest == "anna"
    assert match.distance == pytest.approx(10, abs=1e-4)  # to 20, not to the mean of 10 and 20
    assert match.runner_up == "bob"
    assert match.runner_up_distance == pytest.approx(30, abs=1e-4)
    assert match.threshold == 15
    assert str(match) == "anna: distance 10 ≤ threshold 15; next is bob at 30"


def test_who_is_far_from_everybody_is_nobody(gallery):
    match = gallery.identify(grey(200))

    assert (match.name, match.nearest, match.runner_up) == (None, "carl", "bob")
    assert str(match) == "nobody: the nearest, carl, is at 100 > threshold 15; next is bob at 140"


def test_who_is_exactly_between_two_people_is_nobody():
    gallery = Gallery(nn.Flatten(), at(9.0), shape=SHAPE).enroll(shades(0, 0, names=["a", "b"]))

    match = gallery.identify(grey(0))

    assert (match.name, match.distance, match.runner_up_distance) == (None, 0, 0)
    assert str(match) == "nobody: a and b are both at 0"


def test_a_distance_at_the_threshold_is_accepted():
    gallery = Gallery(nn.Flatten(), at(0.0), shape=SHAPE).enroll(grey(7), name="anna")

    assert gallery.identify(grey(7)).name == "anna"
    assert gallery.verify(grey(7), grey(7)).same


def test_alone_in_the_gallery_there_is_no_runner_up():
    gallery = Gallery(Brightness(), at(15.0), shape=SHAPE).enroll(grey(7), name="anna")
    match = gallery.identify(grey(7))

    assert (match.name, match.runner_up, match.runner_up_distance) == ("anna", None, None)
    assert str(match) == "anna: distance 0 ≤ threshold 15"


def test_many_pictures_get_many_answers_alike(gallery, monkeypatch):
    probes = shades(12, 61, 250)
    together = gallery.identify(probes)

    assert [match.name for match in together] == ["anna", "bob", None]
    assert gallery.identify([grey(12), grey(61), grey(250)]) == together
    assert gallery.identify([grey(12)]) == together[:1]
    monkeypatch.setattr("siamlearn.gallery.BLOCK", 1)
    assert gallery.identify(probes) == together


def test_the_same_picture_is_taken_from_anywhere(gallery, tmp_path):
    colours = np.stack([grey(60, (9, 7))] * 3, axis=2)
    Image.fromarray(colours).save(tmp_path / "unknown.png")

    for picture in (
        tmp_path / "unknown.png",
        str(tmp_path / "unknown.png"),
        Image.fromarray(colours),
        colours,
        torch.from_numpy(colours),
        torch.full((9, 7), 60 / 255),
    ):
        match = gallery.identify(picture)
        assert (match.name, round(match.distance, 3)) == ("bob", 0)


def test_people_are_added_and_removed():
    gallery = Gallery(Brightness(), at(15.0), shape=SHAPE)
    gallery.enroll(shades(10, 60, names=["anna", "bob"])).enroll([grey(100), grey(90)], name="anna")

    assert (gallery.names, len(gallery)) == (("anna", "bob"), 2)
    assert repr(gallery) == "Gallery(2 people, 4 pictures, FMR 1 %, chosen on 2 people)"
    assert gallery.identify(grey(101)).name == "anna"

    gallery.remove("anna")
    assert gallery.names == ("bob",)
    assert gallery.identify(grey(101)).nearest == "bob"
    with pytest.raises(ValueError, match="only people who are enrolled can be removed, got 'anna'"):
        gallery.remove("anna")
    with pytest.raises(ValueError, match="somebody must be enrolled"):
        gallery.remove("bob").identify(grey(0))


def test_names_are_given_once():
    gallery = Gallery(Brightness(), at(15.0), shape=SHAPE)

    with pytest.raises(ValueError, match=r"need name=.*got ndarray with name=None"):
        gallery.enroll(grey(1))
    with pytest.raises(ValueError, match=r"need name=.*got ndarray with name=''"):
        gallery.enroll(grey(1), name="")
    with pytest.raises(ValueError, match="got ImageSet with name='anna'"):
        gallery.enroll(shades(1), name="anna")
    with pytest.raises(ValueError, match="at least one picture, got an empty list; give a picture"):
        gallery.enroll([], name="anna")


def test_verify_says_same_or_different_and_why(gallery):
    same, different = gallery.verify(grey(3), grey(10)), gallery.verify(grey(3), grey(30))

    assert same
    assert not different
    assert str(same) == ("same person: distance 7 ≤ threshold 15 (FMR 1 %, chosen on 2 people)")
    assert str(different).startswith("different people: distance 27 > threshold 15")
    assert str(Verdict(True, 0.25, 0.5)) == "same person: distance 0.25 ≤ threshold 0.5"


def known_pairs():
    """A point that was chosen on the greys 0, 10, 100, 110, 200 and 210 of three people."""
    people = shades(0, 10, 100, 110, 200, 210, names=["a", "a", "b", "b", "c", "c"])
    return OperatingPoint.fit(embed(Brightness(), people), fmr=0.3)


def test_verify_says_how_likely_one_person_is_and_why():
    gallery = Gallery(Brightness(), known_pairs(), shape=SHAPE)

    near, far = gallery.verify(grey(0), grey(5)), gallery.verify(grey(0), grey(105))

    assert near.probability > 0.9 > 0.1 > far.probability
    assert near.prior == 0.5
    assert near.why.startswith(
        "distance 5 is nearer than all of 12 impostor pairs and farther than none of 3 genuine "
        "pairs of 3 other people; P(same) = 0.9"
    )
    assert "nearer than 50 % of 12 impostor pairs and farther than all of 3 genuine" in far.why
    assert str(near).endswith("\n" + near.why)


def test_where_few_are_who_they_say_a_verdict_is_less_likely_to_be_right():
    gallery = Gallery(Brightness(), known_pairs(), shape=SHAPE)

    even, rare = gallery.verify(grey(0), grey(5)), gallery.verify(grey(0), grey(5), prior=0.001)

    odds = even.probability / (1 - even.probability)
    assert rare.probability == pytest.approx(odds * 0.001 / (0.999 + odds * 0.001))
    assert (rare.same, rare.prior) == (even.same, 0.001)
    assert rare.why.endswith(" at a prior of 0.001")
    with pytest.raises(ValueError, match="a prior is a probability above 0 and below 1, got 1"):
        gallery.verify(grey(0), grey(5), prior=1)


def test_one_of_several_points_is_asked_for_by_name(tmp_path):
    points = at(15.0, name="album"), at(3.0, name="door")
    gallery = Gallery(Brightness(), points, shape=SHAPE).enroll(grey(10), name="anna")

    assert gallery.point is points[0]
    assert gallery.identify(grey(20)).name == "anna"
    assert gallery.identify(grey(20), at="door").name is None
    assert gallery.identify([grey(20)], at="door")[0].threshold == 3
    assert gallery.verify(grey(10), grey(20), at="album").same
    assert not gallery.verify(grey(10), grey(20), at="door")
    with pytest.raises(ValueError, match="one of this gallery's points, 'album', 'door', got 'x'"):
        gallery.identify(grey(20), at="x")

    kept = Gallery(net_of_ours(), points)
    assert Gallery.load(kept.save(tmp_path / "door")).points == points


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "at least one point, each with a name of its own, got"),
        ([at(1.0), at(2.0)], "each with a name of its own, got .*FMR 1 %.*FMR 1 %"),
        ([at(1.0), at(2.0, name="b", distance=cosine)], "must be for one distance, got"),
    ],
)
def test_points_that_do_not_go_together_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        Gallery(Brightness(), points, shape=SHAPE)


def test_distances_below_zero_decide_like_any_other():
    def shifted(queries, references):
        return torch.cdist(queries, references) - 100

    people = shades(10, 20, 60, 100, names=["anna", "anna", "bob", "carl"])
    gallery = Gallery(Brightness(), at(-85.0, distance=shifted), shape=SHAPE).enroll(people)

    assert [m.name for m in gallery.identify([grey(30), grey(40), grey(200)])] == [
        "anna",
        None,
        None,
    ]
    assert gallery.verify(grey(3), grey(10)).distance == -93


def test_verify_needs_nobody_enrolled():
    assert Gallery(Brightness(), at(15.0), shape=SHAPE).verify(grey(3), grey(10)).same


def test_the_distance_is_that_of_the_operating_point():
    # Brightness changes the length of these embeddings, and not their direction.
    gallery = Gallery(nn.Flatten(), at(0.1, distance=cosine), shape=SHAPE)

    assert gallery.verify(grey(10), grey(200)).same


def test_an_enrolment_that_fails_changes_nothing(gallery, tmp_path):
    class Broken(nn.Module):
        def forward(self, images):
            return images.flatten(1) / images.flatten(1)

    with pytest.raises(FileNotFoundError, match="nowhere"):
        gallery.enroll([grey(1), tmp_path / "nowhere.png"], name="dora")
    gallery.net = Broken()
    with pytest.raises(ValueError, match=r"NaN or infinity \(dora/1.png\)"):
        gallery.enroll(shades(1, 0, names=["dora", "dora"]))
    with pytest.raises(ValueError, match=r"NaN or infinity \(picture 2\)"):
        gallery.verify(grey(1), grey(0))

    gallery.net = Brightness()
    assert gallery.names == ("anna", "bob", "carl")
    assert gallery.identify(grey(10)).name == "anna"


def test_a_net_that_does_not_say_what_it_takes_needs_a_shape():
    with pytest.raises(ValueError, match=r"shape must be given.*got Brightness; pass"):
        Gallery(Brightness(), at(15.0))


def test_pictures_of_another_size_are_brought_to_that_of_the_net():
    net = net_of_ours()
    people = noise(shape=(3, 20, 20))

    gallery = Gallery(net, at(0.5)).enroll(people)

    assert gallery.shape == (1, 16, 12)
    assert gallery.identify(people.pixels[2]).nearest == "s1"
    assert net.training  # as it was


def trained(seed=0):
    net = net_of_ours(seed).eval()
    point = OperatingPoint.fit(embed(net, noise(10, seed=1)), fmr=0.1)
    return Gallery(net, point).enroll(noise())


def test_a_saved_gallery_gives_the_same_answers_to_the_last_bit(tmp_path):
    gallery = trained()
    probes = noise(8, seed=5)

    again = Gallery.load(gallery.save(tmp_path / "door"))

    assert again.identify(probes) == gallery.identify(probes)
    assert again.points == gallery.points
    assert again.names == gallery.names
    a, b = probes.pixels[:2]
    assert again.verify(a, b) == gallery.verify(a, b)
    assert again.enroll(grey(0), name="new").names == (*gallery.names, "new")
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {
        "door/MANIFEST.json",
        "door/gallery.json",
        "door/gallery.safetensors",
        "door/net/net.json",
        "door/net/net.safetensors",
    }


def test_a_gallery_of_the_first_format_is_read(tmp_path):
    # As it was written when there was a single point, without intervals and predictions.
    point = {"format": 1, "name": "FMR 1 %", "threshold": 0.5, "fmr": 0.01, "seen_fmr": 0.01}
    point |= {"seen_fnmr": None, "people": ["0", "1"], "pictures": 4, "genuine": 0, "impostor": 4}
    content = {"format": 1, "shape": [1, 16, 12], "point": point | {"distance": "cosine"}}
    content |= {"people": ["anna"], "pictures": ["anna.png"]}
    with replacing(tmp_path / "door") as folder:
        net_of_ours().save(folder / "net")
        save_file({"vectors": torch.ones(1, 6)}, folder / "gallery.safetensors")
        (folder / "gallery.json").write_text(json.dumps(content))

    gallery = Gallery.load(tmp_path / "door")

    assert gallery.names == ("anna",)
    assert gallery.points == (at(0.5, seen_fnmr=None, genuine=0, distance=cosine),)
    assert gallery.verify(grey(3), grey(3)).same


def test_an_empty_gallery_is_saved_too(tmp_path):
    gallery = Gallery(net_of_ours(), at(0.5))

    assert Gallery.load(gallery.save(tmp_path / "door")).enroll(noise()).names == ("s0", "s1", "s2")


def test_saving_again_replaces_and_other_folders_are_left_alone(tmp_path):
    gallery = trained()
    folder = gallery.save(tmp_path / "door")
    gallery.remove("s0").save(folder)
    assert Gallery.load(folder).names == ("s1", "s2")

    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="must have a folder of its own"):
        gallery.save(tmp_path / "home")
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_a_foreign_net_cannot_be_saved(tmp_path, gallery):
    with pytest.raises(ValueError, match=r"only an EmbeddingNet can be saved.*got Brightness"):
        gallery.save(tmp_path / "door")


@pytest.mark.parametrize(
    "name", ["gallery.json", "gallery.safetensors", "net/net.json", "net/net.safetensors"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "one bit", "empty"])
def test_damaged_galleries_are_refused_and_the_file_is_named(tmp_path, name, damage):
    folder = trained().save(tmp_path / "door")
    file = folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"truncated": content[:-7], "one bit": content, "empty": b""}
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(changed[damage])

    with pytest.raises(ValueError, match=f"door is not as it was written: {name}"):
        Gallery.load(folder)


def test_a_folder_that_is_no_gallery_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds nothing whole"):
        Gallery.load(tmp_path)


def test_a_gallery_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nonesuch"):
        Gallery.load(tmp_path / "nonesuch")


def test_a_gallery_of_a_newer_format_is_refused(tmp_path, monkeypatch):
    gallery = trained()
    monkeypatch.setattr("siamlearn.gallery.FORMAT", 3)
    folder = gallery.save(tmp_path / "door")
    monkeypatch.undo()

    assert json.loads((folder / "gallery.json").read_text())["format"] == 3
    with pytest.raises(ValueError, match="must be a gallery of format 1 to 2, got 3"):
        Gallery.load(folder)


@pytest.mark.parametrize("nothing", [None, 42])
def test_what_is_no_picture_is_refused_in_words(gallery, nothing):
    for ask in (gallery.identify, lambda it: gallery.enroll(it, name="dora")):
        with pytest.raises(TypeError, match=r"a picture is a path, .*, got (None|42)"):
            ask(nothing)


class Trained:
    """Holds a net, as a training does."""

    net = Brightness()


def test_a_training_in_place_of_its_net_is_refused_in_words():
    with pytest.raises(TypeError, match=r"got Trained; pass its \.net"):
        Gallery(Trained(), at(15.0))
    with pytest.raises(TypeError, match="points must be OperatingPoint objects, got float"):
        Gallery(Brightness(), 15.0, shape=SHAPE)
    with pytest.raises(TypeError, match="points must be OperatingPoint objects, got str"):
        Gallery(Brightness(), ["FMR 1 %"], shape=SHAPE)


def test_a_picture_enrolled_twice_is_there_once():
    people = shades(10, 20, 60, names=["anna", "anna", "bob"])
    gallery = Gallery(Brightness(), at(15.0), shape=SHAPE).enroll(people)
    once = repr(gallery)

    assert repr(gallery.enroll(people)) == once
    assert repr(gallery.enroll([grey(60), grey(60)], name="bob")) == once
    assert "4 pictures" in repr(gallery.enroll([grey(30), grey(30), grey(10)], name="anna"))
    assert "5 pictures" in repr(gallery.enroll(grey(60), name="anna"))  # another person's
    assert gallery.identify(grey(60)).name is None
