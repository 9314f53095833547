"""The loop: what a step does, what it refuses, and how it ends."""

import os
import random
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from siamlearn.data.samplers import PairSampler
from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.train import checkpoint
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.reporting import Progress
from siamlearn.train.trainer import Trainer


def pull(embeddings, labels):
    """The mean of the embeddings: its gradient is the mean of the pictures, easy by hand."""
    return embeddings.mean()


def root(embeddings, labels):
    """Finite at 0, where its gradient is not."""
    return embeddings.abs().sqrt().sum()


def line(weight=0.0):
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, weight)
    return net


def ones(value):
    return torch.full((2, 1), value), torch.tensor([0, 0])


def test_the_readme_line(tiny):
    train = tiny.pictures()
    net = tiny.net()
    batches = DataLoader(train, batch_sampler=PairSampler(train.labels, pairs=4, batches=10))
    trainer = Trainer(net, ContrastiveLoss(margin=1.0), Adam(net.parameters())).fit(
        batches, epochs=20
    )
    assert (trainer.epoch, trainer.step, len(trainer.log)) == (20, 200, 20)
    assert isinstance(trainer.callbacks[0], Progress)
    assert trainer.log[-1]["loss"] < trainer.log[0]["loss"]
    assert not net.training


def test_a_step_by_hand_with_accumulation_and_what_is_left_over():
    # Gradients are the batches' values: one step of mean(1, 2, 3), then one of the 6 left over.
    net = line()
    batches = [ones(1.0), ones(2.0), ones(3.0), ones(6.0)]
    trainer = Trainer(net, pull, SGD(net.parameters(), 0.5), accumulate=3, callbacks=())
    trainer.fit(batches, epochs=1)
    assert trainer.step == 2
    assert net.weight.item() == -0.5 * 2.0 - 0.5 * 6.0
    # Losses: 0 three times, and then weight -1 times 6; each batch counts alike.
    assert trainer.log == [{"epoch": 1, "step": 2, "loss": -6.0 / 4, "lr": 0.5}]
    assert trainer.loss == -6.0


def test_clip_shortens_a_long_gradient_and_leaves_a_short_one():
    net = line()
    trainer = Trainer(net, pull, SGD(net.parameters(), 1.0), clip=2.0, callbacks=())
    trainer.fit([ones(8.0)], epochs=1)
    assert net.weight.item() == pytest.approx(-2.0, rel=1e-5)
    trainer.fit([ones(0.5)], epochs=2)
    assert net.weight.item() == pytest.approx(-2.5, rel=1e-5)


def test_the_schedule_takes_one_step_for_each_update():
    net = line()
    optimizer = SGD(net.parameters(), 1.0)
    halving = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    trainer = Trainer(net, pull, optimizer, schedule=halving, accumulate=2, callbacks=())
    trainer.fit([ones(1.0)] * 4, epochs=2)
    assert net.weight.item() == -(1 + 0.5 + 0.25 + 0.125)
    assert [row["lr"] for row in trainer.log] == [0.25, 0.0625]


def test_bytes_become_floats_from_0_to_1():
    net = line(1.0)
    batch = (torch.tensor([[255], [51]], dtype=torch.uint8), torch.tensor([0, 0]))
    assert Trainer(net, pull, SGD(net.parameters(), 0.0), callbacks=()).fit(
        [batch], epochs=1
    ).loss == pytest.approx(0.6)


def test_augmentation_is_a_function_of_seed_and_step(tiny):
    def seen(seed):
        images = []

        def augment(given, generator):
            images.append(torch.rand(3, generator=generator).tolist())
            return given

        net = line()
        trainer = Trainer(
            net, pull, SGD(net.parameters(), 0.1), augment=augment, seed=seed, callbacks=()
        )
        trainer.fit([ones(1.0)] * 2, epochs=2, validation=[ones(1.0)])
        return images

    assert seen(0) == seen(0)
    assert len({tuple(draw) for draw in seen(0)}) == 4  # and validation is not augmented
    assert seen(0) != seen(1)


def test_dropout_draws_by_seed_whatever_the_callbacks_do(tiny):
    def digest(pollution, seed):
        trainer = tiny.trainer(tiny.sgd, [tiny.Pollute(pollution)], seed=seed)
        return tiny.digest(trainer.fit(tiny.batches(), epochs=1))

    assert digest(0, 5) == digest(1, 5) != digest(0, 6)


def test_validation_changes_nothing_but_the_log(tiny):
    class Modes(Callback):
        def on_step_end(self, trainer):
            assert trainer.net.training

    def trained(**options):
        trainer = tiny.trainer(callbacks=[Modes()]).fit(tiny.batches(), epochs=2, **options)
        return [row.pop("val_loss", None) for row in trainer.log], tiny.digest(trainer)

    nothing, plain = trained()
    losses, checked = trained(validation=tiny.batches(number=2))
    assert nothing == [None, None]
    assert all(loss > 0 for loss in losses)
    assert checked == plain


def test_validation_always_takes_the_same_batches(tiny):
    net = tiny.net()
    trainer = Trainer(net, ContrastiveLoss(), SGD(net.parameters(), 0.0), callbacks=())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    trainer.fit(tiny.batches(), epochs=3, validation=tiny.batches(number=2))
    first, second, third = (row["val_loss"] for row in trainer.log)
    assert first == second == third


def test_the_average_is_what_is_validated_saved_and_left(tiny, tmp_path):
    class Keep(Callback):
        def __init__(self):
            self.at_end, self.in_step = [], []

        def on_step_end(self, trainer):
            self.in_step.append(trainer.net.weight.item())

        def on_epoch_end(self, trainer):
            self.at_end.append(trainer.net.weight.item())

    net, keep = line(), Keep()
    callbacks = [keep, Checkpoint(tmp_path)]
    trainer = Trainer(
        net, pull, SGD(net.parameters(), 1.0), callbacks=callbacks, average=0.5, device="cpu"
    )
    trainer.fit([ones(1.0)], epochs=2, validation=[ones(1.0)])
    # Weights -1 and -2; their average is -1, and then 0.1 * -1 + 0.9 * -2.
    assert keep.in_step == [-1, -2]
    assert keep.at_end == pytest.approx([-1, -1.9])
    assert [row["val_loss"] for row in trainer.log] == pytest.approx([-1, -1.9])
    assert net.weight.item() == pytest.approx(-1.9)
    assert checkpoint.load(tmp_path / "step-0000000002")[0]["weight"].item() == pytest.approx(-1.9)
    # Going on starts from the net's own weights.
    trainer.fit([ones(1.0)], epochs=3)
    assert keep.in_step == [-1, -2, -3]


def test_fit_leaves_the_generators_as_it_found_them(tiny):
    def draws():
        return torch.rand(1).item(), np.random.rand(), random.random()

    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    expected = draws()
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    tiny.trainer(callbacks=[tiny.Pollute(3)]).fit(tiny.batches(), epochs=1)
    assert draws() == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_resumes_to_the_bit(tiny, tmp_path, precision):
    def made(folder, steps=1000):
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4))
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(torch.linspace(-0.3, 0.3, p.numel()).view_as(p))
        return Trainer(
            net,
            ContrastiveLoss(),
            SGD(net.parameters(), 0.1, momentum=0.9),
            callbacks=[Checkpoint(folder, steps=steps, keep=None)],
            precision=precision,
            device="cpu",
        )

    whole, kinds = made(tmp_path / "whole", 1), set()
    whole.net[1].register_forward_hook(lambda layer, given, out: kinds.add(out.dtype))
    whole.fit(tiny.batches(), epochs=2)
    assert kinds == {getattr(torch, precision)}
    assert next(whole.net.parameters()).dtype == torch.float32
    resumed = made(tmp_path / "resumed")
    resumed.fit(tiny.batches(), epochs=2, resume=tmp_path / "whole" / "step-0000000005")
    assert tiny.digest(resumed) == tiny.digest(whole)


def test_float16_skips_an_update_that_overflows_and_scales_less(tiny):
    net = line()
    trainer = Trainer(
        net, pull, SGD(net.parameters(), 1.0), precision="float16", device="cpu", callbacks=()
    )
    trainer.fit([ones(60000.0)], epochs=1)  # times the first scale of 65536, beyond float16
    assert net.weight.item() == 0
    assert trainer.scaler.get_scale() == 32768


def test_float16_gives_up_when_no_scale_helps():
    net = line()
    trainer = Trainer(
        net, root, SGD(net.parameters(), 1.0), precision="float16", device="cpu", callbacks=()
    )
    with pytest.raises(FloatingPointError, match="the gradient is not finite at step 17"):
        trainer.fit([ones(1.0)], epochs=30)  # 65536 is 2 to the 16th


class Spoil(Callback):
    """From a step on, a picture is not a number."""

    def __init__(self, images, step):
        self.images, self.step = images, step

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            self.images.pixels[:] = float("nan")


def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_pictures(tiny, tmp_path):
    images = tiny.pictures()
    images.pixels = images.pixels / 255
    net = tiny.net()
    callbacks = [Spoil(images, 3), Checkpoint(tmp_path, steps=2)]
    trainer = Trainer(net, ContrastiveLoss(), SGD(net.parameters(), 0.1), callbacks=callbacks)
    sampler = PairSampler(images.labels, pairs=2, batches=7)
    with pytest.raises(FloatingPointError) as error:
        trainer.fit(DataLoader(images, batch_sampler=sampler), epochs=1)

    names = ", ".join(images.names[index] for index in sampler.batch(0, 3))
    assert "the loss is not finite at step 4, in epoch 1" in str(error.value)
    assert f"batch 4 has pictures {names}" in str(error.value)
    assert all(p.isfinite().all() for p in net.parameters())
    latest = checkpoint.latest(tmp_path)
    assert latest == tmp_path / "step-0000000002"
    assert str(error.value).endswith(f"; the last good checkpoint is {latest}")


def test_a_loss_that_is_not_finite_names_five_pictures_and_no_checkpoint_where_none_is(tmp_path):
    net = line()
    images = TensorDataset(torch.full((12, 1), float("nan")), torch.zeros(12).long())
    trainer = Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(
        FloatingPointError, match=r"has pictures 0, 1, 2, 3, 4 and 7 more\. .*float32$"
    ):
        trainer.fit(DataLoader(images, batch_size=12), epochs=1)


def test_the_last_good_checkpoint_is_whole_and_of_this_run(tiny, tmp_path):
    keeping = Checkpoint(tmp_path, steps=1)
    tiny.trainer(callbacks=[keeping]).fit(tiny.batches(), epochs=1)
    assert keeping.last_place == tmp_path / "step-0000000007"
    (keeping.last_place / "model.safetensors").write_bytes(b"")
    assert keeping.last_place == tmp_path / "step-0000000006"
    keeping.saved_step = 5  # taken up again there
    assert keeping.last_place == tmp_path / "step-0000000005"
    assert Checkpoint(tmp_path).last_place is None


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    net = line(0.0)
    trainer = Trainer(net, root, SGD(net.parameters(), 0.1), callbacks=())
    with pytest.raises(FloatingPointError, match="the gradient is not finite at step 1"):
        trainer.fit([ones(1.0)], epochs=1)
    assert net.weight.item() == 0


class Press(Callback):
    """Ctrl-C, at a step or at the end of an epoch."""

    def __init__(self, step, number=signal.SIGINT, hook="on_step_end"):
        self.step, self.number, self.hook = step, number, hook

    def on_step_end(self, trainer):
        if self.hook == "on_step_end" and trainer.step == self.step:
            signal.raise_signal(self.number)

    def on_epoch_end(self, trainer):
        if self.hook == "on_epoch_end" and trainer.step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("step", "hook"), [(3, "on_step_end"), (7, "on_step_end"), (7, "on_epoch_end")]
)
def test_a_signal_finishes_the_step_saves_and_returns(tiny, tmp_path, number, step, hook):
    def made(*callbacks):
        return tiny.trainer(tiny.adamw, [*callbacks, Checkpoint(tmp_path / "run", every=2)])

    before = signal.getsignal(number)
    whole = tiny.trainer(tiny.adamw, [Checkpoint(tmp_path / "whole", every=2)])
    whole.fit(tiny.batches(), epochs=2)

    stopped = made(Press(step, number, hook)).fit(tiny.batches(), epochs=2)
    assert (stopped.stopped, stopped.step) == (number.name, step)
    assert signal.getsignal(number) is before
    resumed = made().fit(tiny.batches(), epochs=2, resume=tmp_path / "run")
    assert resumed.stopped is None
    assert [path for path, _ in same_weights(resumed, whole)] == []


def same_weights(one, other):
    pairs = zip(one.net.state_dict().items(), other.net.state_dict().values(), strict=True)
    return [(name, a) for (name, a), b in pairs if not torch.equal(a, b)]


def test_the_second_ctrl_c_raises(tiny):
    trainer = tiny.trainer(callbacks=[Press(2), Press(2)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(tiny.batches(), epochs=2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_at_a_terminal_reaches_the_workers_too_and_stops_cleanly(tiny, tmp_path):
    class PressForAll(Callback):
        def on_step_end(self, trainer):
            if trainer.step == 2:
                os.killpg(0, signal.SIGINT)

    def work():
        os.setsid()
        keeping = Checkpoint(tmp_path)
        trainer = tiny.trainer(callbacks=[PressForAll(), keeping])
        trainer.fit(tiny.batches(workers=2), epochs=1)
        assert (trainer.stopped, keeping.saved_step) == ("SIGINT", 2)

    _, status = os.waitpid(tiny.in_child(work), 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_stopping_and_going_on_in_one_program_equals_one_run(tiny):
    whole = tiny.trainer().fit(tiny.batches(), epochs=3)
    parts = tiny.trainer(callbacks=[Press(4)])
    parts.fit(tiny.batches(), epochs=1)
    parts.fit(tiny.batches(), epochs=2)
    parts.fit(tiny.batches(), epochs=3)
    assert same_weights(parts, whole) == []
    assert parts.log == whole.log


class Greedy(nn.Module):
    """A net for which memory is short."""

    def __init__(self, says):
        super().__init__()
        self.weight, self.says = nn.Parameter(torch.ones(1)), says

    def forward(self, images):
        raise self.says


@pytest.mark.parametrize(
    "says",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
    ],
)
def test_where_memory_is_short_the_error_says_what_would_help(tmp_path, says):
    net = Greedy(says)
    trainer = Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=())
    with pytest.raises(type(says), match=r"short at step 1, with 12 pictures; micro_batch=3 gives"):
        trainer.fit([(torch.ones(12, 1), torch.zeros(12).long())], epochs=1)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.BatchNorm1d(1), r"micro_batch=3 needs less of it, but changes the result: batch norms"),
        (nn.BatchNorm1d(1).requires_grad_(False), "micro_batch=3 gives the same result with less"),
        (nn.GroupNorm(1, 1), "micro_batch=3 gives the same result with less"),
        (nn.Dropout(0.1), "gives the same result, but for what dropout draws, with less of it"),
        (nn.Dropout(0.0), "micro_batch=3 gives the same result with less"),
    ],
    ids=str,
)
def test_where_memory_is_short_no_more_is_promised_than_the_net_keeps(layer, says):
    net = nn.Sequential(layer, Greedy(torch.OutOfMemoryError("CUDA out of memory")))
    trainer = Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=())
    with pytest.raises(torch.OutOfMemoryError, match=says):
        trainer.fit([(torch.ones(12, 1), torch.zeros(12).long())], epochs=1)


def test_a_picture_that_cannot_be_read_costs_no_checkpoint_that_is_due(tiny, tmp_path):
    class Broken(TensorDataset):
        bad = None

        def __getitem__(self, index):
            if index == self.bad:
                msg = f"picture {index} cannot be read"
                raise OSError(msg)
            return super().__getitem__(index)

    images = tiny.pictures()
    pixels, labels = images.pixels / 255, images.labels
    # Picture 11 is in the third batch, and not before.
    order = [[0, 1, 3, 4], [4, 5, 6, 7], [8, 7, 11, 10], [0, 2, 9, 10]]

    def trained(name, bad=None, **options):
        broken = Broken(pixels, labels)
        broken.bad = bad
        keeping = Checkpoint(tmp_path / name, steps=1)
        batches = DataLoader(broken, batch_sampler=order)
        return tiny.trainer(callbacks=[keeping]).fit(batches, epochs=1, **options)

    with pytest.raises((OSError, ValueError), match="picture 11 cannot be read"):
        trained("run", bad=11)
    assert checkpoint.latest(tmp_path / "run") == checkpoint.place_of(tmp_path / "run", 2)
    resumed = trained("run", resume=tmp_path / "run")
    assert tiny.digest(resumed) == tiny.digest(trained("whole"))


def test_a_checkpoint_that_is_not_due_is_not_saved_for_a_picture_that_cannot_be_read(tmp_path):
    def pictures():
        yield from [ones(1.0)] * 3
        msg = "no more"
        raise OSError(msg)

    class Once:
        def __iter__(self):
            return pictures()

    net, keeping = line(), Checkpoint(tmp_path, steps=2)
    with pytest.raises(OSError, match="no more"):
        Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=[keeping]).fit(Once(), epochs=1)
    assert [place.name for place in checkpoint.checkpoints(tmp_path)] == ["step-0000000002"]


def test_other_errors_of_a_net_stay_what_they_are():
    net = Greedy(RuntimeError("shapes cannot be multiplied"))
    trainer = Trainer(net, pull, SGD(net.parameters(), 0.1), callbacks=())
    with pytest.raises(RuntimeError, match=r"^shapes cannot be multiplied$"):
        trainer.fit([(torch.ones(2, 1), torch.zeros(2).long())], epochs=1)
