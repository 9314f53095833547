import pytest
import torch
from torch import nn

from siamlearn.data.images import ImageSet
from siamlearn.embeddings import Embeddings, embed
from siamlearn.known import known
from siamlearn.nn.nets import ConvBlock, EmbeddingNet, NetConfig


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


class Seen(nn.Module):
    """Notes what kinds of pictures it is given, and gives their means."""

    def __init__(self):
        super().__init__()
        self.kinds = set()

    def forward(self, images):
        self.kinds.add(images.dtype)
        return images.mean(dim=(2, 3))


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_embeddings_do_not_depend_on_the_batch(batch):
    images = pictures(7)

    found = embed(nn.Flatten(), images, batch=batch)

    assert torch.equal(found.vectors, images.pixels.flatten(1) / 255)
    assert found.names == images.names
    assert torch.equal(found.labels, images.labels)


def test_a_net_of_ours_gets_bytes_and_another_gets_floats():
    foreign = Seen()
    embed(foreign, pictures(2))
    assert foreign.kinds == {torch.float32}

    net = EmbeddingNet(NetConfig(input=(1, 6, 6), blocks=(ConvBlock(2, 3),), embedding=4))
    kinds = set()
    net.register_forward_pre_hook(lambda _, given: kinds.add(given[0].dtype))
    embed(net, pictures(2))
    assert kinds == {torch.uint8}


def test_every_module_gets_its_own_mode_back_even_after_an_error():
    # A frozen batch norm inside a net that trains must stay frozen.
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout(0.5))
    net.train()
    net[1].eval()
    before = net[1].running_mean.clone()

    first, second = (embed(net, pictures(4)).vectors for _ in range(2))
    with pytest.raises(RuntimeError):
        embed(net, pictures(4, side=7))

    assert torch.equal(first, second)  # no dropout
    assert [net.training, net[1].training, net[2].training] == [True, False, True]
    assert torch.equal(net[1].running_mean, before)


def test_embeddings_can_be_learned_from_afterwards():
    vectors = embed(nn.Flatten(), pictures(2)).vectors
    weight = torch.ones(36, requires_grad=True)

    (vectors * weight).sum().backward()

    assert weight.grad is not None


def test_embeddings_that_are_not_finite_name_their_pictures():
    class Broken(nn.Module):
        def forward(self, images):
            dark = images.mean(dim=(1, 2, 3))[:, None] < 0.1
            return torch.where(dark, torch.nan, images.flatten(1))

    images = pictures(8)
    images.pixels[[2, 5]] = 0

    with pytest.raises(ValueError, match=r"2 of 8 pictures hold NaN or infinity \(2.png, 5.png\)"):
        embed(Broken(), images, batch=3)


def test_a_net_that_gives_maps_instead_of_embeddings_is_refused():
    with pytest.raises(ValueError, match=r"one embedding \(d,\) for each picture.*\(2, 1, 6, 6\)"):
        embed(nn.Identity(), pictures(2))
    with pytest.raises(ValueError, match="one embedding"):
        embed(nn.Flatten(0, 1), ImageSet(pictures(2).pixels[:, :, :, :1], **LABELS))


LABELS = {"labels": torch.tensor([0, 1]), "identities": ["a", "b"], "names": ["1", "2"]}


def test_nothing_to_embed_and_no_batch_are_refused():
    with pytest.raises(
        ValueError, match=r"at least one picture to embed, .*; from_folder\(…\) reads"
    ):
        embed(nn.Flatten(), pictures(3).subset([]))
    with pytest.raises(ValueError, match="batch must be at least 1 picture, got 0"):
        embed(nn.Flatten(), pictures(3), batch=0)


def test_lengths_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match=r"got 1 labels and 2 names for 2 embeddings; take those"):
        Embeddings(torch.eye(2), torch.tensor([0]), ("a",), ("1", "2"))
    with pytest.raises(ValueError, match=r"shape \(n, d\), got \(2,\); flatten"):
        Embeddings(torch.ones(2), torch.tensor([0, 0]), ("a",), ("1", "2"))


def test_one_picture_of_one_person_is_said_so():
    alone = Embeddings(torch.ones(1, 1), torch.tensor([0]), ("a", "b"), ("1",))
    assert repr(alone) == "Embeddings(1 picture of 1 person, 1 dimension)"


def test_a_subset_takes_everything_along():
    images = pictures(5)
    part = embed(nn.Flatten(), images).subset([4, 0])

    assert part.names == ("4.png", "0.png")
    assert part.people == ("s0", "s1")
    assert torch.equal(part.images.pixels, images.pixels[[4, 0]])
    assert torch.equal(part.vectors, images.pixels[[4, 0]].flatten(1) / 255)


def test_embeddings_tell_whom_the_net_was_trained_on():
    net = EmbeddingNet(NetConfig(input=(1, 6, 6), blocks=(ConvBlock(2, 3),), embedding=4))
    assert embed(net, pictures(3)).trained_on == embed(nn.Flatten(), pictures(3)).trained_on == ()

    net.trained_on = known(["s1"])

    assert embed(net, pictures(3)).subset([0, 1]).trained_on == known(["s1"])


@pytest.mark.parametrize(("takes", "gets"), [(1, 3), (3, 1)])
def test_grey_and_colour_pictures_are_made_what_a_net_of_ours_takes(takes, gets):
    net = EmbeddingNet(NetConfig(input=(takes, 6, 6), blocks=(ConvBlock(2, 3),), embedding=4))
    images = pictures(3).shaped((gets, 6, 6))

    found = embed(net, images)

    assert torch.equal(found.vectors, embed(net, images.shaped((takes, 6, 6))).vectors)
    assert found.images is images


class Trained:
    """Holds a net, as a training does."""

    net = nn.Flatten()


@pytest.mark.parametrize(
    ("net", "images", "message"),
    [
        (nn.Flatten(), "faces", "must be an ImageSet, got str; make one with from_folder"),
        (nn.Flatten(), torch.zeros(2, 1, 6, 6), "must be an ImageSet, got Tensor"),
        ("net", pictures(2), "must be a torch nn.Module, got str$"),
        (Trained(), pictures(2), r"must be a torch nn.Module, got Trained; pass its \.net"),
    ],
)
def test_what_is_no_net_or_no_pictures_is_refused_in_words(net, images, message):
    with pytest.raises(TypeError, match=message):
        embed(net, images)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_names_nobody_is_refused(label):
    with pytest.raises(
        ValueError, match=f"labels must be from 0 to 1, .* got {min(label, 0)} to .*; torch.unique"
    ):
        Embeddings(torch.eye(2), torch.tensor([0, label]), ("anna", "bob"), ("1.png", "2.png"))


def test_arrays_and_lists_instead_of_tensors_are_refused_in_words():
    people, names = ("anna", "bob"), ("1.png", "2.png")
    with pytest.raises(TypeError, match=r"vectors must be a tensor, got ndarray; torch.as_tensor"):
        Embeddings(torch.eye(2).numpy(), torch.tensor([0, 1]), people, names)
    with pytest.raises(TypeError, match="labels must be a tensor, got list"):
        Embeddings(torch.eye(2), [0, 1], people, names)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"labels": torch.tensor([0.0, 1.0])}, ValueError, r"whole numbers.*float32; labels.long"),
        ({"identities": ("anna", "anna")}, ValueError, "name of their own, but 'anna' stands more"),
        ({"distance": "cosine"}, TypeError, "must be a function .* such as siamlearn.cosine, got"),
        ({"images": pictures(3)}, ValueError, "same order, got 3 images for 2 embeddings"),
        ({"trained_on": ("anna",)}, ValueError, r"SHA-256 of names.*got 'anna'; .*known\(names\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_they_mislead(wrong, error, message):
    parts = {"labels": torch.tensor([0, 1]), "identities": ("anna", "bob"), "names": ("1", "2")}
    with pytest.raises(error, match=message):
        Embeddings(**{"vectors": torch.eye(2), **parts, **wrong})
