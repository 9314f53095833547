"""Batches by address: the same ones from any place, with or without workers."""

import signal

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
)

from siamlearn.data.samplers import PairSampler
from siamlearn.train.feed import Feed
from siamlearn.train.randomness import kept_generators


@pytest.fixture(autouse=True)
def _kept():
    with kept_generators():
        yield


def numbers(n=12):
    return TensorDataset(torch.arange(n).float(), torch.arange(n))


class Lazy(Sampler):
    """Draws as it goes, and from the global generators."""

    def __len__(self):
        return 6

    def __iter__(self):
        for _ in range(6):
            yield [int(torch.randint(12, ())), int(np.random.randint(12))]


class Stream(IterableDataset):
    def __iter__(self):
        for _ in range(12):
            yield torch.rand(()), torch.tensor(0)


class Drawn:
    """An iterable that draws its batches, and knows no length."""

    def __iter__(self):
        for _ in range(6):
            yield torch.rand(2), torch.tensor([0, 0])


SOURCES = {
    "ours": lambda: DataLoader(
        numbers(), batch_sampler=PairSampler(torch.arange(12) % 4, pairs=1, batches=6)
    ),
    "shuffled": lambda: DataLoader(numbers(), batch_size=2, shuffle=True),
    "own generator": lambda: DataLoader(
        numbers(), batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
    "sampler's generator": lambda: DataLoader(
        numbers(),
        batch_sampler=BatchSampler(
            RandomSampler(numbers(), generator=torch.Generator().manual_seed(3)), 2, False
        ),
    ),
    "drawn beforehand": lambda: DataLoader(numbers(), batch_sampler=[[k, k + 1] for k in range(6)]),
    "lazy": lambda: DataLoader(numbers(), batch_sampler=Lazy()),
    "workers": lambda: DataLoader(numbers(), batch_size=2, shuffle=True, num_workers=2),
    "persistent": lambda: DataLoader(
        numbers(), batch_size=2, shuffle=True, num_workers=2, persistent_workers=True
    ),
    "stream": lambda: DataLoader(Stream(), batch_size=2),
    "list": lambda: list(SOURCES["ours"]()),
    "iterable": lambda: Drawn(),
}


def images(feed, epoch, start=0, pollute=False):
    seen = []
    for batch in feed.batches(epoch, start=start):
        seen.append(batch.images.tolist())
        if pollute:
            torch.rand(7)
            np.random.rand(3)
    return seen


@pytest.mark.parametrize("kind", SOURCES)
def test_any_place_of_any_epoch_gives_the_same_batches(kind):
    whole = Feed(SOURCES[kind](), seed=1)
    epochs = [images(whole, epoch) for epoch in range(2)]
    assert len(epochs[0]) == 6
    if kind not in ("list", "drawn beforehand"):
        assert epochs[0] != epochs[1]
    entered = Feed(SOURCES[kind](), seed=1)
    torch.rand(5)
    for epoch, start in [(1, 4), (0, 0), (1, 1), (0, 6)]:
        assert images(entered, epoch, start, pollute=True) == epochs[epoch][start:]


@pytest.mark.parametrize("kind", ["shuffled", "own generator", "lazy", "stream", "iterable"])
def test_another_seed_gives_others(kind):
    assert images(Feed(SOURCES[kind](), seed=1), 0) != images(Feed(SOURCES[kind](), seed=2), 0)


def test_our_batches_are_those_of_the_sampler(tiny):
    pictures = tiny.pictures()
    sampler = PairSampler(pictures.labels, pairs=3, batches=5)
    batches = list(Feed(DataLoader(pictures, batch_sampler=sampler), seed=0).batches(3, start=2))
    for k, batch in enumerate(batches, start=2):
        assert batch.indices == sampler.batch(3, k)
        assert torch.equal(batch.images, pictures.pixels[batch.indices])
        assert torch.equal(batch.labels, pictures.labels[batch.indices])
    assert len(batches) == 3


def test_a_collate_function_of_ones_own_is_called(tiny):
    def halved(items):
        return torch.stack([pixels / 2 for pixels, _ in items]), torch.tensor([y for _, y in items])

    loader = DataLoader(tiny.pictures(), batch_size=3, collate_fn=halved)
    first = next(Feed(loader, seed=0).batches(0))
    assert torch.equal(first.images, tiny.pictures().pixels[:3] / 2)
    assert list(first.indices) == [0, 1, 2]


def test_a_transform_draws_by_picture_and_epoch_and_not_by_batch(tiny):
    jittered = tiny.batches().dataset
    one, two = (DataLoader(jittered, batch_size=size) for size in (3, 4))
    by_three = torch.cat([batch.images for batch in Feed(one, seed=0).batches(1)])
    by_four = torch.cat([batch.images for batch in Feed(two, seed=0).batches(1)])
    other_epoch = torch.cat([batch.images for batch in Feed(two, seed=0).batches(2)])
    assert torch.equal(by_three, by_four)
    assert not torch.equal(by_four, other_epoch)


class Asks(Dataset):
    """Whether the process that reads ignores Ctrl-C, and what its start function left there."""

    started = False

    def __len__(self):
        return 2

    def __getitem__(self, index):
        ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return torch.tensor(ignores), torch.tensor(Asks.started)


def start(worker):
    Asks.started = True


def test_workers_ignore_ctrl_c_and_run_their_start_function():
    loader = DataLoader(Asks(), batch_size=2, num_workers=1, worker_init_fn=start)
    batch = next(Feed(loader, seed=0).batches(0))
    assert batch.images.tolist() == [True, True]
    assert batch.labels.tolist() == [True, True]
    assert not Asks.started


def test_length_is_known_or_none():
    assert Feed(SOURCES["shuffled"](), seed=0).length == 6
    assert Feed(SOURCES["iterable"](), seed=0).length is None
    assert Feed(SOURCES["stream"](), seed=0).length is None


def test_pictures_are_named_or_numbered(tiny):
    named = Feed(DataLoader(tiny.pictures(), batch_size=2), seed=0)
    assert named.described(next(named.batches(0))) == "pictures p0/0.png, p0/1.png"
    many = Feed(DataLoader(tiny.pictures(), batch_size=12), seed=0)
    assert many.described(next(many.batches(0))).endswith("p1/0.png, p1/1.png and 7 more")
    numbered = Feed(DataLoader(numbers(), batch_size=2), seed=0)
    assert numbered.described(next(numbered.batches(0, start=1))) == "pictures 2, 3"


class Files(Dataset):
    """Pictures that are read when they are asked for, of which one is broken."""

    def __init__(self, names=None):
        if names is not None:
            self.names = names

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == 7:
            msg = "image file is truncated"
            raise OSError(msg)
        return torch.tensor(float(index)), torch.tensor(index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("names", [None, [f"p{i}.png" for i in range(12)]])
def test_a_picture_that_cannot_be_read_is_named(workers, names):
    feed = Feed(DataLoader(Files(names), batch_size=3, num_workers=workers), seed=0)
    batches = feed.batches(0)
    assert [next(batches).indices for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    called = "7" if names is None else "p7.png"
    with pytest.raises(ValueError, match=f"picture {called} cannot be read: OSError: image file"):
        next(batches)


def test_a_place_beyond_the_last_picture_is_said_as_it_is():
    feed = Feed(DataLoader(tensors := numbers(), batch_sampler=[[3, 12]]), seed=0)
    tensors.names = [f"p{i}.png" for i in range(12)]
    with pytest.raises(ValueError, match="picture 12 cannot be read: IndexError"):
        next(feed.batches(0))


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (torch.zeros(3), "Tensor"),
        ((torch.zeros(3), [0, 1, 2]), "tuple of Tensor, list"),
        ((torch.zeros(3),), "tuple of Tensor"),
        (7, "int"),
    ],
)
def test_what_is_no_batch_is_refused(item, kind):
    with pytest.raises(ValueError, match=rf"\(images, labels\), but one is a {kind}$"):
        next(Feed([item], seed=0).batches(0))


def test_a_loader_of_single_pictures_is_refused():
    with pytest.raises(ValueError, match="batch_size=None"):
        Feed(DataLoader(numbers(), batch_size=None), seed=0)


def test_our_sampler_in_the_place_of_another_kind_is_refused(tiny):
    images = tiny.pictures()
    sampler = PairSampler(images.labels, pairs=2)
    says = "a PairSampler gives whole batches: pass it as batch_sampler=, not as sampler="
    for size in (1, None):
        with pytest.raises(ValueError, match=says):
            Feed(DataLoader(images, sampler=sampler, batch_size=size), seed=0)


def test_pictures_without_batches_are_refused(tiny):
    with pytest.raises(ValueError, match=r"wrap it: DataLoader\(images, batch_sampler="):
        Feed(tiny.pictures(), seed=0)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_description_is_the_same_before_and_after_an_epoch(kind):
    before = Feed(SOURCES[kind](), seed=1).description
    feed = Feed(SOURCES[kind](), seed=1)
    images(feed, 0)
    assert feed.description == before
