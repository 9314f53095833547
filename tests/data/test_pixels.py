import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from siamlearn.data.pixels import as_bytes, as_shape

COLOURS = np.arange(2 * 5 * 4 * 3, dtype=np.uint8).reshape(2, 5, 4, 3)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_channels_may_come_first_last_or_not_at_all(kind):
    last = kind(COLOURS)
    first = kind(COLOURS.transpose(0, 3, 1, 2).copy())

    assert torch.equal(as_bytes(last), as_bytes(first))
    assert as_bytes(last).shape == (2, 3, 5, 4)
    assert torch.equal(as_bytes(last[..., 0]), as_bytes(first)[:, :1])


def test_where_the_axes_could_be_either_an_array_ends_with_channels_and_a_tensor_begins():
    square = np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3)

    assert torch.equal(as_bytes(torch.tensor(square)), torch.tensor(square))
    assert torch.equal(as_bytes(square), torch.tensor(square).permute(0, 3, 1, 2))


def test_bytes_survive_the_way_through_floats():
    all_bytes = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)

    for dtype in (torch.float16, torch.float32, torch.float64):
        assert torch.equal(as_bytes(all_bytes.to(dtype) / 255), all_bytes)


def test_the_callers_pictures_are_copied():
    array, tensor = np.zeros((1, 4, 4), np.uint8), torch.zeros(1, 4, 4, dtype=torch.uint8)
    ours = as_bytes(array), as_bytes(tensor)

    array += 1
    tensor += 1

    assert [int(bytes_.max()) for bytes_ in ours] == [0, 0]


def test_arrays_in_any_memory_order_and_lists_will_do():
    frozen = COLOURS[:, ::-1]
    frozen.flags.writeable = False

    assert torch.equal(as_bytes(frozen), as_bytes(COLOURS).flip(2))
    assert as_bytes([[[0.0, 1.0]]]).tolist() == [[[[0, 255]]]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"got shape \(4, 4\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), "drop transparency"),
        (np.zeros((2, 0, 4), np.uint8), "got shape"),
        (np.zeros((2, 4, 4), np.int64), "got torch.int64"),
        (np.zeros((2, 4, 4), bool), "got torch.bool"),
        (np.full((2, 4, 4), "a"), "got <U1"),
        (np.full((2, 4, 4), 1.5), "got 1.5 to 1.5; scale them"),
        (np.full((2, 4, 4), -0.1), "got -0.1 to -0.1"),
        (np.full((2, 4, 4), np.nan), "2 of 2 hold NaN, counted from 0: 0, 1; repair"),
        (np.array([0, 0.5, np.nan]).repeat(16).reshape(3, 4, 4), "1 of 3 hold NaN.* 0: 2; repair"),
    ],
)
def test_other_shapes_types_and_ranges_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        as_bytes(images)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32),
    channels=st.sampled_from([1, 3]),
)
def test_pictures_in_memory_are_resized_as_pil_resizes_them(size, seed, channels):
    picture = np.random.default_rng(seed).integers(0, 256, (23, 19, channels), np.uint8)
    height, width = size

    ours = as_shape(as_bytes(picture[None]), (channels, height, width))[0]

    image = Image.fromarray(picture.squeeze())
    theirs = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))
    assert np.array_equal(ours.permute(1, 2, 0).numpy(), theirs.reshape(height, width, channels))


def test_shrinking_averages_over_what_it_leaves_out():
    # Every second pixel white: taking every eighth would be all black or all white.
    stripes = (torch.arange(64) % 2 * 255).to(torch.uint8).expand(1, 1, 64, 64)

    small = as_shape(stripes, (1, 8, 8))

    assert (small.int() - 128).abs().max() < 30


@given(count=st.integers(0, 600))
def test_many_pictures_become_what_each_becomes(count):
    pixels = (torch.arange(count * 6) % 256).to(torch.uint8).view(count, 1, 3, 2)

    together = as_shape(pixels, (3, 2, 2))

    assert together.shape == (count, 3, 2, 2)
    if count:
        assert torch.equal(together[-1:], as_shape(pixels[-1:], (3, 2, 2)))


def test_grey_in_all_colours_and_back_is_the_same_grey():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)

    assert torch.equal(as_shape(as_shape(grey, (3, 16, 16)), (1, 16, 16)), grey)


@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 0, 4), (4, 4, 3)])
def test_no_picture_has_such_a_shape(shape):
    with pytest.raises(ValueError, match="1 or 3 channels"):
        as_shape(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), shape)
