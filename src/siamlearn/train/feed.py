"""Batches by address: batch k of epoch e is the same one, whoever asks for it and when.

A loader whose batch sampler has ``batch(epoch, k)``, as ours have, can be entered anywhere. Any
other is read from the start of the epoch: with a map-style dataset only the indices are skipped,
and from a list or an iterable the batches themselves.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import cached_property
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate

from siamlearn import ranks
from siamlearn.data.image_set import ImageSet
from siamlearn.data.randomness import address
from siamlearn.data.samplers import BatchSampler
from siamlearn.known import known
from siamlearn.train import describing
from siamlearn.train.describing import RandomAccess
from siamlearn.train.randomness import seed_everything

__all__ = ["Batch", "Feed"]

Place = tuple[int, int]  # epoch, index of the picture
Share = tuple[list[int], Tensor | None, int]  # indices, their places in a batch, and its length
SHOWN = 5  # pictures named in a message


class Batch(NamedTuple):
    """Images, labels, and where they came from, if that is known.

    The share of one rank of several also has the places of its pictures in the batch, and says
    how many pictures the whole batch has.

    Example:
        >>> Batch(torch.zeros(2, 3), torch.tensor([0, 1])).labels.tolist()
        [0, 1]
    """

    images: Tensor
    labels: Tensor
    indices: Sequence[int] | None = None
    places: Tensor | None = None
    whole: int | None = None


@final
class Feed:
    """The batches of any epoch from any place in it.

    Pictures of an :class:`ImageSet` are taken from memory in one piece, without workers. Of
    several ranks each reads its share of every batch.

    Args:
        source: a DataLoader, or an iterable of ``(images, labels)``.
        seed: what a transform or a sampler draws is a function of it, and of the address.

    Raises:
        ValueError: when the source gives single pictures, or the loader got our sampler of
            batches as a sampler of pictures.

    Example:
        >>> batches = [(torch.zeros(2, 3), torch.tensor([0, 1]))] * 4
        >>> len(list(Feed(batches, seed=0).batches(epoch=0, start=1)))
        3
    """

    def __init__(self, source: Iterable[Any], *, seed: int) -> None:
        if isinstance(source, ImageSet):
            msg = (
                "an ImageSet gives single pictures, and a loss needs batches; wrap it: "
                "DataLoader(images, batch_sampler=PairSampler(images.labels, pairs=32))"
            )
            raise ValueError(msg)
        self.source, self.seed = source, seed
        self.dataset: Any = getattr(source, "dataset", None)
        self._places: _Places | None = None
        self._loader: DataLoader[Any] | None = None
        if isinstance(source, DataLoader) and not isinstance(source.dataset, IterableDataset):
            self._places = _Places(source, seed)
            if not _in_memory(source):
                self._loader = _addressed(source, self._places)

    @property
    def length(self) -> int | None:
        """Batches in an epoch, where that is known beforehand."""
        try:
            return len(cast(Sized, self.source))
        except TypeError:
            return None

    @property
    def parts(self) -> int:
        """In how many parts of equal length a batch comes, of which row i belongs with row i."""
        sampler = None if self._places is None else self._places.sampler
        return sampler.parts if isinstance(sampler, BatchSampler) else 1

    @cached_property
    def description(self) -> dict[str, str]:
        """What the pictures are and which of them meet: the same text for the same batches."""
        if not isinstance(self.source, DataLoader):
            return {"data": describing.written_data(self.source), "sampler": ""}
        sampler = "" if self._places is None else describing.written_sampler(self._places.sampler)
        return {"data": describing.written_data(self.dataset), "sampler": sampler}

    def batches(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch ``start`` on."""
        if self._places is None:
            yield from self._read(epoch, start)
        elif self._loader is None:
            for indices, places, whole in self._places.shares(epoch, start):
                chosen = torch.as_tensor(indices, dtype=torch.int64)
                # Twenty times as fast as pixels[chosen].
                images = self.dataset.pixels.index_select(0, chosen)
                labels = self.dataset.labels.index_select(0, chosen)
                yield Batch(images, labels, indices, places, whole)
        else:
            self._places.enter(epoch, start)
            for item in self._loader:
                yield _batch(item, *self._places.asked.popleft())

    def note_people(self, net: object) -> None:
        """Tell a net that keeps account of it whom it is about to be trained on, if that is known.

        An ``EmbeddingNet`` does, and the pictures of an ``ImageSet`` have names of people.
        """
        if hasattr(net, "trained_on") and isinstance(self.dataset, ImageSet):
            net.trained_on = tuple(sorted({*net.trained_on, *known(self.dataset.people)}))

    def described(self, batch: Batch) -> str:
        """Which pictures a batch has: the first names where they have any, else the places."""
        if batch.indices is None:
            return f"{len(batch.labels)} pictures of unknown name"
        shown = [_name(self.dataset, index) for index in batch.indices[:SHOWN]]
        others = len(batch.indices) - len(shown)
        return f"pictures {', '.join(shown)}" + (f" and {others} more" if others else "")

    def _read(self, epoch: int, start: int) -> Iterator[Batch]:
        seed_everything("order", self.seed, epoch, 0)
        items = iter(self.source)
        for k in range(2**62):
            seed_everything("order", self.seed, epoch, k)
            try:
                item = next(items)
            except StopIteration:
                return
            if k >= start:
                images, labels, *_ = _batch(item)
                whole = len(labels)
                places = _mine(whole, parts=1)
                if places is not None:
                    images, labels = images[places], labels[places]
                yield Batch(images, labels, None, places, whole)


@final
class _Places(Sampler[list[Place]]):
    """The index lists of a batch sampler, each index beside its epoch."""

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.sampler, self.seed = _index_lists(loader), seed
        parts = (loader, loader.sampler, self.sampler, getattr(self.sampler, "sampler", None))
        given = [getattr(part, "generator", None) for part in parts]
        self.generators = [drawn for drawn in given if isinstance(drawn, torch.Generator)]
        self.epoch = self.start = 0
        self.asked: deque[Share] = deque()

    def enter(self, epoch: int, start: int) -> None:
        self.epoch, self.start = epoch, start
        self.asked.clear()

    def __len__(self) -> int:
        return len(cast(Sized, self.sampler))

    def __iter__(self) -> Iterator[list[Place]]:
        for share in self.shares(self.epoch, self.start):
            self.asked.append(share)
            yield [(self.epoch, index) for index in share[0]]

    def shares(self, epoch: int, start: int) -> Iterator[Share]:
        """What this rank has of each batch, where in it that stands, and how long it is."""
        parts = self.sampler.parts if isinstance(self.sampler, BatchSampler) else 1
        for indices in self.indices(epoch, start):
            places = _mine(len(indices), parts=parts)
            mine = indices if places is None else [indices[i] for i in places.tolist()]
            yield mine, places, len(indices)

    def indices(self, epoch: int, start: int) -> Iterator[list[int]]:
        if isinstance(self.sampler, BatchSampler):
            yield from self.sampler.from_batch(epoch, start)
            return
        if isinstance(self.sampler, RandomAccess):
            for k in range(start, len(self.sampler)):
                yield self.sampler.batch(epoch, k)
            return
        # A sampler may draw when it starts or as it goes, and from the global generators.
        for generator in self.generators:
            generator.manual_seed(address("order", self.seed, epoch))
        seed_everything("order", self.seed, epoch, 0)
        drawn = iter(self.sampler)
        for k in range(2**62):
            seed_everything("order", self.seed, epoch, k)
            indices = next(drawn, None)
            if indices is None:
                return
            if k >= start:
                yield indices


@final
class _Seeded(Dataset[Any]):
    """A dataset whose transforms draw by (seed, epoch, index), in whichever process they run."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, place: Place) -> Any:
        epoch, index = place
        seed_everything("picture", self.seed, epoch, index)
        try:
            return self.dataset[index]
        except Exception as error:
            kind = type(error).__name__
            msg = f"picture {_name(self.dataset, index)} cannot be read: {kind}: {error}"
            raise ValueError(msg) from error


@final
class _Undisturbed:
    """A worker that leaves Ctrl-C, which a terminal sends to all processes, to the trainer."""

    def __init__(self, start: Callable[[int], object] | None) -> None:
        self.start = start

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.start is not None:
            self.start(worker)


def _name(dataset: Any, index: int) -> str:
    """What a picture is called, or its place."""
    names = getattr(dataset, "names", None)
    return str(index if names is None or index >= len(names) else names[index])


def _mine(n: int, *, parts: int) -> Tensor | None:
    """Which of n pictures are this rank's: the same rows of each part; None if all are."""
    rank, count = ranks.world()
    if count == 1:
        return None
    rows = n // parts
    return (
        torch.arange(n)
        .view(parts, rows)[:, rows * rank // count : rows * (rank + 1) // count]
        .flatten()
    )


def _index_lists(loader: DataLoader[Any]) -> Iterable[list[int]]:
    if isinstance(loader.sampler, BatchSampler):
        kind = type(loader.sampler).__name__
        msg = f"a {kind} gives whole batches: pass it as batch_sampler=, not as sampler="
        raise ValueError(msg)
    if loader.batch_sampler is None:
        msg = (
            "the loader gives single pictures (batch_size=None), and a loss needs batches; "
            "pass batch_size or batch_sampler"
        )
        raise ValueError(msg)
    return loader.batch_sampler


def _in_memory(loader: DataLoader[Any]) -> bool:
    return isinstance(loader.dataset, ImageSet) and loader.collate_fn is default_collate


def _addressed(loader: DataLoader[Any], places: _Places) -> DataLoader[Any]:
    return DataLoader(
        _Seeded(loader.dataset, places.seed),
        batch_sampler=places,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=_Undisturbed(loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _batch(
    item: Any,
    indices: Sequence[int] | None = None,
    places: Tensor | None = None,
    whole: int | None = None,
) -> Batch:
    if isinstance(item, tuple | list) and len(item) == 2:
        images, labels = item
        if isinstance(images, Tensor) and isinstance(labels, Tensor):
            return Batch(images, labels, indices, places, whole)
    kind = type(item).__name__
    if isinstance(item, tuple | list):
        kind += f" of {', '.join(type(part).__name__ for part in item)}"
    msg = f"a batch must be a pair of tensors, (images, labels), but one is a {kind}"
    raise ValueError(msg)
