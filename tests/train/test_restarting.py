"""A run that is started again: it goes on by itself, to the same bits, or is refused."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

import siamlearn as sl
from siamlearn.train import ending
from siamlearn.train.restarting import advice
from train.on_ranks import on_ranks

FACES = sl.DrawnFaces(6, 4, size=(12, 10), seed=3)


def train(folder=None, resume=True, images=FACES, callbacks=(), **changes):
    settings = {"epochs": 12, "identities": 3, "pictures": 2, "device": "cpu", **changes}
    resume = resume if folder is not None else None
    return sl.fit(images, folder=folder, resume=resume, callbacks=callbacks, **settings)


@pytest.fixture(scope="module")
def whole():
    """A run that nothing happens to."""
    return train()


def same(one, other):
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


class At(sl.Callback):
    def __init__(self, step, work):
        self.step, self.work = step, work

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            self.work()


def ended(child):
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_stopped_goes_on_where_it_was_to_the_same_net(tiny, tmp_path, whole, number):
    folder = tmp_path / "runs"
    step = whole.trainer.step // 2 + 1  # not the end of an epoch
    assert step % whole.trainer.steps
    hit = At(step, lambda: os.kill(os.getpid(), number))
    assert ended(tiny.in_child(lambda: train(folder, callbacks=[hit]))) == 0
    told = sl.load_run(folder)
    assert (told.stopped, told.checkpoints[-1].step) == (number.name, step)

    run = train(folder)

    assert same(run.net, whole.net)
    assert same(sl.load_run(folder).net, whole.net)
    assert run.log == whole.log == sl.load_run(folder).log
    assert run.folder == folder
    assert run.finished


def test_two_presses_of_ctrl_c_end_at_once_and_it_goes_on_from_the_last_checkpoint(
    tiny, tmp_path, whole
):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    late = At(whole.trainer.step - 1, twice)
    assert os.WEXITSTATUS(ended(tiny.in_child(lambda: train(tmp_path, callbacks=[late])))) == 1
    assert sl.load_run(tmp_path).stopped == "SIGINT"
    assert [each.epoch for each in sl.load_run(tmp_path).checkpoints] == [5, 10]
    assert same(train(tmp_path).net, whole.net)


class Slow(sl.Callback):
    def on_step_end(self, trainer):
        time.sleep(0.01)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_net(tiny, tmp_path, whole):
    folder, draws, kills = tmp_path / "runs", random.Random(0), 0
    for life in range(9):
        child = tiny.in_child(lambda: train(folder, callbacks=[Slow()]))
        while not (folder / "ending.json").exists() and life < 4:
            if (folder / "metrics.jsonl").exists():
                time.sleep(draws.uniform(0, 0.2))
                os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.001)
        status = ended(child)
        kills += os.WIFSIGNALED(status)
        if status == 0:
            break
    assert kills >= 2
    assert same(sl.load_run(folder).net, whole.net)
    assert sl.load_run(folder).log == whole.log


def test_a_finished_run_is_given_back_at_once_with_a_sentence(tmp_path, whole):
    lines = []
    train(tmp_path / "runs")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}

    again = train(tmp_path / "runs", callbacks=[sl.Progress(write=lines.append)])

    assert again.trainer is None
    assert again.finished
    assert same(again.net, whole.net)
    assert lines == [f"{tmp_path / 'runs'} is finished: its net is as it was trained\n"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_a_run_that_stopped_early_is_not_taken_up_again(tmp_path):
    def early():
        return [sl.EarlyStopping("epoch", patience=2)]

    first = train(tmp_path, callbacks=early())

    assert first.trainer.epoch == 3
    assert train(tmp_path, callbacks=early()).trainer is None


def test_resume_begins_in_exactly_this_folder_where_there_is_nothing(tmp_path):
    assert train(tmp_path / "a" / "runs", epochs=1).folder == tmp_path / "a" / "runs"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".config.json.tmp").touch()  # a crash while the config was written
    assert train(tmp_path / "empty", epochs=1).folder == tmp_path / "empty"


def test_without_resume_another_folder_is_made(tmp_path):
    train(tmp_path / "runs", epochs=1)

    assert train(tmp_path / "runs", resume=False, epochs=1).folder == tmp_path / "runs1"


def test_what_is_no_run_is_not_gone_on_with(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"holds something, but no run .*; name another folder"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match=r"resume=True goes on in the run's folder, .* pass"):
        sl.fit(FACES, resume=True)
    with pytest.raises(ValueError, match="resume is the folder of an earlier run, without folder="):
        sl.fit(FACES, folder=tmp_path, resume=tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 13}, r"fit\.epochs was 12 and is 13; pass .*weights='.*runs/net'$"),
        ({"learning_rate": 1e-3}, r"fit\.learning_rate was 0\.002 and is 0\.001; pass"),
        ({"seed": 1}, r"fit\.seed was 0 and is 1;"),
        ({"loss": sl.ContrastiveLoss()}, r"fit\.loss was 'SupConLoss.* and is 'ContrastiveLoss"),
        ({"mirror": False}, r"net\.mirror was True and is False, fit\.augment was"),
        ({"images": FACES.only(FACES.people[:4])}, r"split\.train was '6 people, .* is '4 people,"),
    ],
)
def test_another_run_is_refused_with_both_values(tmp_path, change, said):
    train(tmp_path / "runs", epochs=12, callbacks=[At(3, lambda: signal.raise_signal(2))])
    for resume in (True, tmp_path / "runs"):
        settings = {"epochs": 12, "identities": 3, "pictures": 2, "device": "cpu", **change}
        settings = {"images": FACES, "callbacks": (), **settings, "resume": resume}
        with pytest.raises(ValueError, match=rf"was begun with other settings: {said}"):
            sl.fit(**settings, folder=tmp_path / "runs" if resume is True else None)


def test_other_pictures_to_validate_on_are_refused(tmp_path):
    learned, others = FACES.split_identities(held_out=2, seed=0)
    train(tmp_path, images=learned, validation=others)
    with pytest.raises(ValueError, match=r"split\.validation was '2 people, .* is 'missing'"):
        train(tmp_path, images=learned)


def test_a_folder_in_which_another_program_trains_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "PATIENCE", 0.2)
    refused = []

    def try_too():
        with pytest.raises(ValueError, match="another program is training in") as error:
            train(tmp_path)
        refused.append(error)

    train(tmp_path, callbacks=[At(2, try_too)])

    assert len(refused) == 1
    assert sl.load_run(tmp_path).finished


def test_a_stopped_run_says_in_a_line_how_to_go_on(tmp_path, monkeypatch):
    def said(folder, resume):
        lines = []
        watch = [At(2, lambda: signal.raise_signal(2)), sl.Progress(write=lines.append)]
        train(folder, resume=resume, callbacks=watch)
        return lines[-1]

    folder = tmp_path / "runs"
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--name", "two words"])
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert said(folder, True) == (
        "to go on, start the program again: python train.py --name 'two words'\n"
    )
    other = tmp_path / "runs1"
    assert said(folder, False) == (
        f"to go on, call fit as before, with resume={str(other)!r} instead of folder\n"
    )
    assert said(None, None) == "nothing of it was kept; pass folder='runs' to be able to go on\n"
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert advice(folder, True) == "to go on, call fit again as before"


def test_on_several_ranks_the_first_makes_one_folder_and_all_go_on_in_it(tmp_path):
    folder = tmp_path / "runs"

    def begin(rank):
        stop = At(7, lambda: signal.raise_signal(signal.SIGINT) if rank == 1 else None)
        run = train(folder, resume=False, callbacks=[stop])
        return str(run.folder), run.trainer.step, run.stopped

    def go_on(rank):
        run = train(folder)
        return run.net.state_dict(), run.log, run.finished

    assert on_ranks(2, tmp_path / "first", begin) == [(str(folder), 7, "SIGINT")] * 2
    assert sl.load_run(folder).stopped == "SIGINT"
    one, other = on_ranks(2, tmp_path / "second", go_on)
    assert all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    assert one[1] == other[1] == sl.load_run(folder).log
    assert sorted(path.name for path in tmp_path.glob("runs*")) == ["runs"]


def test_what_the_first_rank_refuses_all_refuse(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "thesis.tex").touch()

    for said in on_ranks(2, tmp_path, lambda rank: train(tmp_path / "runs")):
        assert said.startswith("ValueError: ")
        assert said.endswith("name another folder")


SCRIPT = """
import os, signal, sys
import siamlearn as sl

class Kill(sl.Callback):
    def on_step_end(self, trainer):
        # Each rank once: rank 1 in its first life, rank 0 in the second.
        life = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
        if (trainer.step, trainer.rank, life) in {(22, 1, 0), (33, 0, 1)}:
            os.kill(os.getpid(), signal.SIGKILL)

faces = sl.DrawnFaces(6, 4, size=(12, 10), seed=3)
callbacks = [Kill()] if sys.argv[2] == "kill" else []
sl.fit(faces, epochs=12, identities=3, pictures=2, folder=sys.argv[1], resume=True,
       device="cpu", callbacks=callbacks)
"""


@pytest.mark.soak
def test_torchrun_starts_a_run_again_until_it_is_done(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", "2", str(tmp_path / "script.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = []
    for what in ("kill", "let live"):
        folder = tmp_path / what
        done = subprocess.run(
            [*command, str(folder), what],
            env=environment, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("exitcode: -9)") == (2 if what == "kill" else 0)
        runs.append(sl.load_run(folder))
    assert same(runs[0].net, runs[1].net)
    assert runs[0].log == runs[1].log
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kill", "let live", "script.py"]
