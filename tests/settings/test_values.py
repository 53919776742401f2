"""The grammar of values: each text gives the expected values, or one line that names option, text and cure."""

import decimal
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from mlpx import registry
from mlpx.errors import UsageError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.settings.base import Settings, bound, is_list, item
from mlpx.settings.values import MAX_VALUES, from_toml, in_ranges, parse, to_text

FIELDS = {
    "degree": PolySettings.model_fields["degree"],
    "seed": PolySettings.model_fields["seed"],
    "lr": PolySettings.model_fields["lr"],
    "weight-decay": PolySettings.model_fields["weight_decay"],
    "flip": MlpSettings.model_fields["flip"],
    "optimizer": TransformerSettings.model_fields["optimizer"],
    "hidden": MlpSettings.model_fields["hidden"],
    "data-dir": MlpSettings.model_fields["data_dir"],
}
WHOLE = "Give a whole number from 0 to 19."
RATE = "Give a number above 0 and at most 1e+30."
LIST = "Give a list, each item a whole number from 1 to 16384, written as none, 256 or 512x256."
FORM = "Write a range as 0..9, 0..9..3 or 0.001..1..x10."
FACTOR = "Give a factor above 1 and a first number above 0."
FEWER = "has more than 10000 values. Give fewer."
TENTHS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]

# By setting: each text, and its values or what follows the name of the option.
TEXTS: dict[str, dict[str, list[Any] | str]] = {
    "degree": {
        "3": [3],
        "1,3,19": [1, 3, 19],
        "19,3,1": [19, 3, 1],
        "3,1,3,1": [3, 1],
        "+3,03,3": [3],
        "-0": [0],
        "0..9": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        "0..9..3": [0, 3, 6, 9],
        "0..10..3": [0, 3, 6, 9],
        "7..7": [7],
        "1..16..x2": [1, 2, 4, 8, 16],
        "2..19..x3": [2, 6, 18],
        "1..3,2..5,0": [1, 2, 3, 4, 5, 0],
        "0..1e1..5e0": [0, 5, 10],
        "0..3..1e999": [0],
        "": f"'' cannot be used. {WHOLE}",
        "1,,3": f"'' in '1,,3' cannot be used. {WHOLE}",
        "1,": f"'' in '1,' cannot be used. {WHOLE}",
        "1, 3": f"' 3' in '1, 3' cannot be used. {WHOLE}",
        "3\n": f"'3\\n' cannot be used. {WHOLE}",
        "20": f"'20' cannot be used. {WHOLE}",
        "-1": f"'-1' cannot be used. {WHOLE}",
        "0..20": f"'20' in '0..20' cannot be used. {WHOLE}",
        "3.0": f"'3.0' cannot be used. {WHOLE}",
        "1e1": f"'1e1' cannot be used. {WHOLE}",
        "0x3": f"'0x3' cannot be used. {WHOLE}",
        "1_0": f"'1_0' cannot be used. {WHOLE}",
        "true": f"'true' cannot be used. {WHOLE}",
        "none": f"'none' cannot be used. {WHOLE}",
        "٣": f"'٣' cannot be used. {WHOLE}",
        "３": f"'３' cannot be used. {WHOLE}",
        "−1": f"'−1' cannot be used. {WHOLE}",
        "1，3": f"'1，3' cannot be used. {WHOLE}",
        "1..9..x1.5": f"'1.5' in '1..9..x1.5' cannot be used. {WHOLE}",
        "0..9..0.5": f"'0.5' in '0..9..0.5' cannot be used. {WHOLE}",
        "..": f"'..' cannot be used. {FORM}",
        "...": f"'...' cannot be used. {FORM}",
        "1..": f"'1..' cannot be used. {FORM}",
        "..9": f"'..9' cannot be used. {FORM}",
        "1..9..": f"'1..9..' cannot be used. {FORM}",
        "1..9..x": f"'1..9..x' cannot be used. {FORM}",
        "1..9..X2": f"'1..9..X2' cannot be used. {FORM}",
        "1..9..xx2": f"'1..9..xx2' cannot be used. {FORM}",
        "1..9..1..1": f"'1..9..1..1' cannot be used. {FORM}",
        "0 .. 9": f"'0 .. 9' cannot be used. {FORM}",
        "٠..٩": f"'٠..٩' cannot be used. {FORM}",
        "nan..9": f"'nan..9' cannot be used. {FORM}",
        "0..inf": f"'0..inf' cannot be used. {FORM}",
        "0..9..log": f"'0..9..log' cannot be used. {FORM}",
        "9..0": "'9..0' cannot be used. Put the smaller end first: 0..9.",
        "3,9..0..3": "'9..0..3' cannot be used. Put the smaller end first: 0..9..3.",
        "0..9..0": "'0..9..0' cannot be used. Give a step above 0.",
        "0..9..-3": "'0..9..-3' cannot be used. Give a step above 0.",
        "1..9..x1": f"'1..9..x1' cannot be used. {FACTOR}",
        "0..9..x2": f"'0..9..x2' cannot be used. {FACTOR}",
    },
    "seed": {
        "9223372036854775805..9223372036854775807": [2**63 - 3, 2**63 - 2, 2**63 - 1],
        f"{2**63}": f"'{2**63}' cannot be used. Give a whole number from 0 to {2**63 - 1}.",
        "0..1e18": f"'0..1e18' {FEWER}",
        "0..10000": f"'0..10000' {FEWER}",
        "0..9..1e-40": f"'0..9..1e-40' {FEWER}",
        "0..9999,0": f"'0..9999,0' {FEWER}",
    },
    "lr": {
        "1": [1.0],
        "0.1,.1,1e-1,0.10,+.1": [0.1],
        "1.,1.e-3": [1.0, 0.001],
        "0.001..1..x10": [0.001, 0.01, 0.1, 1.0],
        "1e-4..1e-1..x10": [0.0001, 0.001, 0.01, 0.1],
        "0.1..0.8..x2": [0.1, 0.2, 0.4, 0.8],
        "1..2..x1.1": [1.0, 1.1, 1.21, 1.331, 1.4641, 1.61051, 1.771561, 1.9487171],
        "1e-320": [1e-320],
        "1...5": "'1...5' cannot be used. Give it a step, as in 1...5..0.1, or a factor, as in 1...5..x10.",
        "0.1..0.5": "'0.1..0.5' cannot be used. Give it a step, as in 0.1..0.5..0.1, or a factor, as in 0.1..0.5..x10.",
        "0.5..0.1..0.1": "'0.5..0.1..0.1' cannot be used. Put the smaller end first: 0.1..0.5..0.1.",
        "-1..1..x10": f"'-1..1..x10' cannot be used. {FACTOR}",
        "0..1..0.1": f"'0' in '0..1..0.1' cannot be used. {RATE}",
        "0": f"'0' cannot be used. {RATE}",
        "1e-400": f"'1e-400' cannot be used. {RATE}",
        "1e400": f"'1e400' cannot be used. {RATE}",
        "1e31": f"'1e31' cannot be used. {RATE}",
        "nan": f"'nan' cannot be used. {RATE}",
        "infinity": f"'infinity' cannot be used. {RATE}",
        "0.1.5": f"'0.1.5' cannot be used. {RATE}",
        "1/3": f"'1/3' cannot be used. {RATE}",
        "١": f"'١' cannot be used. {RATE}",
        "1e-30..1e30..x1.0000001": f"'1e-30..1e30..x1.0000001' {FEWER}",
    },
    "weight-decay": {
        "0..1..0.1": TENTHS,
        "0..0.5..0.1": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
        "0..3": [0.0, 1.0, 2.0, 3.0],
        "0.0..2.0": [0.0, 1.0, 2.0],
        "0.7..1..0.1": [0.7, 0.8, 0.9, 1.0],
        "0..0.3..0.15": [0.0, 0.15, 0.3],
        "1e5..1e6..3e5": [100000.0, 400000.0, 700000.0, 1000000.0],
        "0..0.5": "'0..0.5' cannot be used. Give it a step, as in 0..0.5..0.1.",
    },
    "flip": {
        "true": [True],
        "true,false": [True, False],
        "false,true,false": [False, True],
        "True": "'True' cannot be used. Give true or false.",
        "1": "'1' cannot be used. Give true or false.",
        "yes,no": "'yes' in 'yes,no' cannot be used. Give true or false.",
        "": "'' cannot be used. Give true or false.",
        "false..true": "'false..true' cannot be used. Only numbers have ranges; separate other values by commas.",
    },
    "optimizer": {
        "muon": ["muon"],
        "muon,adam": ["muon", "adam"],
        "Adam": "'Adam' cannot be used. Give one of adam, muon.",
        "adam,sgd": "'sgd' in 'adam,sgd' cannot be used. Give one of adam, muon.",
        "adam..muon": "'adam..muon' cannot be used. Only numbers have ranges; separate other values by commas.",
    },
    "hidden": {
        "none": [[]],
        "256": [[256]],
        "512x256": [[512, 256]],
        "none,256,512x256": [[], [256], [512, 256]],
        "256,0256": [[256]],
        "64..256..64": [[64], [128], [192], [256]],
        "2..16..x2,4x4": [[2], [4], [8], [16], [4, 4]],
        "x".join(["1"] * 100): [[1] * 100],
        "": f"'' cannot be used. {LIST}",
        "x": f"'x' cannot be used. {LIST}",
        "256x": f"'256x' cannot be used. {LIST}",
        "0x10": f"'0x10' cannot be used. {LIST}",
        "512X256": f"'512X256' cannot be used. {LIST}",
        "nonex256": f"'nonex256' cannot be used. {LIST}",
        "None": f"'None' cannot be used. {LIST}",
        "256.0": f"'256.0' cannot be used. {LIST}",
        "16,16385": f"'16385' in '16,16385' cannot be used. {LIST}",
        "8x8..16..4": f"'8x8..16..4' cannot be used. {FORM}",
    },
    "data-dir": {
        "/a,b": ["/a,b"],
        "/0..9": ["/0..9"],
        "/a x b": ["/a x b"],
        "": [""],
        "/\udcff": (
            "'/\\udcff' cannot be used. Rename it: settings are kept in a file of UTF-8, which this path is not."
        ),
    },
}
CASES = [(option, text, expected) for option, texts in TEXTS.items() for text, expected in texts.items()]


def outcome(read: Callable[[FieldInfo, Any, str], list[Any]], option: str, value: Any) -> list[Any] | str:
    """The values, or what the error says after the name of the option."""
    try:
        return read(FIELDS[option], value, f"--{option}")
    except UsageError as error:
        line = str(error)
        assert line.isprintable()
        assert line.startswith(f"--{option}: ")
        return line.removeprefix(f"--{option}: ")


def test_there_are_sixty_texts_and_more() -> None:
    assert len(CASES) >= 120


@pytest.mark.parametrize(("option", "text", "expected"), CASES, ids=lambda value: f"{value!a:.30}")
def test_a_text_gives_values_or_one_line_with_a_cure(option: str, text: str, expected: list[Any] | str) -> None:
    # Of equal numbers of different types, repr tells which is which.
    assert repr(outcome(parse, option, text)) == repr(expected)
    assert repr(outcome(from_toml, option, text)) == repr(expected)


TABLES: dict[str, list[tuple[Any, list[Any] | str]]] = {
    "degree": [
        (3, [3]),
        ([1, 3, 19], [1, 3, 19]),
        ([3, 1, 3], [3, 1]),
        ("0..9..3", [0, 3, 6, 9]),
        (["1,3", 5, "0..2"], [1, 3, 5, 0, 2]),
        ([], "the list is empty. Give a value."),
        (3.0, f"'3.0' cannot be used. {WHOLE}"),
        (True, f"'true' cannot be used. {WHOLE}"),
        ([1, False], f"'false' in [1, False] cannot be used. {WHOLE}"),
        ([1, 20], f"'20' in [1, 20] cannot be used. {WHOLE}"),
        ([[1]], f"'1' in [[1]] cannot be used. {WHOLE}"),
        ({"a": 1}, f"\"{{'a': 1}}\" cannot be used. {WHOLE}"),
        ([1] * 10_001, f"[{'1, ' * 25}1... {FEWER}"),
        (["0..9999", 1], f"['0..9999', 1] {FEWER}"),
    ],
    "lr": [
        (1, [1.0]),
        ([1, 0.5], [1.0, 0.5]),
        ([0.1, "0.1"], [0.1]),
        (float("nan"), f"'nan' cannot be used. {RATE}"),
        (float("inf"), f"'inf' cannot be used. {RATE}"),
        (True, f"'true' cannot be used. {RATE}"),
    ],
    "flip": [
        (True, [True]),
        ([False, True], [False, True]),
        ("true,false", [True, False]),
        (1, "'1' cannot be used. Give true or false."),
    ],
    "optimizer": [
        (["adam", "muon"], ["adam", "muon"]),
        (["adam,muon"], ["adam", "muon"]),
        (3, "'3' cannot be used. Give one of adam, muon."),
    ],
    "hidden": [
        ([], [[]]),
        ([256], [[256]]),
        ([512, 256], [[512, 256]]),
        ([[], [256], [512, 256]], [[], [256], [512, 256]]),
        (["none", "512x256", [3]], [[], [512, 256], [3]]),
        (256, f"'256' cannot be used. {LIST}"),
        ([0], f"'0' cannot be used. {LIST}"),
        ([256, "512"], f"'256' in [256, '512'] cannot be used. {LIST}"),
        ([[[1]]], f"'[1]' in [[[1]]] cannot be used. {LIST}"),
        ([[1.5]], f"'1.5' in [[1.5]] cannot be used. {LIST}"),
    ],
    "data-dir": [
        (["/a,b", "/c"], ["/a,b", "/c"]),
        (3, "'3' cannot be used. Give text."),
    ],
}
TABLE_CASES = [(option, value, expected) for option, cases in TABLES.items() for value, expected in cases]


@pytest.mark.parametrize(("option", "value", "expected"), TABLE_CASES, ids=lambda value: f"{value!a:.30}")
def test_an_entry_of_a_file_is_a_value_a_text_or_a_list_of_them(
    option: str, value: Any, expected: list[Any] | str
) -> None:
    assert repr(outcome(from_toml, option, value)) == repr(expected)


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert outcome(parse, "data-dir", "a,b") == [f"{tmp_path}/a,b"]
    assert outcome(from_toml, "data-dir", ["a", "b"]) == [f"{tmp_path}/a", f"{tmp_path}/b"]


@pytest.mark.parametrize("places", range(1, 13))
def test_the_members_of_a_range_are_the_numbers_that_one_would_type(places: int) -> None:
    """The truth is what Python reads where the digits are typed: 0.003 and so on."""
    step = f"0.{'1':0>{places}}"
    typed = [float(f"0.{number:0>{places}}") for number in range(1, 10 ** min(places, 3))]
    assert parse(FIELDS["lr"], f"{step}..0.{len(typed):0>{places}}..{step}", "--lr") == typed


def test_whoever_changes_the_context_of_decimals_changes_no_range() -> None:
    with decimal.localcontext() as context:
        context.prec, context.rounding = 2, decimal.ROUND_UP
        context.traps[decimal.Inexact] = True
        assert parse(FIELDS["weight-decay"], "0..1.001..0.143", "") == [
            0,
            0.143,
            0.286,
            0.429,
            0.572,
            0.715,
            0.858,
            1.001,
        ]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("seed", "0..1e18"),
        ("seed", "0..1e999"),
        ("seed", "0..9..1e-999"),
        ("seed", "1..1e18..x1.0000000000000001"),
        ("seed", "1..2..x1.000000000000000000000000001"),
        ("lr", "1e-30..1e30..x1.0000001"),
        ("lr", "1..1.0000000000001..1e-27"),
        ("seed", "9" * 100_000),
        ("seed", "0.." + "9" * 100_000),
        ("lr", "0." + "0" * 100_000 + "1e999999"),
        ("lr", "1e" + "9" * 100_000),
        ("seed", "1," * 1_000_000 + "1"),
        ("seed", ".." * 500_000),
        ("seed", ",".join(["0..9999"] * 10_000)),
        ("hidden", "1x" * 100_000 + "1"),
        ("hidden", "," * 100_000),
    ],
    ids=lambda text: str(text)[:30],
)
def test_what_is_huge_ends_soon_with_a_short_line(option: str, text: str) -> None:
    began = time.perf_counter()
    line = outcome(parse, option, text)
    assert time.perf_counter() - began < 3
    assert isinstance(line, str)
    assert len(line) < 300
    assert re.search(rf"( cannot be used|{re.escape(FEWER)})", line)


def test_a_number_of_thousands_of_digits_is_read_or_refused() -> None:
    assert outcome(parse, "lr", "0." + "3" * 5000) == [1 / 3]
    assert outcome(parse, "lr", "1" + "0" * 5000) == f"'1{'0' * 75}... cannot be used. {RATE}"


def test_as_many_values_as_may_be_are_read() -> None:
    texts = [f"0..{MAX_VALUES - 1}", f"1..{MAX_VALUES}..1", ",".join(map(str, range(MAX_VALUES)))]
    for text in texts:
        assert len(parse(FIELDS["seed"], text, "--seed")) == MAX_VALUES
    for text in ["0..10000", f"{texts[2]},0", "0..5000,0..5000"]:
        with pytest.raises(UsageError, match=re.escape(FEWER)):
            parse(FIELDS["seed"], text, "--seed")


EVERY_FIELD = [
    pytest.param(model, name, id=f"{model.experiment}-{name}")
    for model in map(registry.settings_class, registry.EXPERIMENTS)
    for name in model.model_fields
]


@pytest.mark.parametrize(("model", "name"), EVERY_FIELD)
def test_the_text_of_a_value_gives_the_value_again(model: type[Settings], name: str) -> None:
    field, chance = model.model_fields[name], random.Random(0)
    values = [field.default, *(some_value(field, chance) for _ in range(200))]
    for value in values:
        text = to_text(value)
        assert repr(parse(field, text, name)) == repr([value])
        # No character of it is special to a shell; whoever types a path quotes it as ever.
        assert field.annotation is str or re.fullmatch(r"[A-Za-z0-9.+-]+", text)
    if field.annotation is not str:
        several = list({to_text(value): value for value in values}.values())
        assert repr(parse(field, ",".join(map(to_text, values)), name)) == repr(several)


def some_value(field: FieldInfo, chance: random.Random) -> Any:
    """A value that the setting may have, often at a bound."""
    kind = field.annotation
    if is_list(field):
        return [some_value(item(field), chance) for _ in range(chance.randrange(5))]
    if get_origin(kind) is Literal:
        return chance.choice(get_args(kind))
    if kind is str:
        return "/" + "".join(chance.choice("abx,.0é '\n") for _ in range(8)) + "end"
    if kind is bool:
        return chance.random() < 0.5
    low, high = bound(field, "ge"), bound(field, "le")
    if kind is int:
        return chance.choice([low, high, chance.randint(low, high), min(high, low + chance.randrange(30))])
    number: float = chance.choice([low or 0.1, high or 1e300, chance.random(), 10 ** chance.uniform(-320, 5)])
    return float(max(number, 5e-324) if high is None else min(max(number, low or 5e-324), high))


def test_whole_numbers_are_shown_in_ranges() -> None:
    assert in_ranges([0, 1, 2, 3, 4, 7]) == "0..4, 7"
    assert in_ranges([5]) == "5"
    assert in_ranges([]) == ""
