"""Tests of the picture of queries and their neighbors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ssl_lib.embedding import Shown, draw_neighbors, picture

SIDE, GAP = 140, 14
LEFT = [GAP] + [GAP + (SIDE + GAP) * column + GAP for column in range(1, 11)]  # left edges of the images in a line
BLACK = torch.zeros(1, 28, 28, dtype=torch.uint8)
LONG = "archive of the year/a folder with a name of its own/and one more/a photograph whose name does not end.jpg"


def drawn(*rows):
    return np.asarray(draw_neighbors(rows)).astype(int)


def has(pixels, color):
    return bool((pixels == [int(color[place : place + 2], 16) for place in (1, 3, 5)]).all(-1).any())


def row(count, path="a.png", label="", other=""):
    return [Shown(BLACK, path, label), *(Shown(BLACK, path, other, 0.9) for _ in range(count))]


def test_small_images_are_scaled_by_integers_and_photographs_keep_their_aspect_ratio():
    pixels = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    wide = torch.full((3, 100, 1400), 7, dtype=torch.uint8)
    grid = drawn([Shown(pixels, "a.png"), Shown(wide, "b.png", "", 0.5)])
    cell = grid[GAP : GAP + SIDE, GAP : GAP + SIDE, 0]
    np.testing.assert_array_equal(cell, pixels[0].numpy().repeat(5, 0).repeat(5, 1))
    other = grid[GAP : GAP + SIDE, LEFT[1] : LEFT[1] + SIDE]
    assert (other == 7).all(-1).sum() == 10 * SIDE and (other[0] == 0xF3).all()


@pytest.mark.parametrize("path", ["a.png", LONG, "ä/" + "日本" * 60 + ".png", "a\nb.png", "\udce9.png"])
@pytest.mark.parametrize("label", ["", "a label that is far too long for one picture"])
def test_captions_do_not_overlap_their_neighbors(path, label):
    grid = drawn(row(3, path, label, label), row(2, path, label, label))
    for right, left in itertools.pairwise(LEFT[:4]):
        assert (grid[:, right + SIDE + 3 : left] == 255).all()  # the query's frame has 3 pixels
    assert (grid[:, LEFT[3] + SIDE :] == 255).all() and (grid[: GAP - 3] == 255).all()


def test_long_texts_are_shortened_in_the_middle():
    font = picture._font(LONG)
    short = picture._short(LONG, font, SIDE)
    assert short.startswith("archiv") and short.endswith("end.jpg") and "..." in short
    assert SIDE - 12 < font.getlength(short) <= SIDE
    assert picture._short("IMG_1.png", font, SIDE) == "IMG_1.png"


def test_more_than_ten_neighbors_wrap_to_the_next_line():
    heights, widths = zip(*(drawn(row(count)).shape[:2] for count in (1, 10, 11, 23)), strict=True)
    line = heights[2] - heights[1]
    assert heights[0] == heights[1] and heights[3] - heights[1] == 2 * line and line > SIDE
    assert widths[1:] == (widths[1],) * 3 and widths[0] < widths[1]
    last = drawn(row(11))[GAP + line : GAP + line + SIDE]
    assert (last[:, LEFT[1] : LEFT[1] + SIDE] == 0).all() and (last[:, LEFT[2] :] == 255).all()
    assert (last[:, : LEFT[1]] == 255).all()


def test_query_and_different_labels_are_highlighted():
    plain, mixed = drawn(row(2, "a.png", "cat", "cat")), drawn(row(2, "a.png", "cat", "dog"))
    blue, red = "#1d4ed8", "#b91c1c"
    assert has(plain[:, : LEFT[1]], blue) and not has(plain[:, LEFT[1] :], blue)
    assert has(mixed[:, LEFT[1] :], red) and not has(plain, red)
    assert not has(drawn(row(2)), red)


def test_folder_is_drawn_if_it_differs_from_the_label():
    line = drawn(row(1, "x/a.png", "cat", "cat")).shape[0] - drawn(row(1, "cat/a.png", "cat", "cat")).shape[0]
    assert line == 17 and drawn(row(1)).shape == drawn(row(1, "cat/a.png", "cat", "cat")).shape


def test_default_font_replaces_missing_letters(monkeypatch):
    monkeypatch.setattr(picture, "_FONTS", ())
    np.testing.assert_array_equal(drawn(row(1, "Bär 日.png")), drawn(row(1, "Bar ?.png")))
