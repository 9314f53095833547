"""The shell around terms that are not about pairs. What they compute is in ``functional``."""

import pytest
import torch

from siamlearn.nn.losses import CentreLoss, EmbeddingNorm, InfoNCELoss, RegularFace, ZeroMean
from siamlearn.nn.references import Proxies


def a_batch(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = torch.randn(n, 5, generator=torch.Generator().manual_seed(0))
    return embeddings.requires_grad_(), torch.arange(n) % 3


@pytest.mark.parametrize("term", [EmbeddingNorm(), ZeroMean(), CentreLoss(3, 5)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_terms_are_taken_in_float32(term, dtype):
    embeddings, labels = a_batch()
    half = embeddings.detach().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cost = term(half, labels)

    assert cost.dtype == torch.float32
    torch.testing.assert_close(cost, term(half.float(), labels))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_centres_are_those_of_the_labels_and_learn(dtype):
    loss = CentreLoss(classes=4, dimensions=5)
    embeddings, labels = a_batch()
    cost = loss(embeddings, labels.to(dtype))
    cost.backward()

    distance = (embeddings - loss.centres[labels]).norm(dim=1)
    torch.testing.assert_close(cost, distance.square().mean() / 2)
    pulled = torch.stack([(loss.centres[i] - embeddings[labels == i]).sum(dim=0) for i in range(3)])
    torch.testing.assert_close(loss.centres.grad[:3], pulled.detach() / 12)
    assert loss.centres.grad[3].eq(0).all()


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_must_be_classes(label):
    embeddings, labels = a_batch()
    labels[4] = label

    with pytest.raises(ValueError, match=rf"labels must be from 0 to 2.*got {label}; number"):
        CentreLoss(classes=3, dimensions=5)(embeddings, labels)


@pytest.mark.parametrize("labels", [None, torch.ones(12, 3, dtype=torch.bool)])
def test_centres_need_one_label_a_picture(labels):
    with pytest.raises(ValueError, match=r"labels must be one identity a picture.*got"):
        CentreLoss(classes=3, dimensions=5)(a_batch()[0], labels)


def test_regularised_proxies_are_shared_spread_and_learn_once():
    proxies = Proxies(classes=3, dimensions=5)
    loss = InfoNCELoss(references=proxies) + 0.5 * RegularFace(proxies.vectors)
    batch = a_batch()
    loss(*batch).backward()
    together = proxies.vectors.grad.clone()
    apart = [torch.autograd.grad(part(*batch), proxies.vectors)[0] for part in loss.losses]

    assert len(list(loss.parameters())) == 1
    torch.testing.assert_close(together, apart[0] + 0.5 * apart[1])
    assert apart[1].norm() > 0


def test_centres_of_one_identity_are_no_rivals():
    proxies = torch.nn.Parameter(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]))
    near = 1 - 1 / 1.01  # of the second and the fourth
    cosines = [0.1 / 1.01**0.5, 2 * 0.1 / 1.01, 0.1 / 1.01**0.5, 2 * 0.1 / 1.01]

    assert RegularFace(proxies)(torch.zeros(0, 2)) > 1 - near
    assert RegularFace(proxies, centres=2)(torch.zeros(0, 2)).item() == pytest.approx(
        sum(cosines) / 4
    )


@pytest.mark.parametrize("rows", [None, 1, 3])
def test_rows_change_nothing_about_regular_faces(rows):
    proxies = Proxies(classes=7, dimensions=5).vectors
    cost, whole = (RegularFace(proxies, rows=r)(torch.zeros(0, 5)) for r in (rows, 7))

    torch.testing.assert_close(cost, whole)
    torch.testing.assert_close(
        torch.autograd.grad(cost, proxies), torch.autograd.grad(whole, proxies)
    )


def test_norms_may_be_of_proxies():
    proxies = Proxies(classes=3, dimensions=5)

    assert EmbeddingNorm(of=proxies.vectors)(*a_batch()).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: EmbeddingNorm(order=0), "order must be above zero"),
        (lambda: EmbeddingNorm(power=0.5), "power must be at least 1, got 0.5: below"),
        (lambda: CentreLoss(classes=0, dimensions=2), "classes must be at least 1, got 0"),
        (lambda: CentreLoss(classes=2, dimensions=0), "dimensions must be at least 1, got 0"),
        (lambda: RegularFace(torch.nn.Parameter(torch.ones(4, 2)), centres=3), "4 vectors cannot"),
        (
            lambda: RegularFace(torch.nn.Parameter(torch.ones(4, 2)), centres=0),
            "centres must be at",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
