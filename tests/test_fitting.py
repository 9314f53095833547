import json
import math

import pytest
import torch

import siamlearn as sl
from siamlearn.fitting import (
    WarmCosine,
    balanced,
    mirrors,
    parameter_groups,
    quickest_precision,
    reduced,
    validation_loader,
)
from siamlearn.known import known
from siamlearn.train.checkpoint import latest, load

FACES = sl.DrawnFaces(12, 6, size=(28, 23), seed=3)


def weights(net):
    return torch.cat([value.double().flatten() for value in net.state_dict().values()])


def quick(images=FACES, **changes):
    return sl.fit(images, **{"epochs": 2, "callbacks": (), **changes})


def test_people_never_seen_are_told_apart_better_than_by_their_pixels():
    learned, tested = FACES.split_identities(held_out=5, seed=0)
    net = quick(learned, epochs=40, device="cpu").net

    report = sl.evaluate(sl.embed(net, tested), train=learned)

    assert report.auc > report.baselines[0].auc + 0.03


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    one, same, other = quick(seed=1), quick(seed=1), quick(seed=2)

    assert torch.equal(weights(one.net), weights(same.net))
    assert not torch.equal(weights(one.net), weights(other.net))


def test_the_callers_generators_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick()

    assert torch.equal(torch.rand(3), expected)


def test_a_run_folder_tells_what_was_run_and_its_net_comes_back(tmp_path):
    run = quick(folder=tmp_path / "runs", validation=FACES)
    again = quick(folder=tmp_path / "runs")
    config = sl.read_config(run.folder)

    assert run.folder == tmp_path / "runs"
    assert again.folder == tmp_path / "runs1"
    assert sl.NetConfig.from_dict(config["net"]) == run.net.config
    assert config["fit"]["epochs"] == 2
    assert sorted(config["split"]["train"]["people"]) == sorted(FACES.people)
    assert [row["epoch"] for row in run.log] == [1, 2]
    assert all(math.isfinite(row["val_loss"]) for row in run.log)
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert list((run.folder / "checkpoints").glob("step-*"))
    back = sl.EmbeddingNet.load(run.folder / "net")
    assert torch.equal(back(FACES.pixels), run.net(FACES.pixels))


def test_an_empty_folder_is_used_as_it_is(tmp_path):
    folder = sl.new_run_folder(tmp_path / "runs")

    assert quick(folder=folder, epochs=1).folder == folder


def test_training_goes_on_from_saved_weights(tmp_path):
    first = quick(epochs=1)
    folder = first.net.save(tmp_path)

    assert quick(weights=folder, epochs=1).net.config == first.net.config
    with pytest.raises(ValueError, match="weights bring their own net"):
        quick(weights=folder, net=first.net.config)


def test_a_net_knows_whom_it_was_trained_on_and_no_threshold_is_chosen_on_them(tmp_path):
    few, others = sl.DrawnFaces(8, 4, size=(12, 10)).split_identities(held_out=3, seed=0)
    run = quick(few, epochs=1, folder=tmp_path / "runs")

    assert run.net.trained_on == known(few.people)
    assert sl.embed(run.net, others).trained_on == known(few.people)
    sl.OperatingPoint.fit(sl.embed(run.net, others), fmr=0.3)
    with pytest.raises(ValueError, match=r"was not trained on.* 5 of these 5 \(.*\) it was; hold"):
        sl.OperatingPoint.fit(sl.embed(run.net, few), fmr=0.3)

    saved = sl.EmbeddingNet.load(run.folder / "net")
    _, state = load(latest(run.folder / "checkpoints"))
    assert tuple(state["trained_on"]) == saved.trained_on == known(few.people)
    assert few.people[0] not in (run.folder / "net" / "net.json").read_text()


def test_training_on_others_adds_them_to_those_that_the_net_knows(tmp_path):
    few, others = sl.DrawnFaces(6, 3, size=(12, 10)).split_identities(held_out=3, seed=0)
    folder = quick(few, epochs=1).net.save(tmp_path)

    net = quick(others, epochs=1, weights=folder).net

    assert net.trained_on == known((*few.people, *others.people))


@pytest.mark.parametrize(
    ("shape", "labels"),
    [
        ((20, 1, 8, 8), [i // 2 for i in range(20)]),  # small
        ((12, 3, 40, 31), [i // 4 for i in range(12)]),  # colour
        ((9, 1, 1, 30), [0, 0, 0, 1, 1, 2, 3, 4, 5]),  # a line; people with one picture
        ((30, 1, 10, 90), [i % 2 for i in range(30)]),  # wide, two people
        ((8, 3, 3, 3), [0, 0, 0, 0, 0, 0, 0, 1]),  # tiny
    ],
)
def test_pictures_of_any_kind_can_be_learned_from(shape, labels):
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    images = sl.from_arrays(pixels.to(torch.uint8), labels)
    net = quick(images, epochs=1, identities=4, pictures=2).net

    assert sl.embed(net, images).vectors.isfinite().all()


def test_what_callbacks_find_is_in_the_log_of_the_folder(tmp_path):
    run = quick(folder=tmp_path / "runs", callbacks=[sl.Evaluate(FACES)])

    assert "auc" in json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0])


class CutOff(sl.Callback):
    """Ends the program, as a crash would, after some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_start(self, trainer):
        if trainer.epoch == self.epochs:
            raise ZeroDivisionError


@pytest.mark.parametrize("epochs", [3, 12])  # before the first checkpoint, and after two
def test_a_run_that_was_cut_off_goes_on_to_the_same_net(tmp_path, epochs):
    few = sl.DrawnFaces(4, 3, size=(12, 10))
    whole = quick(few, epochs=14)
    with pytest.raises(ZeroDivisionError):
        quick(few, epochs=14, folder=tmp_path / "runs", callbacks=[CutOff(epochs)])

    run = quick(few, epochs=14, resume=tmp_path / "runs")

    assert torch.equal(weights(run.net), weights(whole.net))
    assert run.net.trained_on == whole.net.trained_on == known(few.people)
    assert run.folder == tmp_path / "runs"
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 15))


def test_resume_wants_the_folder_of_a_run(tmp_path):
    with pytest.raises(ValueError, match="resume is the folder of an earlier run"):
        quick(resume=tmp_path / "nothing")


def test_a_run_says_how_it_ended():
    class Enough(sl.Callback):
        def on_epoch_end(self, trainer):
            trainer.stop("enough")

    enough = quick(epochs=3, callbacks=[Enough()])

    assert repr(quick(epochs=1)).startswith("Run(1 epoch, 2 steps, done)\n  epoch 1: loss ")
    assert repr(enough).startswith("Run(1 of 3 epochs, 2 steps, stopped: enough)\n")
    assert enough.stopped == "enough"


def test_validation_shows_no_picture_twice_in_a_batch():
    pairs = sl.DrawnFaces(9, 2, size=(12, 10))
    run = quick(pairs, validation=pairs, epochs=1)

    for batch in validation_loader(
        pairs, run.net, balanced(pairs, identities=4, pictures=4, seed=0)
    ):
        assert len(torch.unique(batch[0].flatten(1), dim=0)) == len(batch[0])


def test_colour_is_brought_to_what_the_net_takes(tmp_path):
    colour = FACES.shaped((3, 28, 23))
    folder = quick(epochs=1).net.save(tmp_path)

    assert quick(colour, weights=folder, validation=colour, epochs=1).net.config.input[0] == 1


def test_whether_faces_may_be_mirrored_can_be_said():
    assert not quick(mirror=False, epochs=1).net.config.mirror
    config = sl.NetConfig.preset("small", input=FACES.shape)
    assert quick(net=config, mirror=True, epochs=1).net.config.mirror


@pytest.mark.parametrize("change", [{"pictures": 1}, {"identities": 1}])
def test_a_batch_without_positives_or_negatives_is_refused(change):
    with pytest.raises(ValueError, match="two identities and two pictures of each"):
        quick(**change)


def test_a_folder_name_is_no_image_set():
    with pytest.raises(TypeError, match=r"fit takes an ImageSet, such as sl\.from_folder"):
        sl.fit("faces")


def test_one_person_or_one_picture_each_is_refused():
    with pytest.raises(ValueError, match="needs two identities, and one with two pictures; got 1"):
        quick(FACES.only(FACES.people[:1]))
    each_once = sl.DrawnFaces(4, 1, size=(28, 23))
    with pytest.raises(ValueError, match="got 4 with at most 1"):
        quick(each_once)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_pictures():
    class Broken(torch.nn.Module):
        def forward(self, embeddings, labels):
            return embeddings.sum() * float("nan")

    with pytest.raises(FloatingPointError, match=r"not finite at step 1, .* has pictures s\d"):
        quick(loss=Broken())


def test_faces_may_be_mirrored_and_lopsided_signs_may_not():
    sign = torch.zeros(6, 5, 1, 12, 12, dtype=torch.uint8)
    for k in range(6):  # each identity has a bar in another column of the left half
        sign[k, :, :, :, k] = 200
    noise = torch.randint(30, sign.shape, generator=torch.Generator().manual_seed(0))
    signs = sl.from_arrays(
        (sign + noise.to(torch.uint8)).flatten(0, 1), [k // 5 for k in range(30)]
    )

    many_once = sl.from_arrays(torch.zeros(40, 8, 8), [*range(40)])

    assert not mirrors(many_once)  # nothing tells
    assert mirrors(FACES)
    assert not mirrors(signs)


def test_nets_look_at_about_60_pixels():
    assert reduced((1, 112, 92)) == (1, 56, 46)
    assert reduced((3, 480, 640)) == (3, 43, 58)
    assert reduced((1, 1, 1)) == (1, 1, 1)


def test_the_learning_rate_rises_then_falls_to_nothing():
    factor = [WarmCosine(100)(step) for step in range(101)]

    assert max(factor) == factor[9] == 1
    assert factor[:10] == sorted(factor[:10])
    assert factor[10:] == sorted(factor[10:], reverse=True)
    assert factor[-1] == 0
    assert WarmCosine(1)(0) == 1


def test_only_weights_decay():
    decaying, sparing = parameter_groups(quick(epochs=1).net, 0.05)

    assert (decaying["weight_decay"], sparing["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim > 1 for p in decaying["params"])
    assert all(p.ndim == 1 for p in sparing["params"])


def test_a_batch_never_asks_for_more_identities_than_there_are():
    sampler = balanced(FACES, identities=100, pictures=2, seed=0)

    assert sampler.rows == 12


def test_the_precision_is_one_that_the_trainer_knows():
    assert quickest_precision("cpu") in {"float32", "bfloat16"}
