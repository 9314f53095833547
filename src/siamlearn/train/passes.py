"""How a batch goes through the net and the loss, and its gradient back, in one piece or in many.

In many pieces: the net embeds each without remembering how; the loss, which needs the batch as a
whole, gives its gradient at the embeddings; then each piece is embedded again, and its part of
that gradient goes back through the net. So memory is that of one piece, and the gradient that of
the whole batch, whatever the loss, its miner or its proxies, where no layer mixes pictures.

Axes: n pictures of a batch, d embedding dimensions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from siamlearn import ranks
from siamlearn.data.moving import moved
from siamlearn.data.randomness import address
from siamlearn.nn.losses import SumLoss
from siamlearn.nn.losses.pair_loss import PairLoss
from siamlearn.nn.losses.regularisers import Regulariser
from siamlearn.nn.ranks import Ranks, in_order, share_of_gradient
from siamlearn.nn.synchronised import running_statistics
from siamlearn.train.randomness import seed_torch

if TYPE_CHECKING:
    from siamlearn.train.feed import Batch

__all__ = ["PRECISIONS", "Passes", "Place", "backward_in_pieces", "channels_last", "cost"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

Augmentation = Callable[..., Tensor]


class Place(NamedTuple):
    """Where in a run a batch is: what is drawn for it is a function of that.

    Example:
        >>> Place("forward", step=7).piece(rank=0, piece=0)
        ('forward', 7, 0)
    """

    domain: str
    step: int
    part: int = 0

    def piece(self, *, rank: int, piece: int) -> tuple[str | int, ...]:
        """The address of a piece on a rank."""
        # The first piece of the first rank is what a batch in one piece has always been.
        more = (rank, piece) if rank or piece else ()
        return self.domain, self.step, self.part, *more


@final
class Passes:
    """The way through net and loss, and back.

    Args:
        net: images to embeddings.
        criterion: embeddings and labels to a number.
        device: where they are.
        seed: of all that is drawn.
        precision: one of ``PRECISIONS``.
        augment: from floats and a generator to floats.
        micro_batch: pictures in a piece; all of the batch if left out.
        compile: whether ``torch.compile`` is to make the net quicker, or by which backend.

    Attributes:
        embeddings, labels: of the last batch that went back, without gradient.

    Example:
        >>> passes = Passes(nn.Flatten(), nn.MSELoss(), torch.device("cpu"), seed=0)
        >>> passes.floats(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item()
        1.0
    """

    def __init__(
        self,
        net: nn.Module,
        criterion: Callable[[Tensor, Tensor], Tensor],
        device: torch.device,
        *,
        seed: int,
        precision: str = "float32",
        augment: Augmentation | None = None,
        micro_batch: int | None = None,
        compile: bool | str = False,
    ) -> None:
        self.net, self.criterion, self.device, self.seed = net, criterion, device, seed
        self.dtype, self.augment, self.micro_batch = PRECISIONS[precision], augment, micro_batch
        self.run: Callable[[Tensor], Tensor] = net
        if compile:
            # A piece, or a last batch, may be shorter: that is to be no reason to compile anew.
            backend = compile if isinstance(compile, str) else "inductor"
            self.run = torch.compile(net, backend=backend, dynamic=None)
        self.statistics = running_statistics(net)
        self.embeddings: Tensor | None = None
        self.labels: Tensor | None = None
        self._generator = torch.Generator()
        self._by_place = augment is not None and "places" in inspect.signature(augment).parameters

    def backward(self, batch: Batch, place: Place, *, scale: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss of a batch, whose gradient is added to that of the parameters.

        Args:
            scale: what is differentiated instead of the loss itself.
        """
        labels = moved(batch.labels, self.device)
        embed, pieces = self._embedder(batch, place), self._pieces(len(labels))

        def price(embeddings: Tensor) -> Tensor:
            self.embeddings, self.labels = embeddings.detach(), labels
            with in_order(batch.places, batch.whole):
                loss = cost(self.criterion, embeddings, labels)
                torch.autograd.backward(scale(loss))
            return loss.detach()

        if len(pieces) > 1 or self._others_in_pieces():
            return backward_in_pieces(embed, price, pieces, statistics=self.statistics)
        return price(embed(0, pieces[0]))

    @torch.no_grad()
    def loss(self, batch: Batch, place: Place) -> Tensor:
        """The loss of a batch, for itself."""
        labels = moved(batch.labels, self.device)
        embed = self._embedder(batch, place, augment=False)
        pieces = enumerate(self._pieces(len(labels)))
        embeddings = torch.cat([embed(number, rows) for number, rows in pieces])
        with in_order(batch.places, batch.whole):
            return cost(self.criterion, embeddings, labels)

    def floats(self, images: Tensor) -> Tensor:
        """Pictures on the device, as floats from 0 to 1."""
        images = moved(images, self.device)
        if images.dtype != torch.uint8:
            return images
        return images.to(torch.get_default_dtype()).div_(255)

    def _embedder(
        self, batch: Batch, place: Place, *, augment: bool = True
    ) -> Callable[[int, slice], Tensor]:
        """From the number of a piece, and its rows, to its embeddings: each time the same ones."""
        rank, _ = ranks.world()
        augmented = self._augmented(batch, place) if augment and self.augment else None

        def embed(piece: int, rows: slice) -> Tensor:
            domain, *where = place.piece(rank=rank, piece=piece)
            images = self.floats(batch.images[rows]) if augmented is None else augmented(rows)
            seed_torch(self.device, domain, self.seed, *where)
            with self._autocast():
                embeddings = self.run(images)
            # Losses in full precision: they subtract numbers that are nearly equal.
            return embeddings if self.dtype is None else embeddings.float()

        return embed

    def _augmented(self, batch: Batch, place: Place) -> Callable[[slice], Tensor]:
        augment = self.augment
        assert augment is not None
        seed = address("augment", self.seed, place.step, place.part)

        if not self._by_place:
            # It draws for a batch as it comes, so that it must come in one piece.
            rank, _ = ranks.world()
            if rank:
                seed = address("augment", self.seed, place.step, place.part, rank)
            whole = augment(self.floats(batch.images), self._generator.manual_seed(seed))
            return lambda rows: whole[rows]
        places = batch.places
        if places is None:
            places = torch.arange(len(batch.labels))

        def some(rows: slice) -> Tensor:
            images, generator = self.floats(batch.images[rows]), self._generator.manual_seed(seed)
            outcome: Tensor = augment(images, generator, places=places[rows])
            return outcome

        return some

    def _pieces(self, n: int) -> list[slice]:
        size = self.micro_batch or max(1, n)
        return [slice(start, start + size) for start in range(0, n, size)] or [slice(0, 0)]

    def _others_in_pieces(self) -> bool:
        # All ranks go one way: in one piece batch norms wait for each other.
        return self.micro_batch is not None and not ranks.alone()

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)


def backward_in_pieces(
    embed: Callable[[int, slice], Float[Tensor, "p d"]],
    price: Callable[[Float[Tensor, "n d"]], Tensor],
    pieces: list[slice],
    *,
    statistics: list[Tensor] | None = None,
) -> Tensor:
    """What a batch costs, and its gradient, with no more than one piece of it in memory.

    Args:
        embed: from the number of a piece, and its rows, to embeddings; called twice for each
            piece, and the second time it must give the same.
        price: from the embeddings of all to what ``backward`` was called for.
        pieces: the rows of each piece, in their order.
        statistics: buffers that ``embed`` keeps account in, to be done once, not twice.

    Example:
        >>> net, images = nn.Linear(3, 2), torch.eye(3)
        >>> def price(embeddings):
        ...     loss = embeddings.square().sum() ** 2
        ...     loss.backward()
        ...     return loss.detach()
        >>> halves = [slice(0, 2), slice(2, 3)]
        >>> _ = backward_in_pieces(lambda piece, rows: net(images[rows]), price, halves)
        >>> net.weight.grad.shape
        torch.Size([2, 3])

    Source:
        Gao et al.: Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
        RepL4NLP 2021, sec. 3.2.
    """
    before = [buffer.clone() for buffer in statistics or ()]
    with torch.no_grad():
        whole = torch.cat([embed(number, rows) for number, rows in enumerate(pieces)])
    for buffer, value in zip(statistics or (), before, strict=True):
        buffer.copy_(value)
    end = whole.requires_grad_()
    loss = price(end)
    if end.grad is not None:
        for number, rows in enumerate(pieces):
            torch.autograd.backward(embed(number, rows), end.grad[rows])
    return loss


def cost(
    criterion: Callable[[Tensor, Tensor], Tensor],
    embeddings: Float[Tensor, "n d"],
    labels: Shaped[Tensor, "n ..."],
) -> Tensor:
    """The loss of the batch of all ranks, whether or not the loss knows of them.

    Example:
        >>> cost(lambda embeddings, labels: embeddings.sum(), torch.ones(2, 3), torch.arange(2))
        tensor(6.)
    """
    if ranks.alone() or isinstance(criterion, PairLoss | Regulariser):
        return criterion(embeddings, labels)
    if isinstance(criterion, SumLoss):
        parts = zip(criterion.losses, criterion.weights, strict=True)
        return torch.stack([w * cost(part, embeddings, labels) for part, w in parts]).sum()
    # Each rank computes the whole of it, and is to answer for its share.
    everyone, names, _ = Ranks()(embeddings, labels)
    assert names is not None
    return share_of_gradient(criterion(everyone, names))


def channels_last(net: nn.Module) -> nn.Module:
    """The net with its convolutions' weights in the memory order that is a third faster.

    Example:
        >>> channels_last(nn.Conv2d(2, 2, 3)).weight.is_contiguous()
        False
    """
    for parameter in net.parameters():
        if parameter.ndim == 4:
            # contiguous() would leave a convolution of one channel as it is, and slow.
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return net
