"""Proof 1: a run that is resumed at any step ends with the same bits, and no other is resumed."""

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from siamlearn.data.samplers import PairSampler
from siamlearn.nn.losses import ContrastiveLoss
from siamlearn.nn.nets import EmbeddingNet, NetConfig
from siamlearn.train.callbacks import EarlyStopping
from siamlearn.train.checkpoint import (
    CheckpointError,
    CorruptCheckpointError,
    checkpoints,
    is_whole,
)
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.trainer import Trainer

EPOCHS = 2
# What comes back is looked at where nothing follows.
pytestmark = pytest.mark.filterwarnings("ignore:nothing is left to train")


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("optimizing", ["sgd", "adamw"])
def test_resuming_from_every_step_gives_the_same_bits(tiny, tmp_path, optimizing, accumulate):
    def made(seed, folder, steps=1000):
        stopping = EarlyStopping("val_loss", patience=9)
        keeping = Checkpoint(folder, steps=steps, keep=None, best="val_loss")
        return tiny.trainer(
            getattr(tiny, optimizing),
            [tiny.Pollute(seed), keeping, stopping],
            first=seed,
            accumulate=accumulate,
            clip=1.0,
            average=0.8 if optimizing == "adamw" else None,
        )

    def fit(trainer, **options):
        validation = [(torch.linspace(0, 1, 288).view(8, 1, 6, 6), torch.arange(8) % 4)]
        return trainer.fit(tiny.batches(), epochs=EPOCHS, validation=validation, **options)

    whole = fit(made(0, tmp_path / "whole", steps=1))
    places = checkpoints(tmp_path / "whole")
    assert len(places) == whole.step == {1: 14, 3: 6}[accumulate]
    for place in places[1:]:
        resumed = fit(made(whole.step, tmp_path / f"from {place.name}"), resume=place)
        assert tiny.digest(resumed) == tiny.digest(whole), place.name


def test_workers_and_resuming_with_them_change_nothing(tiny, tmp_path):
    def made(seed, folder, steps=1000):
        keeping = Checkpoint(folder, steps=steps, keep=None)
        return tiny.trainer(tiny.sgd, [tiny.Pollute(seed), keeping], first=seed, accumulate=3)

    whole = made(0, tmp_path / "whole", steps=1).fit(tiny.batches(workers=0), epochs=EPOCHS)
    spread = made(0, tmp_path / "spread").fit(tiny.batches(workers=2), epochs=EPOCHS)
    assert tiny.digest(spread) == tiny.digest(whole)
    for place in checkpoints(tmp_path / "whole")[1:]:
        resumed = made(1, tmp_path / f"from {place.name}")
        resumed.fit(tiny.batches(workers=2), epochs=EPOCHS, resume=place)
        assert tiny.digest(resumed) == tiny.digest(whole), place.name


@pytest.fixture
def kept(tiny, tmp_path):
    """A run of seven steps, of which the last three are kept."""
    tiny.trainer(callbacks=[Checkpoint(tmp_path / "run" / "checkpoints", steps=1)]).fit(
        tiny.batches(), epochs=1
    )
    return tmp_path / "run" / "checkpoints"


def resume(trainer, tiny, path):
    return trainer.fit(tiny.batches(), epochs=1, resume=path)


def test_a_run_its_checkpoints_and_one_of_them_can_be_resumed(tiny, kept):
    for path in (kept.parent, kept, kept / "step-0000000007", str(kept)):
        assert resume(tiny.trainer(), tiny, path).step == 7
    assert resume(tiny.trainer(), tiny, kept / "step-0000000006").step == 7


def test_the_log_and_where_it_stood_come_back(tiny, kept):
    trainer = resume(tiny.trainer(first=1), tiny, kept)
    assert (trainer.epoch, trainer.step, trainer.batch) == (1, 7, 0)
    assert [row["step"] for row in trainer.log] == [7]


def other_shape(tiny):
    net = tiny.net()
    net[5] = torch.nn.Linear(48, 8)
    optimizer, schedule = tiny.sgd(list(net.parameters()))
    return Trainer(
        net, ContrastiveLoss(), optimizer, schedule=schedule, seed=5, device="cpu", callbacks=()
    )


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda tiny: tiny.trainer(seed=6), "its seed is 5, and this trainer's is 6"),
        (
            other_shape,
            r"its net: 5.weight is float32 \(4, 48\), and this trainer's is float32 \(8, 48\)",
        ),
        (lambda tiny: tiny.trainer(tiny.adamw), "its optimizer is SGD, and this trainer's is Adam"),
        (lambda tiny: tiny.trainer(average=0.5), "its average is None, and this trainer's is 0.5"),
    ],
)
def test_another_run_is_refused_with_both_values_and_the_trainer_untouched(tiny, kept, made, says):
    trainer = made(tiny)
    before = tiny.digest(trainer)
    with pytest.raises(CheckpointError, match=says):
        resume(trainer, tiny, kept)
    assert tiny.digest(trainer) == before


def test_another_grouping_of_parameters_is_refused(tiny, kept):
    net = tiny.net()
    first, *others = net.parameters()
    optimizer, schedule = tiny.sgd([{"params": [first]}, {"params": others}])
    trainer = Trainer(
        net, ContrastiveLoss(), optimizer, schedule=schedule, seed=5, device="cpu", callbacks=()
    )
    with pytest.raises(CheckpointError, match=r"groups is \[6\], and this trainer's is \[1, 5\]"):
        resume(trainer, tiny, kept)


def test_other_settings_are_taken_with_a_warning(tiny, kept):
    with pytest.warns(UserWarning, match="accumulate was 1 and is 3"):
        resume(tiny.trainer(accumulate=3), tiny, kept)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pairs": 5}, r"sampler was 'PairSampler\(.*rows=4.*' and is 'PairSampler\(.*rows=5"),
        ({"batches": 8}, r"sampler was '.*batches=7.*' and is '.*batches=8"),
        ({"seed": 1}, r"sampler was '.*first=\w+\)' and is '.*first=\w+\)'"),
        ({"positive": 0.25}, r"sampler was '.*first=\w+\)' and is '.*first=\w+\)'"),
        ({"each": 4}, r"data was 'ImageSet of 12, digest \w+' and is 'ImageSet of 16, digest"),
        ({"dark": True}, r"data was 'ImageSet of 12, digest \w+' and is 'ImageSet of 12, digest"),
    ],
)
def test_other_data_and_another_sampler_are_taken_with_a_warning(tiny, tmp_path, change, says):
    def batches(each=3, dark=False, **options):
        images = tiny.pictures(each=each)
        if dark:
            images.pixels //= 2
        options = {"pairs": 4, "batches": 7, **options}
        return DataLoader(images, batch_sampler=PairSampler(images.labels, **options))

    tiny.trainer(callbacks=[Checkpoint(tmp_path)]).fit(batches(), epochs=1)
    tiny.trainer().fit(batches(), epochs=1, resume=tmp_path)  # the same: no warning
    with pytest.warns(UserWarning, match=f"resuming with other settings: .*{says}"):
        tiny.trainer().fit(batches(**change), epochs=1, resume=tmp_path)


def test_another_augmentation_is_taken_with_a_warning(tiny, kept):
    with pytest.warns(UserWarning, match="augment was '<function noisy>' and is 'None'"):
        resume(tiny.trainer(augment=None), tiny, kept)


@pytest.mark.parametrize("scheduled", [True, False])
def test_another_learning_rate_is_not_taken_and_that_is_said(tiny, tmp_path, scheduled):
    def made(lr, momentum=0.9, **options):
        net = tiny.net()
        optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) if scheduled else None
        return Trainer(net, ContrastiveLoss(), optimizer, schedule=schedule, **options)

    trainer = made(0.001, callbacks=[Checkpoint(tmp_path)])
    trainer.fit(tiny.batches(), epochs=1)
    resume(made(0.001), tiny, tmp_path)  # the same, though the schedule is elsewhere: no warning
    says = "the checkpoint's lr 0.001 is kept, not 1.0; the checkpoint's momentum 0.9 is kept, not"
    with pytest.warns(UserWarning, match=says):
        trainer = resume(made(1.0, momentum=0.5), tiny, tmp_path)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.001 * (0.5**7 if scheduled else 1)
    assert trainer.options[0]["lr"] == 0.001


def test_of_another_net_only_what_differs_is_said(tiny, tmp_path):
    def made(**changes):
        config = replace(NetConfig.preset("small", input=(1, 16, 16)), **changes)
        net = EmbeddingNet(config)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        return Trainer(net, ContrastiveLoss(), optimizer, callbacks=[Checkpoint(tmp_path)])

    images = tiny.pictures(side=16)
    batches = DataLoader(images, batch_sampler=PairSampler(images.labels, pairs=4, batches=2))
    size = made().fit(batches, epochs=1).net.config.embedding
    says = rf"its net is embedding {size}, and this trainer's is embedding 6$"
    with pytest.raises(CheckpointError, match=says):
        made(embedding=6).fit(batches, epochs=1, resume=tmp_path)


def test_a_state_that_nobody_takes_is_named(tiny, tmp_path):
    callbacks = [EarlyStopping("loss"), Checkpoint(tmp_path)]
    tiny.trainer(callbacks=callbacks).fit(tiny.batches(), epochs=1)
    with pytest.warns(UserWarning, match="a state of EarlyStopping, which is not here"):
        resume(tiny.trainer(callbacks=[Checkpoint(tmp_path)]), tiny, tmp_path)


def test_two_callbacks_of_a_kind_get_each_its_own_state(tiny, tmp_path):
    def made():
        return [EarlyStopping("loss"), EarlyStopping("lr"), Checkpoint(tmp_path)]

    tiny.trainer(callbacks=made()).fit(tiny.batches(), epochs=1)
    trainer = resume(tiny.trainer(callbacks=made()), tiny, tmp_path)
    first, second, _ = trainer.callbacks
    assert (first.best, second.best) == (trainer.log[0]["loss"], trainer.log[0]["lr"])


def test_a_spoilt_latest_is_skipped_and_a_spoilt_one_that_was_asked_for_is_not(tiny, kept):
    spoilt = kept / "step-0000000007" / "train.safetensors"
    spoilt.write_bytes(spoilt.read_bytes()[:-1])
    with pytest.raises(
        CorruptCheckpointError,
        match=r"train\.safetensors has .*; the last other checkpoint that is whole is .*06$",
    ):
        resume(tiny.trainer(), tiny, spoilt.parent)
    with pytest.warns(UserWarning, match=r"skipped a corrupt checkpoint: .*train\.safetensors"):
        trainer = resume(tiny.trainer(callbacks=[Checkpoint(kept)]), tiny, kept)
    assert trainer.step == 7
    assert is_whole(spoilt.parent)  # it was made again, and replaced


def test_a_run_that_keeps_the_folder_begins_there_and_goes_on_by_itself(tiny, tmp_path):
    run = tmp_path / "runs" / "mine"

    def program(epochs, resume):
        trainer = tiny.trainer(callbacks=[Checkpoint(run / "checkpoints")])
        return trainer.fit(tiny.batches(), epochs=epochs, resume=resume).step

    assert program(1, run) == 7
    assert program(2, run) == 14
    assert program(3, run / "checkpoints") == 21
    (tmp_path / "empty").mkdir()
    trainer = tiny.trainer(callbacks=[Checkpoint(tmp_path / "empty")])
    assert resume(trainer, tiny, tmp_path / "empty").step == 7
    trainer = tiny.trainer(callbacks=[Checkpoint(tmp_path / "others")])
    with pytest.raises(CheckpointError, match=r"no folder .*mistyped to resume from; leave .* or"):
        resume(trainer, tiny, run.with_name("mistyped"))


def test_a_checkpoint_that_stood_aside_in_a_crash_is_resumed(tiny, kept):
    place = kept / "step-0000000007"
    for path in (kept.parent, kept, place):
        place.rename(kept / f".aside-{place.name}")
        assert resume(tiny.trainer(), tiny, path).step == 7
        assert is_whole(place)


def test_nothing_to_resume_from_is_an_error_or_a_beginning(tiny, tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no folder .*; leave resume out"):
        resume(tiny.trainer(), tiny, tmp_path / "nowhere")
    with pytest.warns(UserWarning, match="has no checkpoints yet: training starts from the"):
        assert resume(tiny.trainer(), tiny, tmp_path).step == 7
