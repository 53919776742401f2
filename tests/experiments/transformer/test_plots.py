"""Attention maps: what is drawn is what was given, whatever the tokens."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from mlpx.experiments.transformer.plots import (
    MAX_HEADS,
    MAX_LETTERS,
    MAX_TOKENS,
    MISSING,
    AttentionPanel,
    attention_figure,
)
from mlpx.plots.figure import png

NAMES = ("encoder self-attention", "decoder self-attention", "cross-attention")
STRANGE = [
    "$",
    r"$\oops$",
    "_",
    "^{",
    "%",
    "😀",
    "🦄",
    "漢字",
    "עברית",
    "",
    " ",
    "▁",
    "\n",
    "a\tb",
    "\0",
    "\ud800",
    "▁x" * 40,
]


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def weights(heads: int, queries: int, keys: int, seed: int = 0) -> NDArray[np.float32]:
    shares = np.exp(2 * np.random.default_rng(seed).normal(size=(heads, queries, keys)))
    return np.asarray(shares / shares.sum(axis=2, keepdims=True), np.float32)


def numbers(count: int, first: int) -> list[str]:
    return [str(first + i) for i in range(count - 1)] + ["</s>"]


def three_maps(heads: int, targets: int, sources: int) -> list[AttentionPanel]:
    source, target = numbers(sources, 100), numbers(targets, 500)
    pairs = ((source, source), (target, target), (target, source))
    return [
        AttentionPanel(name, queries, keys, weights(heads, len(queries), len(keys), seed))
        for seed, (name, (queries, keys)) in enumerate(zip(NAMES, pairs, strict=True))
    ]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def drawn(axes: Axes) -> NDArray[np.float32]:
    return np.asarray(axes.images[0].get_array())


def words(labels: list[Text]) -> list[str]:
    return [label.get_text() for label in labels]


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text().strip()]


@pytest.mark.parametrize("heads", [1, 2, 3, 8])
def test_each_panel_has_its_weights_and_tokens(heads: int) -> None:
    maps = three_maps(heads, targets=5, sources=7)
    figure = attention_figure("", maps)
    axes_of = iter(panels(figure))
    for each in maps:
        for head in range(heads):
            axes = next(axes_of)
            np.testing.assert_array_equal(drawn(axes), each.weights[head])
            assert f"head {head + 1}" in axes.get_title()
            assert words(axes.get_xticklabels()) == each.keys
            assert list(axes.get_xticks()) == list(range(len(each.keys)))
            leftmost = head == 0 or heads <= 2
            assert words(axes.get_yticklabels()) == (each.queries if leftmost else [])
            assert axes.get_ylim() == (len(each.queries) - 0.5, -0.5)  # the first query on top
    assert next(axes_of, None) is None
    for name in NAMES:
        assert any(name in text.get_text() for text in texts(figure))


def test_maps_stand_below_each_other_heads_beside_each_other_and_one_head_s_maps_beside_each_other() -> None:
    def places(heads: int) -> list[list[tuple[float, float]]]:
        corners = [axes.get_position().p0 for axes in panels(attention_figure("", three_maps(heads, 4, 4)))]
        grid = [corners[i : i + heads] for i in range(0, len(corners), heads)]
        return [[(round(float(x), 6), round(float(y), 6)) for x, y in row] for row in grid]

    for row, next_row in pairwise(places(4)):
        assert [x for x, _ in row] == sorted({x for x, _ in row}) == [x for x, _ in next_row]
        assert len({y for _, y in row}) == 1
        assert row[0][1] > next_row[0][1]
    (first,), (second,), (third,) = places(1)
    assert first[0] < second[0] < third[0]
    assert first[1] == second[1] == third[1]


@pytest.mark.parametrize(
    ("heads", "targets", "sources"),
    [(1, 1, 1), (2, 20, 20), (3, 1, 30), (4, 15, 15), (4, 26, 26), (8, 14, 12), (16, 40, 50)],
)
def test_pictures_are_slides_with_type_that_can_be_read(heads: int, targets: int, sources: int) -> None:
    figure = attention_figure("Reversing numbers", three_maps(heads, targets, sources))
    picture = png(figure)
    assert picture.startswith(SIGNATURE)
    assert len(picture) < 400_000
    assert figure.get_figwidth() / figure.get_figheight() == pytest.approx(16 / 9)
    for text in texts(figure):
        assert float(text.get_fontsize()) >= 7
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height, text
    for axes in panels(figure):
        keys = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in pairwise(keys))
        middles = [label.get_window_extent().get_points()[:, 1].mean() for label in axes.get_yticklabels()]
        digit = 0.73 * 7 * figure.dpi / 72
        assert all(upper - lower > digit for upper, lower in pairwise(middles))


@pytest.mark.parametrize("heads", [1, 4])
def test_tokens_that_the_font_lacks_or_that_look_like_mathematics_are_drawn_without_a_warning(heads: int) -> None:
    strange = AttentionPanel("$_", STRANGE, STRANGE, weights(heads, len(STRANGE), len(STRANGE)))
    figure = attention_figure(r"$\oops$ 漢", [strange] * 3)
    assert png(figure).startswith(SIGNATURE)
    labels = words(panels(figure)[0].get_yticklabels())
    assert labels[:2] == ["$", r"$\oops$"]
    assert labels[STRANGE.index("漢字")] == 2 * MISSING
    assert labels[STRANGE.index("\n")] == labels[STRANGE.index("\0")] == MISSING
    assert labels[STRANGE.index("▁")] == "▁"
    assert len(labels[-1]) == MAX_LETTERS


def test_a_word_s_first_token_is_shown_without_its_mark() -> None:
    tokens = ["▁sonnen", "brille", "▁", "x▁y"]
    axes = panels(attention_figure("", [AttentionPanel("self-attention", tokens, tokens, weights(4, 4, 4))]))[0]
    assert words(axes.get_xticklabels()) == words(axes.get_yticklabels()) == ["sonnen", "brille", "▁", "x▁y"]


def test_many_long_tokens_still_make_a_small_file() -> None:
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), (20, MAX_LETTERS))
    tokens = ["".join(word) for word in letters]
    figure = attention_figure("", [AttentionPanel(name, tokens, tokens, weights(8, 20, 20)) for name in NAMES])
    assert len(png(figure)) < 400_000
    assert words(panels(figure)[0].get_yticklabels()) == tokens
    assert words(panels(figure)[0].get_xticklabels()) == tokens[::4]


@pytest.mark.parametrize("heads", [1, 16])
def test_what_is_too_much_is_cut_and_said(heads: int) -> None:
    maps = three_maps(heads, targets=40, sources=50)
    figure = attention_figure("", maps)
    shown = min(heads, MAX_HEADS)
    assert len(panels(figure)) == 3 * shown
    for i, axes in enumerate(panels(figure)):
        whole = maps[i // shown]
        np.testing.assert_array_equal(drawn(axes), whole.weights[i % shown, :MAX_TOKENS, :MAX_TOKENS])
        ticks = [int(x) for x in axes.get_xticks()]
        assert words(axes.get_xticklabels()) == [whole.keys[x] for x in ticks]
        assert np.diff(ticks).tolist() == [ticks[1]] * (len(ticks) - 1)
    said = "\n".join(text.get_text() for text in texts(figure))
    assert said.count("first 30 of 40 queries\nfirst 30 of 50 keys") == 1
    assert said.count("first 8 of 16 heads") == (3 if heads == 16 else 0)


def test_a_short_map_says_nothing_of_cuts() -> None:
    assert not any("first" in text.get_text() for text in texts(attention_figure("", three_maps(8, 30, 30))))


@pytest.mark.parametrize(("largest", "darkest"), [(0.15, 0.2), (0.5, 0.6), (0.9, 1.0), (1.0, 1.0)])
def test_the_darkest_color_suits_the_weights_and_is_one_for_all(largest: float, darkest: float) -> None:
    faint = np.full((4, 10, 10), (1 - largest) / 9, np.float32)
    faint[:, range(10), range(10)] = largest
    faint[0, 0] = np.eye(10)[0]  # as a decoder's first token, which sees but itself
    maps = [AttentionPanel(name, numbers(10, 0), numbers(10, 0), faint) for name in NAMES]
    figure = attention_figure("", maps)
    limits = [axes.images[0].get_clim() for axes in panels(figure)]
    np.testing.assert_allclose(limits, [(0, darkest)] * 12)
    (scale,) = (axes for axes in figure.axes if not axes.images)
    assert words(scale.get_xticklabels()) == ["0", f"{darkest:g}"]
