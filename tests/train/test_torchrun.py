"""Proof 6, from outside: ``torchrun`` starts a program that says nothing of ranks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train import a_script

PATIENCE = 120  # seconds
LAST = f"step-{a_script.STEPS * a_script.EPOCHS:010}"


def torchrun(folder: Path, *args: str, ranks: int = 2, options: tuple[str, ...] = ()):
    """The program on several ranks, just started."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), *options, a_script.__file__, str(folder), *args]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def said(started: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How it ended, and what it wrote to the standard output and the standard error."""
    try:
        out, error = started.communicate(timeout=PATIENCE)
    finally:
        started.kill()
    return started.returncode, out, error


def in_one_process(folder: Path, *args: str) -> Path:
    before = torch.get_default_dtype()
    try:
        a_script.main(str(folder), *args)
    finally:
        torch.set_default_dtype(before)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_weights(folder: Path, other: Path, **tolerance: float) -> None:
    ours, theirs = load_file(folder), load_file(other)
    torch.testing.assert_close(ours, theirs, **tolerance)


def assert_same_run(folder: Path, one: Path) -> None:
    """The weights, the optimizer and the log of the trainer's run."""
    for part in ("model", "train"):
        place = f"checkpoints/{LAST}/{part}.safetensors"
        assert_same_weights(folder / place, one / place, rtol=1e-12, atol=1e-12)
    rows = [lines(each / "metrics.jsonl") for each in (folder, one)]
    assert [*map(list, rows[0])] == [*map(list, rows[1])]
    for row, other in zip(*rows, strict=True):
        assert row == pytest.approx(other, rel=1e-11)


@pytest.fixture
def whole(tmp_path) -> Path:
    """The trainer's run that nothing happens to, in one process."""
    return in_one_process(tmp_path / "whole", "trainer", "slow")


def test_a_program_that_torchrun_starts_leaves_what_it_leaves_alone(tmp_path, capfd):
    started = torchrun(tmp_path / "ranks")
    one = in_one_process(tmp_path / "one")
    out, error = capfd.readouterr()
    code, their_out, their_error = said(started)

    assert code == 0, their_error
    assert files(tmp_path / "ranks") == files(one)
    assert_same_run(tmp_path / "ranks", one)
    # What is said is said once; only the steps a second are others.
    assert their_out == out
    spoken = [line.rpartition(",")[0] for line in error.splitlines()]
    assert [line.rpartition(",")[0] for line in their_error.splitlines()] == spoken
    assert [line[: len("epoch 1")] for line in spoken] == [f"epoch {k}" for k in (1, 2, 3, 1, 2)]
    # fit, in float32. AdamW makes steps of a convolution's bias, whose gradient is rounding.
    runs = [folder / "runs" for folder in (tmp_path / "ranks", one)]
    assert_same_weights(*[run / "net/net.safetensors" for run in runs], rtol=0, atol=1e-4)
    for row, other in zip(*[lines(run / "metrics.jsonl") for run in runs], strict=True):
        assert row == pytest.approx(other, rel=1e-5)
    config, other = (json.loads((run / "config.json").read_text()) for run in runs)
    assert config == other


@pytest.mark.soak
def test_one_process_of_torchrun_is_a_program_on_its_own(tmp_path, whole):
    code, _, error = said(torchrun(tmp_path / "ranks", "trainer", ranks=1))

    assert code == 0, error
    assert_same_run(tmp_path / "ranks", whole)


def killed_twice(folder: Path, part: str) -> Path:
    code, _, error = said(torchrun(folder, part, "kills", options=("--max-restarts", "2")))
    assert code == 0, error
    faults = (folder / "faults.txt").read_text().splitlines()
    happened = [line.partition(" after")[0] for line in faults]
    assert happened == ["rank 1 was killed", "rank 0 was killed"]
    return folder


@pytest.mark.soak
def test_ranks_that_are_killed_are_started_again_and_lose_nothing(tmp_path, whole):
    assert_same_run(killed_twice(tmp_path / "ranks", "trainer"), whole)


@pytest.mark.soak
def test_fit_on_ranks_that_are_killed_goes_on_by_itself(tmp_path):
    killed, whole = killed_twice(tmp_path / "ranks", "fit"), tmp_path / "whole"
    code, _, error = said(torchrun(whole, "fit", "slow"))

    assert code == 0, error
    assert files(killed / "runs") == files(whole / "runs")
    weights = [load_file(folder / "runs/net/net.safetensors") for folder in (killed, whole)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert lines(killed / "runs/metrics.jsonl") == lines(whole / "runs/metrics.jsonl")


@pytest.mark.soak
def test_a_killed_rank_without_restarts_ends_the_program(tmp_path):
    code, _, error = said(torchrun(tmp_path / "ranks", "trainer", "kills"))

    assert code != 0
    assert "rank 1 was killed" in (tmp_path / "ranks/faults.txt").read_text()
    assert "Signal 9 (SIGKILL)" in error


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_stops_torchrun_lets_ranks_save_and_go_on_later(tmp_path, whole, number):
    folder = tmp_path / "ranks"
    started = torchrun(folder, "trainer", "slow")
    deadline = time.monotonic() + PATIENCE
    while not (folder / "metrics.jsonl").exists() or not lines(folder / "metrics.jsonl"):
        assert started.poll() is None, said(started)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(number)
    code, _, error = said(started)
    assert code != 0
    (stopped,) = [line for line in error.splitlines() if line.startswith("stopped after step")]
    name = signal.Signals(number).name
    step = int(stopped.removeprefix("stopped after step ").removesuffix(f": {name}"))
    saved = sorted(place.name for place in (folder / "checkpoints").iterdir())
    assert a_script.STEPS <= step < a_script.STEPS * a_script.EPOCHS
    assert saved[-1] == f"step-{step:010}"

    code, _, error = said(torchrun(folder, "trainer", "slow"))
    assert code == 0, error
    assert_same_run(folder, whole)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("callback", "KeyError: 'this callback is broken'"),
        ("step", "memory is short at step 9"),
        ("disk", "No space left on device"),
    ],
)
def test_what_fails_on_one_rank_ends_all_of_them_soon(tmp_path, fault, words):
    folder = tmp_path / "ranks"
    code, _, error = said(torchrun(folder, "trainer", fault))
    took = time.time() - float((folder / "faults.txt").read_text().rpartition(" ")[2])

    assert code != 0
    assert words in error
    # The others do not wait for it until the 30 minutes are over that a message may take.
    assert took < 30
