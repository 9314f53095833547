"""A learning rate is found, and whoever asked for it is left as they were."""

import math
import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from siamlearn.nn.losses import ContrastiveLoss, CurricularFaceLoss, SupConLoss
from siamlearn.nn.references import Memory
from siamlearn.train.callbacks import Callback
from siamlearn.train.finding_rate import RangeTest, find_learning_rate
from siamlearn.train.trainer import Trainer


def insides(thing, seen=None):
    """All that is reachable from a trainer, as a flat list of values; tensors as bytes."""
    seen = {} if seen is None else seen
    if isinstance(thing, torch.Tensor):
        known = thing.detach().cpu().contiguous()
        extra = (thing.requires_grad, thing.stride(), thing.data_ptr())
        grad = [] if not thing.is_leaf or thing.grad is None else insides(thing.grad, seen)
        return [str(known.dtype), known.numpy().tobytes(), extra, *grad]
    if isinstance(thing, torch.Generator):
        return [thing.get_state().numpy().tobytes()]
    if isinstance(thing, float | int | str | bool | None):
        return [repr(thing)]
    if id(thing) in seen:
        return [seen[id(thing)][0]]
    seen[id(thing)] = len(seen), thing  # kept, so that no other thing gets its id
    if isinstance(thing, dict):
        return [x for key, value in thing.items() for x in (str(key), *insides(value, seen))]
    if isinstance(thing, list | tuple | set):
        return [x for value in thing for x in insides(value, seen)]
    if isinstance(thing, np.random.Generator):
        return [repr(thing.bit_generator.state)]
    if callable(thing) and not hasattr(thing, "parameters"):
        return [type(thing).__name__]
    return [type(thing).__name__, *insides(getattr(thing, "__dict__", {}), seen)]


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


class Counting(nn.Module):
    """A net with what a state_dict lacks: a buffer that is not saved, and a number."""

    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, 0
        self.register_buffer("sum", torch.zeros(4), persistent=False)

    def forward(self, images):
        self.calls += 1
        embeddings = self.net(images)
        self.sum += embeddings.detach().sum(0)
        return embeddings


class Jitter:
    """An augmentation with a generator of its own."""

    def __init__(self):
        self.draws = np.random.default_rng(0)

    def __call__(self, images, generator):
        return images + 0.01 * self.draws.standard_normal()


def counting(tiny, loss, **options):
    model = Counting(tiny.net())
    optimizer, schedule = tiny.adamw(list(model.parameters()))
    return Trainer(
        model, loss, optimizer, schedule=schedule, callbacks=[Refuse()], device="cpu", **options
    )


class Refuse(Callback):
    """Let nothing be trained while ``armed``."""

    armed = False

    def on_step_end(self, trainer):
        assert not self.armed


LOSSES = [
    lambda: SupConLoss(temperature=0.1, learned=True),
    lambda: CurricularFaceLoss(4, 4),
    lambda: ContrastiveLoss(references=Memory(16)),
]


@pytest.mark.parametrize("loss", LOSSES, ids=["temperature", "proxies", "memory"])
@pytest.mark.parametrize("trained", [0, 1])
@pytest.mark.parametrize("options", [{"average": 0.9}, {"accumulate": 2, "clip": 1.0}])
def test_the_trainer_is_left_as_it_was_to_the_last_bit(tiny, loss, trained, options):
    trainer = counting(tiny, loss(), augment=Jitter(), **options)
    if trained:
        trainer.fit(tiny.batches(number=3), epochs=1)
    trainer.callbacks[0].armed = True
    trainer.net.train(not trained)
    before, drawn = insides(trainer), generators()
    assert len(find_learning_rate(trainer, tiny.batches(), steps=12).losses) > 1
    assert insides(trainer) == before
    assert generators() == drawn


def test_what_is_compared_would_show_a_single_step(tiny):
    trainer = counting(tiny, SupConLoss(temperature=0.1, learned=True))
    before = insides(trainer)
    trainer.fit(tiny.batches(number=1), epochs=1)
    assert insides(trainer) != before


def test_training_afterwards_is_as_if_nothing_had_been_tried(tiny):
    def digest(*, tried):
        trainer = tiny.trainer(tiny.adamw, average=0.9)
        if tried:
            find_learning_rate(trainer, tiny.batches(), steps=15)
        return tiny.digest(trainer.fit(tiny.batches(), epochs=2))

    assert digest(tried=True) == digest(tried=False)


def test_the_loaders_generators_are_left_as_they_were(tiny):
    images = tiny.pictures()
    generator, order = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    loader = DataLoader(
        images, batch_size=6, sampler=RandomSampler(images, generator=order), generator=generator
    )
    before = generator.get_state(), order.get_state()
    find_learning_rate(tiny.trainer(), loader, steps=10)
    assert torch.equal(generator.get_state(), before[0])
    assert torch.equal(order.get_state(), before[1])


class Line(nn.Module):
    """One weight, whose loss is its own square: a step multiplies it by 1 - 2 rate."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, images):
        return self.weight.expand(len(images), 1)


def line(loss=lambda embeddings, labels: embeddings.square().mean()):
    net = Line()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return Trainer(net, loss, optimizer, callbacks=(), device="cpu")


BATCHES = [(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))] * 3


def test_each_rate_is_beside_the_loss_after_its_step():
    found = find_learning_rate(line(), BATCHES, lowest=1e-3, highest=0.4, steps=20)
    weight, expected = 1.0, []
    for rate in found.rates:
        weight -= rate * 2 * weight
        expected.append(weight**2)
    assert found.before == 1.0
    assert found.losses == pytest.approx(expected, rel=1e-6)
    assert found.rates[0] == 1e-3
    assert found.rates[-1] == pytest.approx(0.4)
    assert np.diff(np.log(found.rates)) == pytest.approx(math.log(400) / 19)


def test_it_ends_where_the_loss_explodes():
    # Beyond a rate of 1 every step makes the weight larger.
    found = find_learning_rate(line(), BATCHES, lowest=1e-3, highest=1e6, steps=60)
    assert 1 < found.rates[-1] < 1e6
    assert min(found.losses[-2:]) > 4 > max(found.losses[:-2])
    assert found.lowest < 1.2
    assert 0.01 < found.suggestion < 1


def test_batches_that_differ_much_are_no_explosion():
    images = [torch.full((2, 1), float(size)) for size in (1, 1, 100, 1)]
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    trainer = Trainer(net, lambda e, y: e.abs().mean(), optimizer, callbacks=(), device="cpu")
    batches = [(each, torch.zeros(2)) for each in images]
    found = find_learning_rate(trainer, batches, lowest=1e-9, highest=1e-8, steps=20)
    assert len(found.rates) == 20
    assert found.suggestion is None


def test_one_exploded_loss_does_not_hide_the_fall_before_it():
    losses = [*bowl(RATES, 1e-3)[:60], 1e30, 1e38]
    found = RangeTest(RATES[:62], losses, before=1.0)
    assert abs(math.log10(found.suggestion / 1e-3)) < 0.1


def test_it_ends_where_the_loss_is_not_finite():
    trainer = line(loss=lambda e, y: e.mean() / (e.mean() > 0.5))
    found = find_learning_rate(trainer, BATCHES, lowest=0.01, highest=10, steps=20)
    assert len(found.rates) == len(found.losses) < 20
    assert all(map(math.isfinite, found.losses))


def test_a_loss_that_is_not_finite_from_the_start_is_an_error(tiny):
    images = torch.full((2, 1), math.nan)
    net = nn.Linear(1, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    trainer = Trainer(net, lambda e, y: e.sum(), optimizer, callbacks=(), device="cpu")
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        find_learning_rate(trainer, [(images, torch.zeros(2))])


def test_groups_keep_their_proportion_whatever_the_schedule_is_at(tiny):
    seen = []

    class Spying(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([float(group["lr"]) for group in self.param_groups])
            return super().step(closure)

    first, *others = (net := tiny.net()).parameters()
    optimizer = Spying([{"params": [first], "lr": torch.tensor(0.2)}, {"params": others}], lr=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
    trainer = Trainer(net, ContrastiveLoss(), optimizer, schedule=schedule, device="cpu")
    found = find_learning_rate(trainer, tiny.batches(), steps=10, highest=1e-2)
    assert [rates[0] for rates in seen[:10]] == pytest.approx(found.rates)
    assert [rates[0] / rates[1] for rates in seen] == pytest.approx([4.0] * 11)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.0, 0.0]


def test_ctrl_c_is_for_whoever_called(tiny):
    trainer = tiny.trainer(augment=lambda images, generator: _interrupted(images))
    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(trainer, tiny.batches())


def _interrupted(images):
    signal.raise_signal(signal.SIGINT)
    return images


def bowl(rates, best, scatter=0.0, seed=0):
    """A loss that falls steepest at the rate ``best``, and rises beyond a hundred times that."""
    draws = random.Random(seed)
    values = [1 / (1 + (r / best) ** 2) + (r / best / 100) ** 2 for r in rates]
    return [value + draws.gauss(0, scatter) for value in values]


RATES = [10 ** (k / 15 - 6) for k in range(105)]


@given(st.floats(-4.5, -2), st.integers(0, 1000))
def test_the_steepest_fall_is_found_among_noise(exponent, seed):
    # By hand: 1 / (1 + x²) falls fastest over log x at x = 1. Smoothing moves it by little.
    found = RangeTest(RATES, bowl(RATES, 10**exponent, 0.02, seed), before=1.0)
    assert abs(math.log10(found.suggestion) - exponent) < 0.45
    assert found.suggestion < found.lowest < 100 * 10**exponent


def test_without_noise_it_is_the_steepest_point():
    found = RangeTest(RATES, bowl(RATES, 1e-3), before=1.0)
    assert abs(math.log10(found.suggestion / 1e-3)) < 0.05


def test_the_scale_of_the_loss_and_what_is_added_to_it_change_no_suggestion():
    losses = bowl(RATES, 1e-3, 0.02)
    other = RangeTest(RATES, [30 * loss - 100 for loss in losses], before=1.0)
    assert other.suggestion == RangeTest(RATES, losses, before=1.0).suggestion


def test_of_a_loss_that_does_not_fall_there_is_no_suggestion():
    rising = [1 + rate for rate in RATES]
    assert RangeTest(RATES, rising, before=1.0).suggestion is None
    noise = [
        RangeTest(RATES, [random.Random(seed).gauss(1, 0.1) for seed in range(s, s + 105)], 1.0)
        for s in range(0, 10500, 105)
    ]
    found = [test for test in noise if test.suggestion is not None]
    assert len(found) <= 5
    assert "no suggestion" in repr(RangeTest(RATES, rising, before=1.0))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lowest": 0.0}, "must rise from above zero"),
        ({"lowest": 1.0, "highest": 0.1}, "must rise from above zero"),
        ({"highest": math.inf}, "must rise from above zero"),
        ({"steps": 9}, "at least 10 rates"),
    ],
)
def test_other_numbers_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        find_learning_rate(line(), BATCHES, **wrong)
