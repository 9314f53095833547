import json
import math
from dataclasses import asdict, fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from siamlearn.data.transforms import Augment, hashed_noise

NONE = Augment.none()
ANY = st.floats(0, 0.3, allow_subnormal=False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=8, channels=1, size=(28, 23), dtype=torch.float32):
    return torch.rand(count, channels, *size, generator=generator(1), dtype=dtype)


def blobs(count, *centres, size=(64, 64)):
    """Pictures of soft spots at these places, as (y, x) from -1 to 1, one channel each."""
    y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in size)
    spots = [(-((y[:, None] - cy) ** 2 + (x - cx) ** 2) / 0.005).exp() for cy, cx in centres]
    return torch.stack(spots).expand(count, -1, -1, -1)


def centres(images):
    """Where the spots are: (n, c) of y and of x, from -1 to 1."""
    y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in images.shape[-2:])
    weight = images.sum((2, 3))
    return (images.sum(3) * y).sum(2) / weight, (images.sum(2) * x).sum(2) / weight


def test_no_change_is_the_very_same_picture():
    images = pictures()

    assert torch.equal(NONE(images, generator()), images)


@given(
    ranges=st.fixed_dictionaries({field.name: ANY for field in fields(Augment)}),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=60)
def test_any_ranges_and_sizes_give_pictures_of_the_same_kind(ranges, size, channels, seed):
    images = pictures(3, channels, size)
    before = images.clone()

    changed = Augment(**ranges)(images, generator(seed))

    assert changed.shape == images.shape
    assert changed.isfinite().all()
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pictures_keep_their_type(dtype):
    assert Augment()(pictures(dtype=torch.float32).to(dtype), generator()).dtype == dtype


def test_the_draw_is_the_generators_and_nobody_elses():
    images, drawing, state = pictures(), generator(), torch.get_rng_state()
    first, second = Augment()(images, drawing), Augment()(images, drawing)

    assert torch.equal(Augment()(images, generator()), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_picture_is_changed_alike_in_a_batch_of_any_size(count):
    images = pictures(8)

    whole, part = Augment()(images, generator()), Augment()(images[:count], generator())

    torch.testing.assert_close(part, whole[:count])


def test_pictures_come_out_as_they_would_among_the_others():
    images, places = pictures(8), torch.tensor([6, 1, 0, 7, 2, 3, 5, 4])
    whole = Augment()(images, generator())

    for some in (places, places[:3], places[3:4]):
        part = Augment()(images[some], generator(), places=some)
        torch.testing.assert_close(part, whole[some])


class Copies(TorchDispatchMode):
    """Sizes of what goes from the CPU to a device, and whether somebody waits for it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and args[0].device != made.device:
            self.seen.append((tuple(made.shape), kwargs.get("non_blocking", False)))
        return made


def test_a_step_sends_a_few_numbers_a_picture_and_waits_for_nothing():
    augment = replace(Augment(), brightness=0.1, contrast=0.1)
    there = pictures(8, 3).to("meta")  # a device that has no numbers: to ask for one is an error
    augment(there, generator())  # sends what does not change
    with Copies() as copies:
        changed = augment(there, generator(), places=torch.arange(8))

    assert changed.shape == there.shape
    assert copies.seen == [((8, 77), True)]


def test_noise_by_hash_is_even_and_goes_by_seed_picture_channel_and_pixel():
    def noise(places, seed):
        there = torch.zeros(len(places), 2, 30, 20)
        return hashed_noise(there, torch.tensor(places).float(), seed)

    drawn = noise(range(40), seed=7)
    rows = drawn.reshape(80, -1)

    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert drawn.mean() == pytest.approx(0.5, abs=5e-3)
    assert drawn.var() == pytest.approx(1 / 12, rel=0.02)
    assert (torch.corrcoef(rows) - torch.eye(80)).abs().max() < 0.2
    assert (torch.corrcoef(rows.T) - torch.eye(600)).abs().max() < 0.65
    assert torch.equal(noise([3, 39], seed=7), drawn[[3, 39]])
    assert not torch.isclose(noise([3], seed=8), drawn[[3]]).all()


def test_leaving_a_part_out_does_not_change_the_draw_of_the_others():
    images = blobs(6, (0.0, 0.0))
    shifted = replace(NONE, shift=0.1)(images, generator())
    more = replace(NONE, shift=0.1, gamma=0.2)(images, generator())

    spots = centres((shifted > 0.2).float()), centres((more > 0.2).float())
    for one, other in zip(*spots, strict=True):
        torch.testing.assert_close(one, other, atol=0.01, rtol=0)


def test_all_channels_of_a_picture_move_alike():
    images = pictures().expand(-1, 3, -1, -1)

    changed = replace(Augment(), noise=0.0)(images, generator())

    torch.testing.assert_close(changed[:, 0], changed[:, 2])


def test_a_certain_flip_is_a_mirror_image():
    images = pictures()

    torch.testing.assert_close(replace(NONE, flip=1.0)(images, generator()), images.flip(-1))


def test_about_half_are_flipped():
    images = pictures(400, size=(4, 4))
    flipped = replace(NONE, flip=0.5)(images, generator())

    mirrored = (flipped - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    same = (flipped - images).abs().amax((1, 2, 3)) < 1e-4
    assert (mirrored ^ same).all()
    assert abs(mirrored.sum() - 200) < 5 * 10


def test_a_shift_moves_by_at_most_its_fraction_of_a_side_and_evenly():
    y, x = centres(replace(NONE, shift=0.1)(blobs(400, (0.0, 0.0)), generator()))

    for moved in y, x:
        # A fraction of 0.1 of a side is 0.2 where sides run from -1 to 1.
        assert moved.abs().max() <= 0.2 + 0.01
        assert moved.std() == pytest.approx(0.2 / math.sqrt(3), rel=0.1)


def test_a_turn_keeps_distances_whatever_the_shape_of_the_picture():
    images = blobs(200, (0.0, 0.5), (0.0, 0.0), size=(96, 64))
    y, x = centres(replace(NONE, rotate=30.0)(images, generator()))
    # In halves of the width: y runs further than x.
    right, down = x[:, 0] - x[:, 1], (y[:, 0] - y[:, 1]) * 1.5

    torch.testing.assert_close(right.hypot(down), torch.full((200,), 0.5), atol=0.02, rtol=0)
    angle = torch.atan2(down, right).rad2deg()
    assert 25 < angle.abs().max() < 30.5
    assert abs(angle.mean()) < 5


def test_scale_and_aspect_stretch_by_at_most_their_logarithm():
    images = blobs(300, (0.0, 0.4), (0.4, 0.0), (0.0, 0.0))
    y, x = centres(replace(NONE, scale=0.2)(images, generator()))
    wide, high = ((x[:, 0] - x[:, 2]) / 0.4).log(), ((y[:, 1] - y[:, 2]) / 0.4).log()

    torch.testing.assert_close(wide, high, atol=0.02, rtol=0)
    assert 0.17 < wide.max() < 0.21
    assert -0.21 < wide.min() < -0.17

    y, x = centres(replace(NONE, aspect=0.2)(images, generator()))
    wide, high = ((x[:, 0] - x[:, 2]) / 0.4).log(), ((y[:, 1] - y[:, 2]) / 0.4).log()
    torch.testing.assert_close(wide, -high, atol=0.02, rtol=0)
    assert 0.17 < (wide - high).max() < 0.21


def test_shear_moves_rows_sideways_in_proportion():
    images = blobs(200, (0.5, 0.0), (-0.5, 0.0))
    y, x = centres(replace(NONE, shear=0.3)(images, generator()))

    torch.testing.assert_close(x[:, 0], -x[:, 1], atol=0.01, rtol=0)
    torch.testing.assert_close(y[:, 0], torch.full((200,), 0.5), atol=0.01, rtol=0)
    assert 0.13 < x[:, 0].abs().max() < 0.155


def test_a_warp_moves_places_apart_from_each_other():
    corners = [(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]
    y, x = centres(replace(NONE, warp=0.03)(blobs(200, *corners), generator()))
    moved = torch.stack([y, x], -1) - torch.tensor(corners)

    # A fraction of 0.03 of a side is 0.06 where sides run from -1 to 1; bumps overlap a little.
    assert 0.03 < moved.abs().max() < 0.1
    assert moved.std(dim=1).mean() > 0.01


def test_tones_by_hand():
    grey = torch.full((300, 1, 8, 8), 0.5)

    def change(**ranges):
        changed = replace(NONE, **ranges)(grey, generator())
        return changed.amin((1, 2, 3)), changed.amax((1, 2, 3))

    low, high = change(brightness=0.2)
    torch.testing.assert_close(low, high)
    assert 0.3 <= low.min() < 0.32
    assert 0.68 < high.max() <= 0.7
    # An even picture has no contrast that could change.
    assert change(contrast=0.5)[0].min() == change(contrast=0.5)[1].max() == 0.5
    low, high = change(gamma=0.5)
    torch.testing.assert_close(low, high)
    assert 0.5 ** math.exp(0.5) - 1e-6 <= low.min() < 0.33
    assert 0.65 < high.max() <= 0.5 ** math.exp(-0.5) + 1e-6
    low, high = change(light=0.3)
    assert (low < high).all()
    assert 0.5 * math.exp(-0.45) < low.min() < 0.45
    assert 0.55 < high.max() < 0.5 * math.exp(0.45)


def test_contrast_stretches_around_the_mean():
    images = 0.4 + 0.2 * pictures(200)
    changed = replace(NONE, contrast=0.3)(images, generator())

    torch.testing.assert_close(changed.mean((1, 2, 3)), images.mean((1, 2, 3)))
    factor = (changed.std((1, 2, 3)) / images.std((1, 2, 3))).log()
    assert 0.25 < factor.abs().max() <= 0.3 + 1e-4
    assert abs(factor.mean()) < 0.05


def test_noise_is_as_strong_as_said_and_not_alike_in_two_pictures():
    grey = torch.full((100, 1, 40, 40), 0.5)
    noise = replace(NONE, noise=0.1)(grey, generator()) - grey

    strength = noise.std((1, 2, 3))
    assert 0.09 < strength.max() < 0.105
    assert strength.min() < 0.01
    assert noise.mean().abs() < 1e-3
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.15


def test_a_rectangle_of_the_mean_covers_some_pictures():
    images = pictures(300, 3, size=(40, 30))
    gap = replace(NONE, erase=0.5, erase_size=0.4)(images, generator()) != images

    covered = gap.any(1).float().mean((1, 2))
    assert 0.14 < covered.max() <= 0.17
    assert abs((covered > 0).sum() - 150) < 5 * 9
    changed = replace(NONE, erase=1.0)(images, generator())
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(changed, torch.where(changed != images, mean, images))


def test_settings_survive_json():
    augment = replace(Augment(), rotate=3.5)

    assert Augment(**json.loads(json.dumps(asdict(augment)))) == augment


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rotate": -1.0}, "rotate must be at least 0 and finite, got -1.0; 0 leaves it out"),
        ({"scale": math.nan}, "scale must be at least 0 and finite, got nan"),
        ({"noise": math.inf}, "noise must be at least 0 and finite, got inf"),
        ({"flip": 1.5}, "flip must be from 0 to 1, got 1.5"),
        ({"erase_size": 2.0}, "erase_size must be from 0 to 1, got 2.0"),
    ],
)
def test_impossible_ranges_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Augment(**wrong)


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(4, 4)])
def test_bytes_and_single_pictures_are_refused(images):
    with pytest.raises(ValueError, match="images must be floats from 0 to 1 of shape"):
        Augment()(images, generator())
