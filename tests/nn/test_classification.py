"""Losses over learned classes: beside the cross-entropy of torch, loops, and their peer."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as peers
from torch import Tensor

from siamlearn.nn.losses import (
    AdaFaceLoss,
    ArcFaceLoss,
    ClassificationLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    CurricularFaceLoss,
    MagFaceLoss,
    NormalisedSoftmaxLoss,
    SphereFaceLoss,
    SubCentreArcFaceLoss,
)

CLASSES, DIMENSIONS = 7, 5
LOSSES = [
    NormalisedSoftmaxLoss,
    CosFaceLoss,
    ArcFaceLoss,
    CombinedMarginLoss,
    SphereFaceLoss,
    SubCentreArcFaceLoss,
    CurricularFaceLoss,
    AdaFaceLoss,
    MagFaceLoss,
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def a_batch(n: int = 24, length: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    embeddings = length * torch.randn(n, DIMENSIONS, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), torch.randint(CLASSES, (n,), generator=generator)


def small(loss: type[ClassificationLoss], **choices: object) -> ClassificationLoss:
    """A loss of few classes, in double precision, that does not change from batch to batch."""
    gentle = {} if loss in (NormalisedSoftmaxLoss, SphereFaceLoss) else {"scale": 8.0}
    lengths = (
        {"shortest": 1.0, "longest": 4.0, "regularisation": 0.5} if loss is MagFaceLoss else {}
    )
    made = loss(CLASSES, DIMENSIONS, **gentle, **lengths, **choices).double().eval()
    for name, value in {"progress": 0.3, "mean": 2.0, "deviation": 0.7}.items():
        if hasattr(made, name):
            getattr(made, name).fill_(value)
    return made


def outcome(loss: ClassificationLoss, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    cost = loss(embeddings, labels)
    return cost, *torch.autograd.grad(cost, [embeddings, loss.proxies.vectors])


def assert_same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def directions(*angles: float) -> Tensor:
    at = torch.tensor(angles).deg2rad()
    return torch.stack([at.cos(), at.sin()], dim=1)


# --- What they compute ----------------------------------------------------------------------------


def turned(angle: Tensor, by: float | Tensor) -> Tensor:
    margin = torch.as_tensor(by, dtype=torch.float64)
    falls = angle.cos() - margin * margin.sin()
    return (angle + margin).clamp(min=0).cos() if angle < math.pi - margin else falls


def of_quality(angle: Tensor, length: Tensor) -> Tensor:
    z = (0.333 * (length.detach() - 2.0) / 0.701).clamp(-1, 1)
    return turned(angle, -0.4 * z) - 0.4 * z - 0.4


def of_length(angle: Tensor, length: Tensor) -> Tensor:
    return turned(angle, 0.45 + 0.35 * (length - 1) / 3)


OWN = {
    NormalisedSoftmaxLoss: lambda angle, _: angle.cos(),
    CosFaceLoss: lambda angle, _: angle.cos() - 0.35,
    ArcFaceLoss: lambda angle, _: turned(angle, 0.5),
    CombinedMarginLoss: lambda angle, _: turned(angle, 0.3) - 0.2,
    SubCentreArcFaceLoss: lambda angle, _: turned(angle, 0.5),
    CurricularFaceLoss: lambda angle, _: turned(angle, 0.5),
    AdaFaceLoss: of_quality,
    MagFaceLoss: of_length,
}


def by_hand(loss: ClassificationLoss, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Mean cross-entropy of logits made one by one, and its gradients."""
    logits, length = [], x.norm(dim=1)
    cosines = F.normalize(x) @ F.normalize(loss.proxies.vectors).T
    for i, row in enumerate(cosines.unflatten(1, (CLASSES, -1)).amax(dim=2)):
        own = OWN[type(loss)](row[y[i]].acos(), length[i])
        if isinstance(loss, CurricularFaceLoss):
            row = torch.where(row > own, row * (0.3 + row), row)
        logits.append(torch.where(torch.arange(CLASSES) == y[i], own, row))
    cost = F.cross_entropy(loss.scale * torch.stack(logits), y)
    if isinstance(loss, MagFaceLoss):
        cost = cost + 0.5 * (1 / length + length / 16).mean()
    return cost, *torch.autograd.grad(cost, [x, loss.proxies.vectors])


@pytest.mark.parametrize("loss", OWN, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("rows", [None, 7, 24])
def test_equals_the_cross_entropy_of_logits_made_by_hand(loss, rows):
    embeddings, labels = a_batch()
    # MagFace is defined for lengths from the shortest to the longest.
    length = embeddings.detach().norm(dim=1, keepdim=True)
    embeddings = (embeddings.detach() / length * length.clamp(1.1, 3.9)).requires_grad_()

    module = small(loss, rows=rows)

    assert_same(outcome(module, embeddings, labels), by_hand(module, embeddings, labels))


PEERS = [
    (NormalisedSoftmaxLoss, {}, lambda: peers.NormalizedSoftmaxLoss(CLASSES, DIMENSIONS)),
    (CosFaceLoss, {}, lambda: peers.CosFaceLoss(CLASSES, DIMENSIONS)),
    # Its margin is in degrees.
    (ArcFaceLoss, {}, lambda: peers.ArcFaceLoss(CLASSES, DIMENSIONS, margin=math.degrees(0.5))),
    (SphereFaceLoss, {"annealing": 0.0}, lambda: peers.SphereFaceLoss(CLASSES, DIMENSIONS)),
    (
        SphereFaceLoss,
        {"annealing": 0.0, "margin": 3},
        lambda: peers.SphereFaceLoss(CLASSES, DIMENSIONS, margin=3),
    ),
    (
        SubCentreArcFaceLoss,
        {},
        lambda: peers.SubCenterArcFaceLoss(
            num_classes=CLASSES, embedding_size=DIMENSIONS, margin=math.degrees(0.5)
        ),
    ),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, from the peer
@pytest.mark.parametrize(("loss", "settings", "peer"), PEERS)
@pytest.mark.parametrize("rows", [None, 7, 24])
def test_equals_pytorch_metric_learning(loss, settings, peer, rows):
    embeddings, labels = a_batch()
    ours = loss(CLASSES, DIMENSIONS, rows=rows, **settings).double()
    theirs = peer().double()
    theirs.W.data = ours.proxies.vectors.detach().T.clone()
    cost = theirs(embeddings, labels)
    by_embeddings, by_vectors = torch.autograd.grad(cost, [embeddings, theirs.W])

    assert_same(outcome(ours, embeddings, labels), (cost, by_embeddings, by_vectors.T))


def test_a_class_that_is_told_well_is_still_pulled_where_pytorch_metric_learning_stops():
    # A hundredth of a degree from its class, far from others: 1 - p is 2e-8, in float32 0.
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    embedding, label = directions(0.01).requires_grad_(), torch.tensor([0])
    ours, theirs = ArcFaceLoss(3, 2), peers.ArcFaceLoss(3, 2, margin=math.degrees(0.5))
    ours.proxies.vectors.data, theirs.W.data = vectors, vectors.T.clone()
    cost = theirs(embedding, label)

    assert cost == 0
    assert torch.autograd.grad(cost, theirs.W)[0][:, 0].eq(0).all()
    found = outcome(ours, embedding, label)
    double = embedding.detach().double().requires_grad_()
    exact = outcome(ours.double(), double, label)
    assert found[0] > 1e-8
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.02, atol=1e-9)


@every_loss
def test_blocks_change_neither_value_nor_gradient(loss):
    # Embeddings long enough for MagFace to learn their length, and angles beyond all margins.
    embeddings, labels = a_batch(40, length=1.2)
    whole = outcome(small(loss, rows=40), embeddings, labels)

    assert whole[1].norm() > 0.01
    for rows in (1, 7, None):
        assert_same(outcome(small(loss, rows=rows), embeddings, labels), whole)


@every_loss
@pytest.mark.parametrize("rows", [None, 3])
def test_gradient_is_the_slope(loss, rows):
    embeddings, labels = a_batch(6)
    module = small(loss, rows=rows)
    if loss is AdaFaceLoss:
        module.concentration = 1e-9  # lengths change its value, but by the paper have no gradient

    def cost(x: Tensor, vectors: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"proxies.vectors": vectors}, (x, labels))

    vectors = module.proxies.vectors.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(cost, (embeddings, vectors))


@every_loss
def test_training_tells_the_classes_apart(loss):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    pictures = torch.randn(3, 6, generator=generator)[labels]
    pictures = pictures + 0.3 * torch.randn(60, 6, generator=generator)
    net, module = torch.nn.Linear(6, 4), loss(3, 4)
    optimizer = torch.optim.Adam([*net.parameters(), *module.parameters()], lr=0.05)
    costs = []
    for _ in range(60):
        costs.append(module(net(pictures), labels))
        optimizer.zero_grad()
        costs[-1].backward()
        optimizer.step()
    near = F.normalize(net(pictures)) @ F.normalize(module.proxies.vectors).T
    found = near.unflatten(1, (3, -1)).amax(dim=2).argmax(dim=1)

    assert costs[-1] < 0.7 * costs[0]
    assert (found == labels).float().mean() > 0.95


@every_loss
@pytest.mark.parametrize("rows", [None, 2])
def test_a_batch_that_is_nothing_or_one_or_zero_stays_finite(loss, rows):
    module = loss(CLASSES, DIMENSIONS, rows=rows)
    for embeddings in (
        torch.ones(0, DIMENSIONS),
        torch.ones(1, DIMENSIONS),
        torch.zeros(3, DIMENSIONS),
        torch.full((3, DIMENSIONS), 1e9),
        module.proxies.vectors.detach()[: 3 * module.proxies.centres : module.proxies.centres],
        -module.proxies.vectors.detach()[: 3 * module.proxies.centres : module.proxies.centres],
    ):
        at = embeddings.clone().requires_grad_()
        with torch.autograd.set_detect_anomaly(True):
            cost = module(at, torch.arange(len(at)))
            cost.backward()
        assert cost.isfinite()
        assert bool(cost > 0) == bool(len(at)) or torch.equal(at, module.proxies.vectors[:3])
        assert at.grad.isfinite().all()
        assert module.proxies.vectors.grad.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in module.buffers())


@every_loss
def test_half_precision_is_computed_in_float32(loss):
    embeddings, labels = a_batch()
    module = loss(CLASSES, DIMENSIONS).eval()
    half = embeddings.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cost = module(half, labels)
    cost.backward()

    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost, module(half.detach().float(), labels))
    assert half.grad.isfinite().all()


def test_compilation_captures_the_whole_and_lets_no_strange_label_in():
    # In a process of its own, where no types are checked, as dynamo does not like to see it.
    program = """
import torch
from siamlearn.nn.losses import *
for loss in (SubCentreArcFaceLoss, CurricularFaceLoss, MagFaceLoss):
    module = loss(7, 5).double().eval()
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    y = torch.arange(9) % 7
    ends = [x, module.proxies.vectors]
    found = []
    for form in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        cost = form(x, y)
        found.append([cost, *torch.autograd.grad(cost, ends)])
    torch.testing.assert_close(*found)
    try:
        form(x, y + 1)
    except RuntimeError as error:
        assert "labels must be from 0" in str(error)
    else:
        raise AssertionError("a label that is no class was let in")
"""
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


# --- Which classes --------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_labels_that_are_no_class_are_refused(loss, label):
    rule = f"labels must be from 0 to {CLASSES - 1}.*got {label}"
    with pytest.raises(ValueError, match=rule):
        loss(CLASSES, DIMENSIONS)(torch.zeros(2, DIMENSIONS), torch.tensor([0, label]))


def test_pictures_of_several_identities_are_refused():
    several = torch.ones(2, CLASSES, dtype=torch.bool)

    with pytest.raises(ValueError, match="one label for each picture, got true and false"):
        ArcFaceLoss(CLASSES, DIMENSIONS)(torch.zeros(2, DIMENSIONS), several)


def test_a_class_alone_is_refused():
    with pytest.raises(ValueError, match="classes must be at least 2, got 1: one alone"):
        CosFaceLoss(1, DIMENSIONS)


@every_loss
def test_a_sample_of_the_classes_is_compared_with_in_training_and_all_of_them_after(loss):
    classes, (embeddings, labels) = 500, a_batch(12)
    module = loss(classes, DIMENSIONS, sample=0.1).double()
    k = module.proxies.centres

    _, _, by_vectors = outcome(module, embeddings, labels)
    looked_at = by_vectors.unflatten(0, (classes, k)).abs().sum(dim=(1, 2)) > 0
    assert len(labels.unique()) < looked_at.sum() <= 50
    assert looked_at[labels].all()

    everyone = loss(classes, DIMENSIONS).double()
    everyone.load_state_dict(module.state_dict(), strict=False)
    assert_same((module.eval()(embeddings, labels),), (everyone.eval()(embeddings, labels),))


def test_a_loss_over_a_sample_costs_what_it_does_over_these_classes_alone():
    embeddings, labels = a_batch(12)
    module = ArcFaceLoss(100, DIMENSIONS, sample=0.2).double()
    vectors, names, _ = copy.deepcopy(module).beside(embeddings, labels)
    alone = ArcFaceLoss(20, DIMENSIONS).double()
    alone.proxies.vectors.data = vectors.detach()

    assert_same(
        (module(embeddings, labels),), (alone(embeddings, torch.searchsorted(names, labels)),)
    )


# --- What they remember ---------------------------------------------------------------------------


@every_loss
def test_a_copy_and_a_saved_loss_go_on_alike(loss):
    embeddings, labels = a_batch()
    one = loss(CLASSES, DIMENSIONS, sample=0.9).double()
    one(embeddings, labels)
    copied, loaded = copy.deepcopy(one), loss(CLASSES, DIMENSIONS, sample=0.9, seed=0).double()
    loaded.load_state_dict(one.state_dict())
    copied.proxies.vectors.data.add_(0)

    expected = one(embeddings, labels)
    for other in (copied, loaded):
        assert_same((other(embeddings, labels),), (expected,))
        assert other.state_dict().keys() == one.state_dict().keys()
        for name, value in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value)


def test_curricular_progress_is_the_running_mean_of_cosines_to_the_own_class():
    loss, (embeddings, labels) = CurricularFaceLoss(CLASSES, DIMENSIONS).double(), a_batch()
    alike = F.cosine_similarity(embeddings, loss.proxies.vectors[labels]).mean()

    loss(embeddings, labels)
    torch.testing.assert_close(loss.progress, 0.01 * alike.detach())
    loss(embeddings, labels)
    torch.testing.assert_close(loss.progress, (0.01 + 0.99 * 0.01) * alike.detach())


def test_ada_face_remembers_the_mean_and_the_deviation_of_lengths():
    loss, (embeddings, labels) = AdaFaceLoss(CLASSES, DIMENSIONS).double(), a_batch(length=9.0)
    length = embeddings.detach().norm(dim=1)

    loss(embeddings, labels)

    torch.testing.assert_close(loss.mean, 0.99 * 20 + 0.01 * length.mean())
    torch.testing.assert_close(loss.deviation, 0.99 * 100 + 0.01 * length.std())


@pytest.mark.parametrize("loss", [CurricularFaceLoss, AdaFaceLoss])
def test_in_evaluation_mode_nothing_is_remembered(loss):
    module = small(loss)
    before = copy.deepcopy(module.state_dict())
    module(*a_batch())

    assert all(value.equal(before[name]) for name, value in module.state_dict().items())


# --- Wrong labels ---------------------------------------------------------------------------------


def test_outliers_are_far_from_where_most_of_their_class_are():
    loss = SubCentreArcFaceLoss(3, 2, centres=2)
    loss.proxies.vectors.data = 3 * directions(0, 90, 180, 270, 45, 45)
    # Of class 0 three are around its first centre, and one by its second: it is 95° from the
    # first. Of class 1 two are by the second centre, one by the first. Nobody is of class 2.
    embeddings = 7 * directions(-5, 60, 10, 95, 265, 280, 170)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1], dtype=torch.int32)

    assert loss.outliers(embeddings, labels).tolist() == [False] * 3 + [True] + [False] * 2 + [True]
    strict = loss.outliers(embeddings, labels, threshold=59)
    assert strict.tolist() == [False, True, False, True, False, False, True]
    assert not loss.outliers(embeddings, labels, threshold=101).any()
    assert len(loss.outliers(embeddings[:0], labels[:0])) == 0


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (lambda: ArcFaceLoss(3, 2, margin=28.6), "margin must be an angle in radians.*got 28.6"),
        (lambda: ArcFaceLoss(3, 2, scale=0), "scale must be above zero and finite, got 0"),
        (lambda: CosFaceLoss(3, 2, margin=0), "margin must be above zero.*NormalisedSoftmaxLoss"),
        (lambda: CombinedMarginLoss(3, 2, additive=-1), "additive must be at least zero"),
        (lambda: SphereFaceLoss(3, 2, margin=1.5), "whole number of at least 2, got 1.5"),
        (lambda: SphereFaceLoss(3, 2, annealing=-1), "annealing must be at least zero"),
        (lambda: SubCentreArcFaceLoss(3, 2, centres=0), "centres must be at least 1, got 0"),
        (lambda: CurricularFaceLoss(3, 2, momentum=1), "momentum must be a share.*got 1"),
        (lambda: AdaFaceLoss(3, 2, concentration=0), "concentration must be above zero"),
        (lambda: MagFaceLoss(3, 2, shortest=9, longest=3), "must rise.*lengths from 9 to 3"),
        (lambda: NormalisedSoftmaxLoss(3, 2, temperature=-1), "temperature must be above zero"),
        (lambda: ArcFaceLoss(3, 2, sample=2), "sample must be a share"),
        (lambda: ArcFaceLoss(3, 2, rows=0), "rows must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(made: Callable[[], object], rule):
    with pytest.raises(ValueError, match=rule):
        made()


def test_sphere_face_may_have_a_scale_instead_of_lengths():
    embeddings, labels = a_batch()
    fixed = small(SphereFaceLoss, scale=8.0)

    assert_same((fixed(embeddings, labels),), (fixed(3 * embeddings, labels),))
    free = small(SphereFaceLoss)
    assert_same((free(8 * F.normalize(embeddings), labels),), (fixed(embeddings, labels),))
