"""Each symptom on a run that was made sick with it, and silence on healthy ones."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

import siamlearn as sl
from siamlearn.data.drawn import DrawnFaces
from siamlearn.functional.mining import pair_margin
from siamlearn.train.doctor import Aim, Doctor, aim
from siamlearn.train.looks import Look, Record, effective_rank, look
from siamlearn.train.shortages import overfitting, starving, tiny_batches
from siamlearn.train.symptoms import collapse, exploding_norms, high_learning_rate, idle_loss

PEOPLE, EACH, WIDTH = 12, 4, 16


class Drawn:
    """Batches of points around the centres of people, drawn anew for each batch."""

    def __init__(self, noise=0.3, batches=6, people=PEOPLE, each=EACH, first=0):
        self.noise, self.batches, self.people, self.each = noise, batches, people, each
        self.first = first

    def __iter__(self):
        generator = torch.Generator().manual_seed(7)
        centres = torch.randn(self.first + self.people, WIDTH, generator=generator)[self.first :]
        labels = torch.arange(self.people).repeat(self.each)
        for _ in range(self.batches):
            noise = torch.randn(len(labels), WIDTH, generator=generator)
            yield centres[labels] + self.noise * noise, labels


class Unit(nn.Module):
    """To length 1."""

    def forward(self, x):
        return nn.functional.normalize(x, dim=1)


def layers(*more, hidden=32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(WIDTH, hidden), nn.LeakyReLU(), nn.Linear(hidden, 8), *(make() for make in more)
    )


def examined(net, loss, batches, *, lr=1e-2, epochs=8, optimizer=torch.optim.Adam, **options):
    """What the doctor finds in a run, and what it says."""
    said = []
    doctor = Doctor(every=2, write=said.append)
    trainer = sl.Trainer(net, loss, optimizer(net.parameters(), lr=lr), callbacks=[doctor])
    trainer.fit(batches, epochs=epochs, **options)
    assert said == [f"{each}\n" for each in doctor.findings]
    return [each.name for each in doctor.findings]


HEALTHY = {
    "contrastive": (layers, sl.ContrastiveLoss(), {}),
    "of unit length": (lambda: layers(Unit), sl.ContrastiveLoss(), {}),
    "triplets": (lambda: layers(Unit), sl.TripletLoss(margin=0.5), {}),
    "hardest triplets": (layers, sl.BatchHardLoss(margin=1.0), {"lr": 1e-3}),
    "softmax": (lambda: layers(Unit), sl.SupConLoss(0.1), {}),
    "proxies": (layers, sl.ArcFaceLoss(PEOPLE, 8), {}),
    "memory": (layers, sl.ContrastiveLoss(references=sl.Memory(size=256)), {}),
    "batch norm": (lambda: nn.Sequential(layers(), nn.BatchNorm1d(8)), sl.ContrastiveLoss(2.0), {}),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_met_with_silence(name):
    net, loss, options = HEALTHY[name]
    batches = Drawn(noise=1.0)  # people overlap a little, so that something is left to learn
    assert (
        examined(
            net(), loss, batches, validation=Drawn(noise=1.0, batches=2, first=PEOPLE), **options
        )
        == []
    )


def test_fit_is_met_with_silence():
    faces = DrawnFaces(8, 4, size=(28, 23))
    doctor = Doctor(every=1)
    sl.fit(faces, epochs=12, callbacks=[doctor])
    assert doctor.record.looks > 10
    assert doctor.findings == []


def strangers():
    batches = list(Drawn())
    return [(x, torch.arange(len(x))) for x, _ in batches]


SICK = {
    "collapse": (
        layers,
        sl.BatchHardLoss(margin=1.0),
        lambda: Drawn(noise=3.0, people=16),  # the hardest of many that cannot be told apart
        {"lr": 0.03, "epochs": 12},
    ),
    "narrow embeddings": (
        lambda: nn.Sequential(layers(), nn.Linear(8, 1), nn.Linear(1, 8)),
        sl.ContrastiveLoss(),
        Drawn,
        {},
    ),
    "margin met by all": (lambda: layers(Unit), sl.TripletLoss(margin=0.05), Drawn, {}),
    "dead miner": (
        lambda: layers(Unit),
        sl.ContrastiveLoss(
            miner=lambda pairs: pair_margin(pairs, positive_margin=3.0, negative_margin=0.0)
        ),
        lambda: Drawn(noise=1.0),
        {},
    ),
    "no pairs": (layers, sl.TripletLoss(), strangers, {}),
    "margin out of reach": (
        lambda: layers(Unit),
        sl.ContrastiveLoss(margin=5.0),
        Drawn,
        {"epochs": 16},
    ),
    "exploding norms": (layers, lambda x, y: -x.square().sum(1).mean(), Drawn, {"lr": 0.1}),
    "learning rate too high": (layers, sl.ContrastiveLoss(), Drawn, {"lr": 0.3}),
    "batch norm on tiny batches": (
        lambda: nn.Sequential(layers(), nn.BatchNorm1d(8)),
        sl.ContrastiveLoss(),
        lambda: Drawn(people=3, each=2),
        {},
    ),
    "overfitting": (
        lambda: layers(Unit, hidden=256),
        sl.SupConLoss(0.05),
        lambda: [next(iter(Drawn(noise=2.0)))] * 6,
        {"validation": Drawn(noise=2.0, batches=2, first=PEOPLE), "epochs": 10},
    ),
}


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_is_told_what_it_has_and_only_that(name):
    torch.manual_seed(0)
    net, loss, batches, options = SICK[name]
    assert {*examined(net(), loss, batches(), **options)} == {name}


def test_a_sampler_that_starves_somebody_is_named(tiny):
    images = tiny.pictures(people=5, each=4)
    some = [k for k, label in enumerate(images.labels.tolist()) if label != 3]
    batches = [some[k::2] for k in range(2)] * 10
    said = []
    doctor = Doctor(write=said.append)
    net = tiny.net()
    trainer = sl.Trainer(
        net,
        sl.ContrastiveLoss(),
        torch.optim.Adam(net.parameters(), lr=1e-3),
        callbacks=[doctor],
        device="cpu",
    )
    trainer.fit(DataLoader(images, batch_sampler=batches), epochs=2)
    assert [each.name for each in doctor.findings] == ["starving people"]
    assert "1 of them in none: p3" in said[0]


@given(
    people=st.integers(3, 9),
    each=st.integers(1, 5),
    parts=st.integers(2, 4),
    batches=st.integers(1, 60),
)
def test_our_samplers_starve_nobody(people, each, parts, batches):
    labels = torch.arange(people).repeat(each)
    sampler = sl.BalancedSampler(labels, identities=2, images=parts, batches=batches)
    turns: dict[int, int] = {}
    for batch in sampler:
        for label in {*labels[batch].tolist()}:
            turns[label] = turns.get(label, 0) + 1
    assert starving(turns, dict.fromkeys(range(people), each)) is None


def test_few_turns_prove_nothing():
    pictures = dict.fromkeys(range(10), 5)
    assert starving({0: 5, 1: 5}, pictures) is None  # 1 expected of each: too few to tell
    assert starving({0: 500, 1: 500}, pictures).degree == 8
    assert starving(dict.fromkeys(range(9), 100) | {9: 22}, pictures).degree == 1
    assert starving(dict.fromkeys(range(9), 100) | {9: 26}, pictures) is None


def test_a_person_with_few_pictures_may_come_up_rarely():
    pictures = dict.fromkeys(range(9), 100) | {9: 1}
    assert starving(dict.fromkeys(range(9), 100) | {9: 1}, pictures) is None


def test_training_is_the_same_to_the_last_bit_with_a_doctor(tiny):
    def trained(callbacks):
        trainer = tiny.trainer(callbacks=callbacks, average=0.9).fit(tiny.batches(), epochs=3)
        state = trainer.state_dict()
        return [*state["model"].values(), *trainer.average.state_dict().values()], trainer.log

    (with_one, log), (without, plain) = trained([Doctor(every=1)]), trained([])
    assert all(map(torch.equal, with_one, without))
    assert log == plain


@pytest.mark.parametrize("stop", [4, 7, 11])
def test_a_resumed_run_has_the_same_findings_and_says_none_twice(tiny, tmp_path, stop):
    said = []

    def run(folder, stopping, resume=None):
        class Stop(sl.Callback):
            def on_step_end(self, trainer):
                if trainer.step == stopping:
                    trainer.stop("enough")

        doctor = Doctor(every=1, write=said.append)
        callbacks = [doctor, Stop(), sl.Checkpoint(tmp_path / folder)]
        tiny.trainer(callbacks=callbacks, micro_batch=None).fit(
            [
                (torch.rand(4, 1, 6, 6, generator=torch.manual_seed(k)), torch.arange(4) // 2)
                for k in range(7)
            ],
            epochs=3,
            resume=resume,
        )
        return doctor

    whole = run("whole", 0)
    assert [each.name for each in whole.findings][:1] == ["batch norm on tiny batches"]
    first = len(said)
    run("parts", stop)
    resumed = run("parts", 0, resume=tmp_path / "parts")
    assert resumed.findings == whole.findings
    assert resumed.turns == whole.turns
    assert len(said) == 2 * first
    assert resumed.record.state_dict() == whole.record.state_dict()


def test_a_new_run_begins_with_a_clean_sheet(tiny):
    doctor = Doctor(write=lambda text: None)
    for _ in range(2):
        tiny.trainer(callbacks=[doctor]).fit(tiny.batches(number=2), epochs=1)
        assert doctor.record.looks == 1


def test_what_became_twice_as_bad_is_said_again(tiny):
    lengths = [1.0, 200, 201, 202, 300, 390, 401, 410, 500, 799, 900, 950, 1000] + [math.inf] * 5
    doctor = Doctor(write=lambda text: None)
    record = doctor.record
    trainer = tiny.trainer(callbacks=[doctor])
    for step, length in enumerate(lengths, start=1):
        record.add(Look(step, gradient=1.0, length=length))
        doctor._say([exploding_norms(record)], trainer)
    assert [each.degree for each in doctor.findings] == [202, 410, 900, math.inf]


def test_effective_rank_by_hand():
    # Singular values 3 and 1: shares 3/4 and 1/4.
    points = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(points) == pytest.approx(math.exp(entropy))
    assert effective_rank(points + 1000) == pytest.approx(math.exp(entropy))
    assert effective_rank(torch.full((5, 3), 0.1)) == 0
    assert effective_rank(torch.ones(1, 3)) == 0


@given(
    n=st.integers(2, 12), d=st.integers(1, 8), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99)
)
def test_effective_rank_is_that_of_the_shape_alone(n, d, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, d, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    rank = effective_rank(points)
    assert 1 - 1e-6 <= rank <= min(n - 1, d) + 1e-6
    assert effective_rank(scale * points @ turn) == pytest.approx(rank, abs=1e-5)


def test_a_look_by_hand():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    found = look(x, torch.tensor([1, 1, 2]), step=3)
    assert (found.near, found.positive, found.positives) == (5.0, 5.0, 1)
    assert found.far == pytest.approx(math.sqrt(18))
    assert found.negative == pytest.approx((1 + math.sqrt(18)) / 2)
    assert (found.rows, found.people, found.possible, found.auc) == (3, 2, 1, 0.0)
    assert found.length == pytest.approx(math.sqrt(26 / 3))
    several = look(x, torch.tensor([[1, 0], [1, 1], [0, 1]]).bool())
    assert (several.positives, several.negatives) == (2, 1)


def test_a_look_at_a_large_batch_keeps_people_together():
    labels = torch.arange(500).repeat(2)
    found = look(torch.randn(1000, 4), labels)
    assert (found.rows, found.people, found.positives) == (1000, 64, 64)


def test_what_is_not_finite_is_looked_at_all_the_same():
    x = torch.tensor([[math.inf, 0.0], [1.0, 2.0], [1e30, 1.0]])
    found = look(x, torch.tensor([0, 0, 1]))
    assert math.isnan(found.rank)
    record = Record()
    for step in range(1, 12):
        length = 1.0 if step == 1 else math.inf
        pairs = {"positives": 4, "negatives": 4}
        record.add(Look(step, loss=1.0, gradient=0.0, length=length, **pairs))
    assert exploding_norms(record).name == "exploding norms"
    assert idle_loss(record) is None
    assert collapse(record) is None


def test_a_run_is_judged_only_after_a_few_looks():
    record = Record()
    for step in range(1, 4):
        record.add(Look(step, loss=9.0 if step > 1 else 1.0, rate=0.1))
        assert high_learning_rate(record) is None
    record.add(Look(4, loss=9.0, rate=0.1))
    assert high_learning_rate(record).degree == 9


def test_a_record_keeps_the_beginning_and_the_end():
    record = Record()
    for step in range(1, 1001):
        record.add(Look(step, loss=1 / step))
    assert [each.step for each in record.first] == [1, 2, 3, 4, 5]
    assert [each.step for each in record.recent] == [*range(981, 1001)]
    assert Record.from_state(record.state_dict()) == record


def test_batch_norms_are_told_apart_by_what_they_see():
    assert tiny_batches(norms=1, rows=7).degree == pytest.approx(8 / 7)
    assert tiny_batches(norms=1, rows=8) is None


def test_rows_that_say_nothing_of_validation_are_passed_over():
    values = [(0.5, 0.5), (0.4, math.nan), (0.2, 0.9), (0.1, 0.9), (0.1, 0.9)]
    log = [{"step": 1.0, "loss": loss, "val_loss": val} for loss, val in values]
    assert overfitting(log).degree == pytest.approx(1.8)
    assert overfitting([{"step": 1.0, "loss": 0.1}] * 9) is None


@pytest.mark.parametrize(
    ("loss", "margin", "between"),
    [
        (sl.ContrastiveLoss(2.0), 2.0, False),
        (0.5 * sl.TripletLoss(0.3) + sl.EmbeddingNorm(), 0.3, True),
        (sl.BatchHardLoss(margin=0.0, penalty=nn.functional.softplus), None, False),
        (sl.ContrastiveLoss(2.0, references=sl.Memory(size=64)), None, False),
        (sl.SupConLoss(0.1), None, False),
        (lambda x, y: x.sum(), None, False),
    ],
)
def test_what_a_loss_aims_at(loss, margin, between):
    found = aim(loss)
    assert (found.margin, found.between, found.proxies) == (margin, between, False)


def test_proxies_are_seen():
    assert aim(sl.ArcFaceLoss(3, 8)).proxies
    assert Aim().distance is sl.euclidean


def test_it_must_look_now_and_then():
    with pytest.raises(ValueError, match="every must be at least 1 step, got 0"):
        Doctor(every=0)
