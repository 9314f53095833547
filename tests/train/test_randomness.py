"""Generators: seeded by address, and given back as they were."""

import random

import numpy as np
import pytest
import torch

from siamlearn.train.randomness import kept_generators, seed_everything, seed_torch

CPU = torch.device("cpu")


def draws():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), [random.random()]


def test_an_address_gives_its_draws_and_another_gives_others():
    with kept_generators():
        seed_everything("picture", 0, 1)
        first = draws()
        others = []
        for parts in (("picture", 0, 2), ("picture", 1, 1), ("order", 0, 1)):
            seed_everything(*parts)
            others.append(draws())
        seed_everything("picture", 0, 1)
        again = draws()
    assert again == first
    assert all(a != b for other in others for a, b in zip(first, other, strict=True))


def fail_while_drawing():
    with kept_generators():
        draws()
        seed_torch(CPU, "forward", 3)
        seed_everything("elsewhere")
        _ = 1 / 0


def test_the_generators_are_given_back_even_after_an_error():
    with kept_generators():
        seed_everything("start")
        expected = draws()
        seed_everything("start")
        with pytest.raises(ZeroDivisionError):
            fail_while_drawing()
        assert draws() == expected
