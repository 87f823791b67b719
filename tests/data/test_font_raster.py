"""Tests of rasterising outlines, on shapes whose pixels are known."""

import numpy as np
import pytest

from fewshot.data.images.font_raster import Face, rasterize
from fewshot.data.images.glyphs import font_path


def closed(*corners):
    """The edges of a polygon."""
    corners = np.array(corners, dtype=np.float64)
    return np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)


def square(low, high):
    return closed((low, low), (high, low), (high, high), (low, high))


def drawn(edges, size=8):
    return rasterize(edges, np.zeros(len(edges), dtype=np.int64), 1, size)[0]


def filled(low, high, size=8):
    image = np.zeros((size, size), dtype=np.uint8)
    image[low:high, low:high] = 255
    return image


@pytest.mark.parametrize("turn", [1, -1])
def test_a_square_fills_its_pixels_whichever_way_it_winds(turn):
    np.testing.assert_array_equal(drawn(square(2, 5)[::turn, ::turn]), filled(2, 5))


def test_a_rectangle_has_x_to_the_right_and_y_downward():
    image = drawn(closed((1, 2), (7, 2), (7, 3), (1, 3)))
    assert np.argwhere(image == 255).tolist() == [[2, column] for column in range(1, 7)]
    assert image.sum() == 6 * 255


def test_an_inner_square_wound_the_other_way_is_a_hole():
    edges = np.concatenate([square(1, 7), square(3, 5)[:, ::-1]])
    np.testing.assert_array_equal(drawn(edges), filled(1, 7) - filled(3, 5))


def test_an_inner_square_wound_the_same_way_is_none():
    np.testing.assert_array_equal(drawn(np.concatenate([square(1, 7), square(3, 5)])), filled(1, 7))


def test_overlapping_contours_are_filled_once():
    union = np.maximum(filled(1, 5), filled(3, 7))
    np.testing.assert_array_equal(drawn(np.concatenate([square(1, 5), square(3, 7)])), union)


@pytest.mark.parametrize(("share", "grey"), [(0.25, 64), (0.5, 128), (0.75, 191), (1.0, 255)])
def test_a_pixel_covered_in_part_is_grey(share, grey):
    for right, bottom in ((share, 1.0), (1.0, share)):
        assert drawn(closed((0, 0), (right, 0), (right, bottom), (0, bottom)))[0, 0] == grey


@pytest.mark.parametrize(("edge", "grey"), [(0.1, 255), (0.15, 191), (0.35, 191), (0.4, 128), (0.9, 0)])
def test_a_pixel_is_as_bright_as_many_of_its_samples_lie_within(edge, grey):
    for left, top in ((edge, 0), (0, edge)):  # samples lie at 1/8, 3/8, 5/8, 7/8
        assert drawn(closed((left, top), (1, top), (1, 1), (left, 1)))[0, 0] == grey


def test_a_pixel_covered_by_a_quarter_square_is_a_quarter_grey():
    assert drawn(square(2.5, 4))[2:4, 2:4].tolist() == [[64, 128], [128, 255]]


def test_a_diagonal_halves_the_pixels_on_it():
    image = drawn(closed((0, 0), (8, 8), (0, 8)))
    assert (np.tril(np.full((8, 8), 255), -1) == np.tril(image, -1)).all()
    assert (np.triu(image, 1) == 0).all()
    assert abs(int(image[3, 3]) - 128) <= 2 * 16


def test_what_lies_outside_is_cut_off():
    np.testing.assert_array_equal(drawn(closed((-50, -50), (60, -50), (60, 60), (-50, 60))), filled(0, 8))
    assert drawn(square(9, 12)).sum() == 0
    assert drawn(square(-12, -1)).sum() == 0


def test_images_of_one_call_do_not_mix():
    edges = np.concatenate([square(0, 2), square(5, 8)])
    images = rasterize(edges, np.repeat([0, 2], 4), 3, 8)
    np.testing.assert_array_equal(images, np.stack([filled(0, 2), filled(0, 0), filled(5, 8)]))


# Fonts


@pytest.fixture(scope="module")
def face():
    return Face(font_path("DejaVuSans"))


def test_a_blank_has_no_outline(face):
    assert face.outline(ord(" ")) is None


def test_outlines_are_closed(face):
    for character in "O8ÅЖ":
        edges = face.outline(ord(character))
        starts, ends = (sorted(map(tuple, edges[:, end].tolist())) for end in (0, 1))
        assert starts == ends


def test_a_bar_is_the_rectangle_around_it(face):
    corners = face.outline(ord("|")).reshape(-1, 2)
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    assert {(left, bottom), (left, top), (right, bottom), (right, top)} <= set(map(tuple, corners.tolist()))
    assert (np.isin(corners[:, 0], [left, right]) | np.isin(corners[:, 1], [bottom, top])).all()
    assert top - bottom > 5 * (right - left)
    assert bottom < 0 < top  # y is upward, and a bar reaches below the line


def test_a_ring_has_a_hole(face):
    edges = face.outline(ord("O"))
    low, high = edges.min(axis=(0, 1)), edges.max(axis=(0, 1))
    image = drawn((edges - low) / (high - low).max() * 24 + 2, 28)
    assert image[14, 12] == 0
    assert image.max() == 255
