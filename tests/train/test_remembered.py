"""A bad step leaves what a loss remembers as it was, and a good one copies little of it."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode

from siamlearn.nn.losses import (
    AdaFaceLoss,
    CurricularFaceLoss,
    InfoNCELoss,
    ProxyAnchorLoss,
    SupConLoss,
)
from siamlearn.nn.references import Memory, Proxies
from siamlearn.train.learning import remembered
from siamlearn.train.trainer import Trainer
from train.on_ranks import on_ranks


class OfOnesOwn(nn.Module):
    """Keeps account in all ways there are: in place, anew, ever more, unsaved, and as a number."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("latest", torch.zeros(4))
        self.register_buffer("all", torch.zeros(0, 4))
        self.register_buffer("unsaved", torch.zeros(()), persistent=False)
        self.register_buffer("first", None)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.number = 0

    def forward(self, embeddings, labels):
        here = embeddings.detach()
        self.mean.lerp_(here.mean(dim=0), 0.1)
        self.latest = here[-1].clone()
        self.all = torch.cat([self.all, here])
        self.unsaved += here.sum()
        if self.first is None:
            self.first = here[0].clone()
        self.number += len(here)
        self.seen.fill_(self.number)
        return embeddings.square().mean() + (embeddings * self.mean).mean()

    def _load_from_state_dict(self, state_dict, prefix, *how):
        super()._load_from_state_dict(state_dict, prefix, *how)
        self.number = int(self.seen)


class Both(nn.Module):
    """Two losses, one after the other, of the same embeddings."""

    def __init__(self, *losses):
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, embeddings, labels):
        return sum(loss(embeddings, labels) for loss in self.losses)


LOSSES = {
    "memory": lambda: SupConLoss(references=Memory(20)),
    "memory that is as long as a batch": lambda: SupConLoss(references=Memory(8)),
    "memory that warms up": lambda: SupConLoss(references=Memory(20, warm_up=3)),
    "two memories": lambda: (
        SupConLoss(references=Memory(9)) + InfoNCELoss(references=Memory(30, warm_up=1))
    ),
    "proxies": lambda: InfoNCELoss(references=Proxies(4, 4)),
    "some proxies": lambda: ProxyAnchorLoss(references=Proxies(30, 4, sample=0.5)),
    "progress": lambda: CurricularFaceLoss(4, 4),
    "lengths": lambda: AdaFaceLoss(4, 4),
    "of one's own": OfOnesOwn,
    "of one's own, twice": lambda: Both(OfOnesOwn(), OfOnesOwn()),
}


def a_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4))


def a_batch(place, *, bad=False):
    images = torch.randn(8, 6, generator=torch.Generator().manual_seed(place))
    images[3] += torch.nan if bad else 0.0
    return images, torch.arange(8) % 4


def state(loss):
    """All that it remembers, and what it counts besides."""
    numbers = {n: torch.tensor(vars(m).get("number", 0)) for n, m in loss.named_modules()}
    kept = {name: buffer.clone() for name, buffer in loss.named_buffers()}
    return {**{f"{name} number": value for name, value in numbers.items()}, **kept}


def trained(kind, *, before, bad, **options):
    """What loss and net have in them after some steps, one of which may be bad."""
    net, loss, each = a_net(), LOSSES[kind](), options.get("accumulate", 1)
    trainer = Trainer(net, loss, SGD(net.parameters(), lr=0.1), callbacks=(), **options)
    places = iter(range(1000))
    for _ in range(before):
        trainer.fit([a_batch(next(places)) for _ in range(each)], epochs=trainer.epoch + 1)
    if bad:
        was = state(loss)
        # The bad batch is the last of its step, when the loss has seen the others.
        step = [a_batch(500 + part, bad=part == each - 1) for part in range(each)]
        with pytest.raises(FloatingPointError):
            trainer.fit(step, epochs=trainer.epoch + 1)
        torch.testing.assert_close(state(loss), was, rtol=0, atol=0)
    for _ in range(3):
        trainer.fit([a_batch(next(places)) for _ in range(each)], epochs=trainer.epoch + 1)
    return {**state(loss), **net.state_dict()}


@pytest.mark.parametrize("options", [{}, {"accumulate": 3}, {"micro_batch": 3}], ids=str)
@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("kind", LOSSES)
def test_a_bad_step_leaves_no_trace_in_the_loss(kind, before, options):
    one, other = (trained(kind, before=before, bad=bad, **options) for bad in (True, False))

    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["memory", "two memories", "some proxies", "of one's own"])
def test_nor_does_it_on_several_ranks(tmp_path, kind):
    def work(rank):
        return [trained(kind, before=3, bad=bad, accumulate=2) for bad in (True, False)]

    for said in on_ranks(2, tmp_path, work):
        assert not isinstance(said, str), said
        one, other = said
        torch.testing.assert_close(one, other, rtol=0, atol=0)


class Written(TorchDispatchMode):
    """Counts the bytes of new tensors; of what shares memory with a buffer, none."""

    def __init__(self, module):
        super().__init__()
        self.known = {b.untyped_storage().data_ptr() for b in module.buffers()}
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            place = made.untyped_storage().data_ptr()
            self.bytes += 0 if place in self.known else made.untyped_storage().nbytes()
        return made


def test_what_a_step_copies_of_a_memory_does_not_grow_with_it():
    def copied(size):
        memory = Memory(size)
        memory(torch.ones(8, 4), torch.arange(8))
        with Written(memory) as written, remembered([], memory):
            memory(torch.ones(8, 4), torch.arange(8))
        return written.bytes

    assert copied(10_000) == copied(16)


def test_outside_of_a_step_nothing_is_noted():
    memory = Memory(16)
    with remembered([], memory) as put_back:
        memory(torch.ones(8, 4), torch.arange(8))
    memory(torch.zeros(8, 4), torch.arange(8))
    memory(torch.zeros(8, 4), torch.arange(8))
    put_back()

    assert (memory.filled, memory.pointer) == (0, 0)


def test_a_memory_that_is_captured_notes_the_same():
    plain, captured = Memory(20, dimensions=4), Memory(20, dimensions=4)
    captured.compile(fullgraph=True, backend="eager")
    for step in range(5):
        was = state(plain)
        with remembered([], plain) as put_back, remembered([], captured) as put_captured_back:
            for part in range(2):
                batch = torch.full((8, 4), step + part / 2), torch.arange(8)
                plain(*batch)
                captured(*batch)
        if step % 2 == 0:
            put_back()
            put_captured_back()
            torch.testing.assert_close(state(plain), was, rtol=0, atol=0)
        torch.testing.assert_close(state(captured), state(plain), rtol=0, atol=0)


def test_what_could_not_be_done_ends_the_noting():
    memory = Memory(16)
    with pytest.raises(KeyError), remembered([], memory):
        raise KeyError
    pickled = copy.deepcopy(memory)

    assert pickled.state_dict().keys() == memory.state_dict().keys()
    assert memory._replaced is None
