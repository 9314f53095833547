"""What other programs are told. Two libraries are too large for tests: small ones stand for them,
with the rules of the real ones that matter here."""

import sys
from itertools import count
from types import SimpleNamespace

import pytest

from siamlearn.train.callbacks import Callback
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.loggers import MLflow, TensorBoard, WeightsAndBiases
from train.on_ranks import on_ranks

LOGGERS = [TensorBoard, WeightsAndBiases, MLflow]


class StandingForWandb:
    """Runs that take values of rising steps, and go on where their id is known."""

    def __init__(self):
        self.runs, self.asked, self.ids = {}, [], count()

    def init(self, *, id=None, resume=None, project=None, **options):
        self.asked.append({"id": id, "resume": resume, "project": project, **options})
        id = id or f"run-{next(self.ids)}"
        known = id in self.runs
        run = self.runs.setdefault(id, SimpleNamespace(id=id, rows={}, step=0, summary={}))
        run.step = max(run.rows) + 1 if known and run.rows else 0
        run.config, run.exit_code = options["config"], None
        run.log = lambda values, step: self.log(run, values, step)
        run.finish = lambda exit_code: setattr(run, "exit_code", exit_code)
        return run

    def log(self, run, values, step):
        assert step >= max([run.step, *run.rows]), "a step below the last one is dropped"
        assert not run.rows.get(step, {}).keys() & values.keys()
        run.rows.setdefault(step, {}).update(values)


class StandingForMlflow:
    """Runs that keep every value that they are given, twice if it is given twice."""

    def __init__(self):
        self.entities = SimpleNamespace(
            Metric=lambda key, value, time, step: SimpleNamespace(key=key, value=value, step=step)
        )
        self.runs, self.experiments, self.uris = {}, {}, []

    def MlflowClient(self, tracking_uri=None):  # noqa: N802
        self.uris.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name):
        known = self.experiments.get(name)
        return known and SimpleNamespace(experiment_id=known)

    def create_experiment(self, name):
        assert name not in self.experiments
        return self.experiments.setdefault(name, f"{len(self.experiments)}")

    def create_run(self, experiment_id, run_name=None):
        id = f"run-{len(self.runs)}"
        self.runs[id] = SimpleNamespace(
            place=experiment_id, name=run_name, metrics=[], params={}, tags={}, status="RUNNING"
        )
        return SimpleNamespace(info=SimpleNamespace(run_id=id))

    def update_run(self, run_id, status):
        self.runs[run_id].status = status

    set_terminated = update_run

    def log_param(self, run_id, name, value):
        self.runs[run_id].params[name] = value

    def set_tag(self, run_id, name, value):
        self.runs[run_id].tags[name] = value

    def log_batch(self, run_id, metrics):
        assert self.runs[run_id].status == "RUNNING"
        self.runs[run_id].metrics.extend(metrics)

    def get_metric_history(self, run_id, key):
        return [metric for metric in self.runs[run_id].metrics if metric.key == key]


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", library := StandingForWandb())
    return library


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", library := StandingForMlflow())
    return library


@pytest.fixture
def make(wandb, mlflow, tmp_path):
    """A logger of each class, and all (name, step, value) that its program has in the end."""

    def make(kind, **options):
        return kind(str(tmp_path / "events") if kind is TensorBoard else "faces", **options)

    def seen(kind):
        if kind is TensorBoard:
            return events(tmp_path / "events")
        if kind is WeightsAndBiases:
            (run,) = wandb.runs.values()
            return [(name, step, row[name]) for step, row in run.rows.items() for name in row]
        (run,) = mlflow.runs.values()
        return [(metric.key, metric.step, metric.value) for metric in run.metrics]

    make.seen = seen
    return make


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [
        (name, event.step, event.value)
        for name in found.Tags()["scalars"]
        for event in found.Scalars(name)
    ]


class Stop(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            trainer.stop("enough")


class Fail(Stop):
    def on_step_end(self, trainer):
        if trainer.step == self.step:
            raise RuntimeError


def fit(tiny, *callbacks, epochs=3, **options):
    return tiny.trainer(callbacks=callbacks).fit(tiny.batches(number=3), epochs=epochs, **options)


def of_epochs(trainer):
    """What a logger is to have of each epoch; "epoch" is left out for TensorBoard."""
    names = ("loss", "lr")
    return sorted((name, row["step"], row[name]) for row in trainer.log for name in names)


def close(seen):
    return sorted((name, step, pytest.approx(value)) for name, step, value in seen)


@pytest.mark.parametrize("kind", LOGGERS)
def test_each_value_is_written_at_its_step(tiny, make, kind):
    trainer = fit(tiny, make(kind))
    seen = [entry for entry in make.seen(kind) if entry[0] != "epoch"]
    assert close(seen) == of_epochs(trainer)


@pytest.mark.parametrize("kind", LOGGERS)
def test_of_every_few_steps_the_steps_own_values_are_written(tiny, make, kind):
    class Note(Callback):
        def on_step_end(self, trainer):
            steps[trainer.step] = trainer.loss, trainer.gradient_norm

    steps = {}
    fit(tiny, make(kind, every_steps=2), Note())
    seen = {(name, step): value for name, step, value in make.seen(kind)}
    assert sorted(step for name, step in seen if name == "step/loss") == [2, 4, 6, 8]
    for step in (2, 4, 6, 8):
        assert seen["step/loss", step] == pytest.approx(steps[step][0])
        assert seen["step/gradient_norm", step] == pytest.approx(steps[step][1])
        assert ("step/lr", step) in seen


@pytest.mark.parametrize("kind", LOGGERS)
@pytest.mark.parametrize("crash", [4, 5, 8])
def test_a_resumed_run_goes_on_with_its_own_and_has_each_step_once(
    tiny, make, kind, crash, tmp_path
):
    # Checkpoints are at steps 3, 6 and 9: what comes after one is made again.
    kept = tmp_path / "kept"
    with pytest.raises(RuntimeError):
        fit(tiny, make(kind, every_steps=1), Fail(crash), Checkpoint(kept))
    trainer = fit(tiny, make(kind, every_steps=1), Checkpoint(kept), resume=kept)
    seen = make.seen(kind)
    assert len({entry[:2] for entry in seen}) == len(seen)
    assert sorted(step for name, step, _ in seen if name == "step/loss") == list(range(1, 10))
    assert close(e for e in seen if e[0] in ("loss", "lr")) == of_epochs(trainer)


@pytest.mark.parametrize("kind", LOGGERS)
def test_only_the_first_rank_writes(tiny, make, kind, wandb, mlflow, tmp_path):
    def work(rank):
        fit(tiny, logger)
        return len(wandb.runs), len(mlflow.runs)

    logger = make(kind, every_steps=1)
    first, second = on_ranks(2, tmp_path / "ranks", work)
    assert second == (0, 0)
    assert sum(first) == (kind is not TensorBoard)
    if kind is TensorBoard:
        assert len(list((tmp_path / "events").iterdir())) == 1
        assert len({entry[:2] for entry in make.seen(kind)}) == len(make.seen(kind))


def test_all_ranks_are_told_that_a_logger_cannot_begin(tiny, wandb, tmp_path):
    def refuse(**options):
        msg = "no such project"
        raise RuntimeError(msg)

    wandb.init = refuse
    said = on_ranks(2, tmp_path, lambda rank: fit(tiny, WeightsAndBiases("faces")).step)
    assert all("no such project" in text for text in said)


@pytest.mark.parametrize("kind", LOGGERS)
def test_logging_changes_no_weight(tiny, make, kind):
    def weights(*callbacks):
        return tiny.trainer(callbacks=callbacks).fit(tiny.batches(number=3), epochs=1)

    with_it, without = weights(make(kind, every_steps=1)), weights()
    assert all(
        (a == b).all()
        for a, b in zip(with_it.net.parameters(), without.net.parameters(), strict=True)
    )


def test_weights_and_biases_gets_its_own_options(tiny, wandb):
    fit(tiny, WeightsAndBiases("faces", mode="offline", config={"camera": 3}, id="mine"))
    (asked,) = wandb.asked
    assert (asked["project"], asked["mode"], asked["id"]) == ("faces", "offline", "mine")
    assert asked["resume"] == "allow"
    config = wandb.runs["mine"].config
    assert (config["camera"], config["seed"], config["optimizer"]) == (3, 5, "SGD")


def test_mlflow_gets_the_settings_and_the_experiment_is_made_once(tiny, mlflow):
    for name in ("first", "second"):
        fit(tiny, MLflow("faces", uri="sqlite:///some.db", name=name))
    assert mlflow.uris == ["sqlite:///some.db"] * 2
    assert list(mlflow.experiments) == ["faces"]
    assert [run.name for run in mlflow.runs.values()] == ["first", "second"]
    assert mlflow.runs["run-0"].params["seed"] == 5


@pytest.mark.parametrize(("end", "code", "status"), [(Stop, 0, "FINISHED"), (Fail, 1, "FAILED")])
def test_they_are_told_how_training_ended(tiny, wandb, mlflow, end, code, status):
    try:
        fit(tiny, WeightsAndBiases("faces"), MLflow("faces"), end(4))
    except RuntimeError:
        assert end is Fail
    (ours,), (theirs,) = wandb.runs.values(), mlflow.runs.values()
    assert (ours.exit_code, theirs.status) == (code, status)
    said = {"stopped": "enough"} if end is Stop else {}
    assert (ours.summary, theirs.tags) == (said, said)


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [
        (TensorBoard, "torch.utils.tensorboard", "tensorboard"),
        (WeightsAndBiases, "wandb", "wandb"),
        (MLflow, "mlflow", "mlflow"),
    ],
)
def test_without_its_library_the_pip_command_is_named(monkeypatch, kind, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf'pip install "siamlearn\[{extra}\]"'):
        kind("name")


@pytest.mark.parametrize("kind", LOGGERS)
def test_steps_are_counted_from_one(make, kind):
    with pytest.raises(ValueError, match="every_steps must be at least 1, got 0"):
        make(kind, every_steps=0)
