"""What training costs, in the epoch's row."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from siamlearn.train import monitoring
from siamlearn.train.callbacks import Callback
from siamlearn.train.monitoring import LearningRates, PeakMemory, Throughput


class Second(Callback):
    """A clock on which a step takes two seconds, of which half a second is waiting for data."""

    now = 0.0

    def on_fit_start(self, trainer):
        trainer.waited = 100.0

    def on_step_end(self, trainer):
        self.now += 2
        trainer.waited += 0.5

    def on_epoch_end(self, trainer):
        self.now += 1000  # validation, and the other callbacks


def test_each_group_has_its_rate_after_its_steps_in_the_row(tiny):
    trainer = tiny.trainer(tiny.adamw, callbacks=[LearningRates()])
    trainer.fit(tiny.batches(number=2), epochs=2)
    for row in trainer.log:
        assert row["lr_0"] == row["lr"]
    assert trainer.log[1]["lr_0"] == trainer.optimizer.param_groups[0]["lr"]
    assert trainer.log[1]["lr_1"] == pytest.approx(trainer.log[1]["lr_0"] / 2)


def test_a_group_is_called_by_its_name():
    group = {"name": "head", "lr": torch.tensor(0.5)}
    trainer = SimpleNamespace(optimizer=SimpleNamespace(param_groups=[group]), log=[{}])
    LearningRates().on_epoch_end(trainer)
    assert trainer.log == [{"lr_head": 0.5}]


def test_throughput_is_of_the_steps_alone(tiny, monkeypatch):
    clock = Second()
    monkeypatch.setattr(monitoring, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    trainer = tiny.trainer(callbacks=[clock, Throughput()])
    trainer.fit(tiny.batches(number=3), epochs=2)
    for row in trainer.log:
        assert row["seconds"] == 6
        assert row["pictures_per_second"] == 4  # 8 pictures in 2 seconds
        assert row["waiting"] == pytest.approx(0.25, abs=0.01)


def test_accumulated_batches_are_all_counted(tiny, monkeypatch):
    clock = Second()
    monkeypatch.setattr(monitoring, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    trainer = tiny.trainer(callbacks=[clock, Throughput()], accumulate=3)
    trainer.fit(tiny.batches(number=5), epochs=1)
    assert trainer.log[0]["pictures_per_second"] == 5 * 8 / 4


def test_the_peak_of_memory_is_that_of_the_process_and_stays(tiny):
    trainer = tiny.trainer(callbacks=[PeakMemory()])
    trainer.fit(tiny.batches(number=1), epochs=1)
    before = trainer.log[0]["memory_mib"]
    size = int(before) + 50
    taken = torch.ones(size, 2**18)  # in floats, of 4 bytes: MiB
    trainer.fit(tiny.batches(number=1), epochs=2)
    assert trainer.log[1]["memory_mib"] >= size
    del taken
    trainer.fit(tiny.batches(number=1), epochs=3)
    assert trainer.log[2]["memory_mib"] > trainer.log[1]["memory_mib"] - 1


def test_the_peak_is_not_that_of_the_program_that_started_this_one():
    program = "from siamlearn.train import monitoring; assert monitoring._peak_memory() < {}"
    taken = torch.ones(1000, 2**18)
    run = [sys.executable, "-c", program.format(1000)]
    subprocess.run(run, check=True)
    del taken


def test_where_no_system_file_tells_the_resource_module_does(monkeypatch):
    monkeypatch.setattr(monitoring, "Path", lambda path: SimpleNamespace(exists=lambda: False))
    assert monitoring._peak_memory() > 10
    monkeypatch.setitem(sys.modules, "resource", None)
    assert monitoring._peak_memory() is None


@pytest.mark.parametrize("callback", [LearningRates, Throughput, PeakMemory])
def test_watching_changes_no_weight(tiny, callback):
    def weights(*callbacks):
        trainer = tiny.trainer(callbacks=callbacks).fit(tiny.batches(number=2), epochs=2)
        return torch.cat([p.detach().flatten() for p in trainer.net.parameters()])

    assert torch.equal(weights(), weights(callback()))
