"""Squares of distances in float32: near the truth whatever the vectors, and exact where near."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from siamlearn.functional import squares
from siamlearn.functional.squares import Squares

EVERYTHING = slice(0, None)


def truth(queries: Tensor, references: Tensor) -> Tensor:
    difference = queries.double()[:, None] - references.double()
    return difference.square().sum(dim=-1)


def vectors(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def off(found: Tensor, true: Tensor) -> Tensor:
    """How far the distances are off, as a share of themselves."""
    apart = (found.double().sqrt() - true.sqrt()).abs()
    return (apart / true.sqrt()).where(true > 0, apart)


@given(
    d=st.sampled_from([1, 2, 5, 64, 300]),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e6, 1e15]),
    spread=st.sampled_from([0.0, 1.0]),
    shrink=st.sampled_from([1.0, 1e-2, 1e-3]),
    seed=st.integers(0, 1000),
)
def test_every_distance_keeps_six_digits(
    d: int, scale: float, spread: float, shrink: float, seed: int
) -> None:
    x = vectors(24, d, seed)
    x = x * (spread * vectors(24, 1, seed + 1)).exp() * scale
    x[8:16] = x[:8] + shrink * scale * vectors(8, d, seed + 2)
    x[16:20] = x[:4]
    made = Squares(x, x)
    for rows, columns in (
        (slice(0, 24), EVERYTHING),
        (slice(5, 13), EVERYTHING),
        (slice(5, 13), slice(5, None)),
    ):
        found, true = made.block(rows, columns), truth(x[rows], x[columns])
        assert off(found, true).max() < 1e-6
        assert (found[true == 0] == 0).all()
    others = vectors(7, d, seed + 3) * scale
    found = Squares(x, others).block(slice(2, 9), slice(0, 7))
    assert off(found, truth(x[2:9], others)).max() < 1e-6


def test_most_of_a_usual_batch_is_taken_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.nn.functional.normalize(vectors(256, 32, 0), dim=1)
    x[1], x[2] = x[0], x[0] + 1e-4
    monkeypatch.setattr(squares, "square_distance", lambda *_: pytest.fail("took float64"))
    found, true = Squares(x, x).block(slice(0, 64), EVERYTHING), truth(x[:64], x)
    assert off(found, true).max() < 5e-7
    assert found[0, 1] == found[1, 0] == 0


def test_so_is_a_batch_whose_identities_are_together(monkeypatch: pytest.MonkeyPatch) -> None:
    x = vectors(64, 256, 0)[torch.arange(256) // 4] + 0.1 * vectors(256, 256, 1)
    monkeypatch.setattr(squares, "square_distance", lambda *_: pytest.fail("took float64"))
    found, true = Squares(x, x).block(slice(0, 256), EVERYTHING), truth(x, x)
    assert off(found, true).max() < 5e-7


@pytest.mark.parametrize("kind", ["many near", "one far away", "too long", "too short", "none"])
def test_what_float32_cannot_tell_is_taken_in_float64(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = vectors(64, 16, 0)
    x = {
        "many near": x * 1e-3 + 7,
        "one far away": torch.cat([x, torch.full((1, 16), 1e6)]),
        "too long": x * 1e19,
        "too short": x * 1e-14,
        "none": x[:0],
    }[kind]
    calls = []
    real = squares.square_distance
    monkeypatch.setattr(squares, "square_distance", lambda *sides: calls.append(1) or real(*sides))
    x = torch.cat([x, x[:9] + 1e-3]) if kind == "many near" else x
    found = Squares(x, x).block(slice(0, 16), EVERYTHING)
    assert calls or kind == "many near"
    true = truth(x[:16], x)
    if kind not in ("too long", "none"):
        assert off(found, true).max() < 1e-6


def test_a_number_that_is_none_is_not_hidden() -> None:
    x = vectors(64, 8, 0)
    x[3, 2] = torch.nan
    found = Squares(x, x).block(slice(0, 8), EVERYTHING)
    assert found[3, [*range(3), *range(4, 64)]].isnan().all()
    assert found[:3, 3].isnan().all()
