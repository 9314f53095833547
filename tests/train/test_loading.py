"""A run read back from its folder: finished, stopped, cut off, under way, spoilt."""

import json
import shutil

import pytest
import torch

import siamlearn as sl
from siamlearn.train.checkpoint import CheckpointError

FACES = sl.DrawnFaces(6, 4, size=(12, 10), seed=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of ten epochs, with two checkpoints."""
    learned, others = FACES.split_identities(held_out=2, seed=0)
    folder = tmp_path_factory.mktemp("made") / "runs"
    return sl.fit(learned, validation=others, epochs=10, folder=folder, callbacks=())


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it, to be spoilt."""
    return shutil.copytree(made.folder, tmp_path / "runs")


class Stop(sl.Callback):
    def __init__(self, epoch, failing=False):
        self.epoch, self.failing = epoch, failing

    def on_epoch_end(self, trainer):
        if trainer.epoch == self.epoch:
            if self.failing:
                raise MemoryError
            trainer.stop("enough")


def same(one, other):
    return torch.equal(one(FACES.pixels), other(FACES.pixels))


def test_a_finished_run_tells_all_of_itself(made):
    run = sl.load_run(made.folder)

    assert same(run.net, made.net)
    assert run.net.trained_on == made.net.trained_on
    assert run.config["fit"]["epochs"] == 10
    assert run.log == made.log
    assert [(each.step, each.epoch, each.best) for each in run.checkpoints] == [
        (made.trainer.step // 2, 5, False),
        (made.trainer.step, 10, False),
    ]
    assert run.finished
    assert run.stopped is None
    assert not run.under_way
    assert repr(run).startswith(f"Run({str(made.folder)!r}: 10 epochs, ")
    assert ", done)\n  epoch 10: loss " in repr(run)
    assert repr(run).endswith(f"  2 checkpoints, the newest of step {made.trainer.step}")


def test_what_fit_returns_tells_the_same_as_what_is_loaded(made):
    run = sl.load_run(made.folder)

    for name in ("config", "log", "checkpoints", "plots", "finished", "stopped", "under_way"):
        assert getattr(made, name) == getattr(run, name), name
    assert repr(made) == repr(run)


def test_people_trained_and_validated_on_are_found_again(made):
    parts = sl.load_run(made.folder).split(FACES)

    assert (len(parts["train"].people), len(parts["validation"].people)) == (4, 2)
    assert not {*parts["train"].people} & {*parts["validation"].people}
    with pytest.raises(ValueError, match="part 'train' of the split"):
        made.split(sl.DrawnFaces(6, 4, size=(12, 10), seed=4))


def test_the_net_of_an_earlier_part_of_a_run_is_not_taken_for_the_last(tmp_path):
    folder = tmp_path / "runs"
    stopped = sl.fit(FACES, epochs=8, folder=folder, callbacks=[Stop(2)])
    with pytest.raises(MemoryError):
        sl.fit(FACES, epochs=8, resume=folder, callbacks=[Stop(7, failing=True)])
    run = sl.load_run(folder)

    assert same(sl.EmbeddingNet.load(folder / "net"), stopped.net)
    assert same(run.net, run.checkpoints[-1].net)
    assert not same(run.net, stopped.net)


def test_each_checkpoint_has_the_net_of_its_time(made):
    early, last = made.checkpoints

    assert same(last.net, made.net)
    assert not same(early.net, made.net)
    assert early.net.trained_on == made.net.trained_on


def test_a_stopped_run_says_why_and_how_to_go_on(tmp_path):
    sl.fit(FACES, epochs=4, folder=tmp_path / "runs", callbacks=[Stop(2)])
    run = sl.load_run(tmp_path / "runs")

    assert (run.finished, run.stopped) == (False, "enough")
    assert repr(run).startswith(
        f"Run({str(run.folder)!r}: 2 of 4 epochs, 2 steps, stopped: enough)"
    )
    assert repr(run).endswith(f"  to go on: fit as before, with resume={str(run.folder)!r}")
    assert same(run.net, run.checkpoints[-1].net)


def test_a_run_that_failed_says_with_what(tmp_path):
    with pytest.raises(MemoryError):
        sl.fit(FACES, epochs=9, folder=tmp_path / "runs", callbacks=[Stop(7, failing=True)])
    run = sl.load_run(tmp_path / "runs")

    assert (run.finished, run.stopped) == (False, "MemoryError")
    assert [each.epoch for each in run.checkpoints] == [5]
    assert same(run.net, run.checkpoints[0].net)


def test_a_run_that_was_killed_is_told_as_far_as_it_came(made, folder):
    (folder / "ending.json").unlink()
    shutil.rmtree(folder / "net")
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[:7]) + rows[7][:20])
    shutil.rmtree(folder / "checkpoints" / made.checkpoints[-1].place.name)
    run = sl.load_run(folder)

    assert run.log == made.log[:7]  # but for the line that was being written
    assert (run.finished, run.under_way) == (False, False)
    assert run.stopped == "cut off: the program was killed, or the computer stopped"
    assert same(run.net, made.checkpoints[0].net)
    assert f"7 of 10 epochs, {run.log[-1]['step']} steps, cut off: the" in repr(run)


def test_a_run_that_is_under_way_can_be_looked_at(tmp_path):
    class Look(sl.Callback):
        def on_epoch_start(self, trainer):
            if trainer.epoch == 0:
                with pytest.raises(ValueError, match=r"has no weights yet: its first checkpoint"):
                    _ = sl.load_run(tmp_path / "runs").net
            seen.append(sl.load_run(tmp_path / "runs"))
            told.append((seen[-1].under_way, seen[-1].finished, seen[-1].stopped, repr(seen[-1])))
            epochs.append([row["epoch"] for row in seen[-1].log])
            if trainer.epoch > 5:
                assert same(seen[-1].net, seen[-1].checkpoints[0].net)

    seen, told, epochs = [], [], []
    sl.fit(FACES, epochs=7, folder=tmp_path / "runs", callbacks=[Look()])

    assert {each[:3] for each in told} == {(True, False, None)}
    assert told[0][3] == f"Run({str(tmp_path / 'runs')!r}: 0 of 7 epochs, 0 steps, under way)"
    assert epochs == [list(range(1, done + 1)) for done in range(7)]
    assert seen[0].finished  # asked again when it was


def test_the_best_checkpoint_and_the_plots_of_a_loop_of_ones_own_are_found(tmp_path, tiny):
    keeping = sl.Checkpoint(tmp_path / "checkpoints", best="loss", keep=None)
    watch = [sl.Ending(tmp_path), sl.LogLines(tmp_path / "metrics.jsonl"), keeping]
    trainer = tiny.trainer(callbacks=watch).fit(tiny.batches(number=2), epochs=3)
    (tmp_path / "plots").mkdir()
    for name in ("b.png", "a.svg", "words.txt"):
        (tmp_path / "plots" / name).touch()
    run = sl.load_run(tmp_path)

    best = min(trainer.log, key=lambda row: row["loss"])
    assert [each.step for each in run.checkpoints if each.best] == [best["step"]]
    assert [path.name for path in run.plots] == ["a.svg", "b.png"]
    assert run.config == {}
    assert run.finished
    assert f"the best of step {best['step']}\n  2 plots" in repr(run)
    with pytest.raises(ValueError, match=r"no EmbeddingNet, so that only your program can build"):
        _ = run.net
    with pytest.raises(ValueError, match=r"tells of no split; write_config"):
        run.split(tiny.pictures())


def test_a_run_without_a_folder_has_nothing_to_read():
    run = sl.fit(FACES, epochs=1, callbacks=())

    assert (run.checkpoints, run.plots, run.under_way) == ((), (), False)
    with pytest.raises(ValueError, match=r"this run has no folder, .*pass fit\(\.\.\., folder="):
        _ = run.config


def test_a_folder_that_is_no_run_is_refused_with_advice(made, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        sl.load_run(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"is not the folder of a run: it has no config\.json"):
        sl.load_run(tmp_path / "file")
    with pytest.raises(ValueError, match=r"did you mean one of the runs in it \(runs\)\?"):
        sl.load_run(made.folder.parent)
    for inside in (made.folder / "net", made.checkpoints[0].place):
        with pytest.raises(ValueError, match=rf"did you mean {made.folder}\?"):
            sl.load_run(inside)


def test_what_is_spoilt_is_named(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    for spoilt in ("{half", "3"):
        (folder / "metrics.jsonl").write_text("\n".join([lines[0], spoilt, *lines[2:]]))
        with pytest.raises(ValueError, match=r"line 2 of .*metrics\.jsonl is not a row of JSON"):
            _ = sl.load_run(folder).log
    (folder / "metrics.jsonl").unlink()
    assert sl.load_run(folder).log == []
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 2}))
    with pytest.raises(ValueError, match=r"has format 2, and this siamlearn reads up to 1"):
        sl.load_run(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be read as the config of a run"):
        sl.load_run(folder)


def test_a_config_of_before_there_was_a_format_is_read(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["format"]
    (folder / "config.json").write_text(json.dumps(config))

    assert sl.load_run(folder).config == config


def test_a_checkpoint_that_is_spoilt_is_passed_over_and_all_of_them_are_refused(made, folder):
    shutil.rmtree(folder / "net")
    early, last = (folder / "checkpoints" / each.place.name for each in made.checkpoints)
    (last / "state.json").write_text("{")
    run = sl.load_run(folder)

    with pytest.warns(UserWarning, match="left out a corrupt checkpoint"):
        assert [each.place for each in run.checkpoints] == [early]
    with pytest.warns(UserWarning, match="skipped a corrupt checkpoint"):
        assert same(run.net, made.checkpoints[0].net)
    (early / "model.safetensors").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="skipped a corrupt checkpoint"),
        pytest.raises(CheckpointError, match="none of the 2 checkpoints"),
    ):
        _ = sl.load_run(folder).net
