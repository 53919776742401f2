"""Curves of characters: each value stands on the row that is labeled with it, and each curve can be told apart."""

import math
import time
from collections.abc import Sequence

import pytest

from mlpx.cli import curves
from mlpx.cli.curves import Curve, Scale, draw, legend, linear_ticks

LINEAR, LOG, SHARES = Scale(), Scale(log=True), Scale(percent=True)
EPOCHS = [float(epoch) for epoch in range(1, 101)]


def drawn(*values: Sequence[float], scale: Scale = LINEAR, height: int = 14, ascii_only: bool = False) -> list[str]:
    """The curves of these values by epoch, as lines of text."""
    shown = [Curve("a", EPOCHS[: len(each)], each) for each in values]
    lines = draw(shown, scale, 80, height, ascii_only=ascii_only)
    return [line.plain for line in lines]


def rows_with(lines: Sequence[str], characters: str) -> list[int]:
    """The rows of the picture, which begins after its axis, that have one of the characters."""
    return [
        row
        for row, line in enumerate(lines[:-2])
        if set(line[line.index("│") if "│" in line else line.index("┤") :]) & set(characters)
    ]


@pytest.mark.parametrize(
    ("low", "high", "most", "labels"),
    [
        (0, 10, 6, "0 2 4 6 8 10"),
        (0, 10, 5, "0 5 10"),
        (1, 1500, 6, "500 1000 1500"),
        (4.57, 4.65, 4, "4.58 4.60 4.62 4.64"),
        (0.1, 0.3, 3, "0.1 0.2 0.3"),
        (-3, 3, 3, "-2 0 2"),
        (0, 4e-7, 3, "0 2e-07 4e-07"),
        (1e9, 3e9, 3, "1e+09 2e+09 3e+09"),
        (1e9 + 1, 1e9 + 4, 4, "1000000001 1000000002 1000000003 1000000004"),
    ],
)
def test_ticks_are_round_and_their_labels_as_short_as_tells_them(
    low: float, high: float, most: int, labels: str
) -> None:
    ticks = linear_ticks(low, high, most)
    assert [label for _, label in ticks] == labels.split()
    assert [value for value, _ in ticks] == [float(label) for label in labels.split()]


def test_there_are_never_more_ticks_than_asked_for_and_rarely_none() -> None:
    for number in range(2000):
        low, size, most = math.sin(number) * 10 ** (number % 13 - 6), 10 ** (number % 17 / 2 - 4), 2 + number % 9
        ticks = linear_ticks(low, low + size, most)
        assert len(ticks) <= most
        assert len({label for _, label in ticks}) == len(ticks)
        assert all(low - size / 1e6 <= value <= low + size * 1.000001 for value, _ in ticks)
        assert ticks or most == 2


def test_epochs_are_whole_numbers() -> None:
    assert [label for _, label in linear_ticks(1, 3, 6, whole=True)] == ["1", "2", "3"]
    assert [label for _, label in linear_ticks(1, 1_000_000, 5, whole=True)] == [
        *("200000", "400000", "600000", "800000", "1000000")
    ]


@pytest.mark.parametrize("scale", [LINEAR, LOG, SHARES])
def test_a_value_lies_on_the_row_with_its_label(scale: Scale) -> None:
    """A line that stays at a value, beside one from the lowest to the highest value."""
    low, high = 0.01, 10
    whole = [low * (high / low) ** (n / 99) if scale.log else low + (high - low) * n / 99 for n in range(100)]
    tested = 0
    for line in drawn(whole, scale=scale)[:-2]:
        label = line.partition("┤")[0].strip()
        if "┤" in line and label:
            value = float(label.rstrip("%")) / (100 if scale.percent else 1)
            lines = drawn(whole, [value] * 100, scale=scale)
            (row,) = rows_with(lines, "o")
            assert lines[row].partition("┤")[0].strip() == label
            tested += 1
    assert tested >= 3
    assert {"0.01", "0.1", "1", "10"} <= {line.partition("┤")[0].strip() for line in drawn(whole, scale=LOG)}


def test_a_logarithmic_axis_of_a_narrow_range_has_labels_too() -> None:
    for high, label in ((1.2, "1.10"), (3, "2"), (8, "5"), (1e12, "1e+06")):
        lines = drawn([1 + (high - 1) * n / 99 for n in range(100)], scale=LOG)
        labels = [line.partition("┤")[0].strip() for line in lines if "┤" in line]
        assert len(labels) >= 2
        assert label in labels, labels


def test_curves_on_each_other_can_all_be_seen() -> None:
    values = [1 / epoch for epoch in EPOCHS]
    text = "".join(drawn(values, values, values, values))
    assert all(text.count(marker) >= 4 for marker in "ox+")
    assert sum(0x2800 < ord(character) < 0x2900 for character in text) > 20


def test_the_legend_shows_each_curve_as_it_is_drawn() -> None:
    three = [Curve(label, EPOCHS, EPOCHS) for label in ("training", "test", "exact")]
    assert [str(entry) for entry in legend(three, LINEAR, ascii_only=False)] == ["⠤⠤ training", "o test", "x exact"]
    assert [str(entry) for entry in legend(three, LINEAR, ascii_only=True)] == [".. training", "o test", "x exact"]
    single = [Curve("training", [1, 2, 3], [0.5, math.nan, math.inf]), Curve("test", [1], [0.4])]
    assert [str(entry) for entry in legend(single, LINEAR, ascii_only=False)] == ["* training", "o test"]
    lines = [line.plain for line in draw(single, LINEAR, 80, 14, ascii_only=False)]
    assert (rows_with(lines, "*"), rows_with(lines, "o")) == ([0], [11])
    assert lines[-1].split() == ["epoch", "1"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308, 0.0, -1.0])
def test_what_cannot_lie_on_the_axis_is_left_out(bad: float) -> None:
    with_bad, without = [3.0, bad, 2.0, 1.0], [3.0, 2.0, 1.0]
    scale = LOG if bad <= 0 and math.isfinite(bad) else LINEAR
    expected = draw([Curve("a", [1, 3, 4], without)], scale, 80, 14, ascii_only=False)
    assert draw([Curve("a", [1, 2, 3, 4], with_bad)], scale, 80, 14, ascii_only=False) == expected
    assert draw([Curve("a", [1], [bad])], scale, 80, 14, ascii_only=False) == []


@pytest.mark.parametrize("scale", [LINEAR, LOG])
@pytest.mark.parametrize(
    "values",
    [[0.5], [0.5, 0.5], [1e-300, 1e299], [5e-324, 1e-323, 1], [1, 1 + 1e-15], [1e15, 1e15 + 1], [1e-12, 2e-12]],
)
@pytest.mark.parametrize(("width", "height"), [(80, 10), (132, 40), (20, 3), (5, 1)])
def test_any_values_fit_into_the_lines_and_columns(scale: Scale, values: list[float], width: int, height: int) -> None:
    for ascii_only in (False, True):
        lines = draw([Curve("a", EPOCHS[: len(values)], values)], scale, width, height, ascii_only=ascii_only)
        assert len(lines) == max(height, 4)
        assert width < 20 or max(len(line.plain) for line in lines) <= max(width, 20)
        assert all(line.plain.isascii() for line in lines) == ascii_only
        assert all(line.plain == line.plain.rstrip() for line in lines)


def test_ascii_characters_show_the_same_shape() -> None:
    values = [math.sin(epoch / 8) for epoch in EPOCHS]
    braille, plain = drawn(values, values), drawn(values, values, ascii_only=True)
    for line, ascii_line in zip(braille[:-2], plain[:-2], strict=True):
        for character, other in zip(line, ascii_line, strict=True):
            dots = ord(character) - 0x2800 if 0x2800 < ord(character) < 0x2900 else None
            if dots is None:
                assert other == {"┤": "+", "│": "|"}.get(character, character)
            else:
                upper, lower = bool(dots & 0b00011011), bool(dots & 0b11100100)
                assert other == {(True, True): ":", (True, False): "'", (False, True): "."}[upper, lower]


def test_each_curve_has_a_color_of_its_own() -> None:
    lines = draw([Curve("a", [1, 2], [1, 1]), Curve("b", [1, 2], [2, 2])], LINEAR, 80, 14, ascii_only=False)
    styles = [{str(span.style) for span in line.spans} - {"dim"} for line in lines]
    assert (styles[0], styles[11]) == ({"yellow"}, {"cyan"})


def test_a_spike_in_a_hundred_thousand_rows_is_seen_and_soon() -> None:
    epochs = [float(epoch) for epoch in range(100_000)]
    values = [1.0] * 100_000
    values[54_321] = 5.0
    began = time.perf_counter()
    lines = [line.plain for line in draw([Curve("a", epochs, values)], LINEAR, 80, 14, ascii_only=True)]
    assert time.perf_counter() - began < 2
    margin = lines[0].index("+") + 1
    assert lines[0].rstrip()[-1] in ":.'"
    assert (len(lines[0]) - margin) / (80 - margin) == pytest.approx(0.543, abs=0.02)
    assert len(set(lines[5][margin:].strip())) == 1  # the spike alone


def test_ticks_stand_below_their_place() -> None:
    peak = [float(epoch == 50) for epoch in EPOCHS]
    lines = [line.plain for line in draw([Curve("a", EPOCHS, peak)], LINEAR, 80, 14, ascii_only=False)]
    (column,) = [at for at, character in enumerate(lines[0]) if 0x2800 < ord(character) < 0x2900]
    first = lines[0].index("┤") + 1
    assert abs(column - (first + 49 / 99 * (79 - first))) <= 1
    assert abs(lines[-1].index("40") + 0.5 - (first + 39 / 99 * (79 - first))) <= 1.5
    assert lines[-2].index("┬") == lines[-1].index(" 1 ") + 1 == first


def test_there_are_looks_for_more_curves_than_markers() -> None:
    many = [[number + epoch for epoch in EPOCHS] for number in range(len(curves.MARKERS) + 3)]
    assert len(drawn(*many)) == 14
