"""What people and files are told."""

import csv
import json
import sys

import pytest
import torch

from siamlearn.nn.nets import EmbeddingNet, NetConfig
from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.reporting import LogCSV, LogLines, Progress, Summary
from siamlearn.train.trainer import Trainer
from train.on_ranks import on_ranks


class Extra(Callback):
    """A value that only the second epoch's row has."""

    def on_epoch_end(self, trainer):
        if trainer.epoch == 2:
            trainer.log[-1]["auc"] = 0.75


class Stop(Callback):
    def on_step_end(self, trainer):
        if trainer.step == 4:
            trainer.stop("enough")


def fit(tiny, *callbacks, epochs=2, **options):
    return tiny.trainer(callbacks=callbacks).fit(tiny.batches(number=3), epochs=epochs, **options)


def test_progress_without_a_terminal_is_a_line_now_and_then(tiny):
    often, seldom = [], []
    progress = [Progress(every=0, write=often.append), Progress(every=3600, write=seldom.append)]
    fit(tiny, Extra(), *progress)
    assert [line.split(", ")[0] for line in often] == ["epoch 1/2", "epoch 2/2"]
    assert len(seldom) == 1  # the last epoch always has one
    assert "auc 0.75" in seldom[0]
    assert seldom[0].endswith(" steps/s\n")


def test_progress_writes_to_the_error_stream_and_says_why_it_stopped(tiny, capsys):
    fit(tiny, Stop(), Progress())
    out, err = capsys.readouterr()
    assert (out, err) == ("", "stopped after step 4: enough\n")


def test_progress_at_a_terminal_is_a_bar_over_the_whole_run(tiny, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fit(tiny, Extra(), Progress())
    bar = capsys.readouterr().err
    assert "6/6" in bar
    assert "epoch 2/2, loss" in bar


def test_progress_of_a_resumed_run_begins_where_it_stood(tiny, tmp_path, monkeypatch, capsys):
    fit(tiny, Stop(), Checkpoint(tmp_path))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fit(tiny, Progress(), Checkpoint(tmp_path), resume=tmp_path)
    assert "4/6" in capsys.readouterr().err.split("\r")[1]


def test_summary_says_as_much_as_it_was_asked_for(tiny):
    def said(verbose):
        lines = []
        fit(tiny, Summary(verbose, write=lines.append), epochs=1)
        return lines

    architecture, optimizer, table = said(3)
    assert said(0) == []
    assert said(1) == [architecture]
    assert said(2) == [architecture, optimizer]
    assert architecture.startswith("Sequential(")
    assert optimizer.startswith("SGD (")
    assert [line.split() for line in table.splitlines()] == [
        ["parameter", "shape", "count"],
        ["0.weight", "3", "x", "1", "x", "3", "x", "3", "27"],
        ["0.bias", "3", "3"],
        ["1.weight", "3", "3"],
        ["1.bias", "3", "3"],
        ["5.weight", "4", "x", "48", "192"],
        ["5.bias", "4", "4"],
        ["total", "232"],
    ]


def test_summary_counts_the_notebooks_net_and_marks_what_is_frozen(capsys):
    net = EmbeddingNet(NetConfig.preset("notebook"))
    first, *others = net.parameters()
    first.requires_grad_(False)
    trainer = Trainer(
        net, lambda e, y: e.mean(), torch.optim.SGD(others, 0.1), callbacks=[Summary(3)]
    )
    trainer.fit([(torch.rand(2, 1, 100, 100), torch.zeros(2))], epochs=1)
    out = capsys.readouterr().out.splitlines()
    assert out[-1].split() == ["total", "1,516"]
    assert [line.split()[-1] for line in out if "frozen" in line] == ["frozen"]


def test_summary_takes_no_other_number():
    with pytest.raises(ValueError, match=r"verbose must be 0 .* got 4"):
        Summary(4)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_and_table_hold_the_log(tiny, tmp_path):
    lines, table = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / "log.csv"
    trainer = fit(tiny, Extra(), LogLines(lines), LogCSV(table))
    assert rows(lines) == trainer.log
    with table.open() as file:
        first, second = csv.DictReader(file)
    assert list(first) == ["epoch", "step", "loss", "lr", "auc"]
    assert (first["auc"], second["auc"]) == ("", "0.75")
    assert float(second["loss"]) == trainer.log[1]["loss"]
    assert sorted(path.name for path in lines.parent.iterdir()) == ["log.csv", "metrics.jsonl"]


def test_a_resumed_run_has_each_row_once(tiny, tmp_path):
    def files():
        return LogLines(tmp_path / "metrics.jsonl"), LogCSV(tmp_path / "log.csv")

    fit(tiny, *files(), Checkpoint(tmp_path / "kept", keep=None), epochs=3)
    # As after a crash: the files are ahead of the checkpoint, and the last line is broken off.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch"')
    trainer = fit(
        tiny,
        *files(),
        Checkpoint(tmp_path / "kept", keep=None),
        epochs=4,
        resume=tmp_path / "kept" / "step-0000000003",
    )
    assert rows(tmp_path / "metrics.jsonl") == trainer.log
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize("log", [LogLines, LogCSV])
def test_the_log_of_another_run_is_not_overwritten(tiny, tmp_path, log):
    (tmp_path / "log").write_text("precious")
    with pytest.raises(ValueError, match="is the log of another run"):
        fit(tiny, log(tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "precious"


def test_only_the_first_rank_speaks_and_writes(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def work(rank):
        said = []
        files = [kind(tmp_path / f"{kind.__name__} of {rank}") for kind in (LogLines, LogCSV)]
        speaking = Summary(3, write=said.append), Progress(every=0, write=said.append)
        bar = Progress()
        noted = Noted(bar)
        fit(tiny, Stop(), *files, *speaking, bar, noted)
        return len(said), noted.bars

    (first, bars), second = on_ranks(2, tmp_path / "ranks", work)
    assert first > 3
    assert bars
    assert second == (0, False)
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert files == ["LogCSV of 0", "LogLines of 0"]


class Noted(Callback):
    """Whether a progress bar was there."""

    bars = False

    def __init__(self, progress):
        self.progress = progress

    def on_step_end(self, trainer):
        self.bars = self.bars or self.progress._bar is not None


def test_all_ranks_are_told_that_the_log_is_of_another_run(tiny, tmp_path):
    (tmp_path / "log").write_text("precious")
    said = on_ranks(2, tmp_path / "ranks", lambda rank: fit(tiny, LogLines(tmp_path / "log")).step)
    assert all("is the log of another run" in text for text in said)
