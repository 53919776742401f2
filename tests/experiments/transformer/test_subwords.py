"""Subwords: text there and back, one model for one text, and a vocabulary that is what the settings say."""

import pytest
from sentencepiece import SentencePieceProcessor

from mlpx.errors import InputError, UsageError
from mlpx.experiments.transformer.corpora import MAX_CHARACTERS
from mlpx.experiments.transformer.subwords import Subwords, learn
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD, UNK

PHRASES = [
    "der Hund läuft",
    "schön über die Straße",
    "viele Häuser und",
    "grüne Bäume",
    "a dog runs",
    "along the street",
]
TEXT = [f"{one} {other} {third}" for one in PHRASES for other in PHRASES for third in PHRASES]
CHARACTERS = len(set("".join(TEXT)) - {" "}) + len("▁") + len((PAD, BOS, EOS, UNK))


@pytest.fixture(scope="module")
def model() -> bytes:
    return learn(TEXT, 90)


@pytest.fixture(scope="module")
def subwords(model: bytes) -> Subwords:
    return Subwords(model)


def test_text_comes_back_and_no_special_id_is_in_it(subwords: Subwords) -> None:
    texts = [*TEXT, "übergrüne Hündin", "d", ""]
    ids = subwords.encode(texts)
    assert [subwords.decode(sentence) for sentence in ids] == texts
    assert {i for sentence in ids for i in sentence} <= set(range(UNK + 1, len(subwords)))
    assert sum(map(len, ids)) < 0.5 * sum(map(len, texts))  # pieces longer than characters are in use
    assert subwords.encode([]) == []


def test_special_ids_and_the_size_are_those_of_every_vocabulary(subwords: Subwords) -> None:
    assert len(subwords) == 90
    assert subwords.pieces([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)


def test_pieces_spell_the_text(subwords: Subwords) -> None:
    pieces = subwords.pieces(subwords.encode(["die Straße"])[0])
    assert "".join(pieces) == "▁die▁Straße"
    assert subwords.pieces([]) == []
    for outside in (-1, len(subwords)):
        with pytest.raises(IndexError):
            subwords.pieces([outside])


@pytest.mark.parametrize("unknown", ["😀", "犬", "\x00", "\udcff", "Ω≈ç", "▅"])
def test_unknown_characters_are_unk_and_nothing_more(subwords: Subwords, unknown: str) -> None:
    (ids,) = subwords.encode([f"der {unknown} Hund"])
    assert UNK in ids
    assert not {PAD, BOS, EOS} & set(ids)
    assert subwords.decode(ids).split() == ["der", "Hund"]


def test_special_tokens_in_a_text_are_text(subwords: Subwords) -> None:
    (ids,) = subwords.encode(["<s> </s> <pad>"])
    assert not {PAD, BOS, EOS} & set(ids)


def test_decoding_passes_over_special_ids_and_those_of_no_piece(subwords: Subwords) -> None:
    (ids,) = subwords.encode(["der Hund"])
    noise = [PAD, BOS, EOS, UNK, -1, len(subwords), 2**40]
    assert subwords.decode([*noise, ids[0], *noise, *ids[1:], *noise]) == "der Hund"
    assert subwords.decode(noise) == ""


def test_one_text_gives_one_model(model: bytes) -> None:
    assert learn(iter(TEXT), 90) == model
    assert learn([*TEXT, "viele Hunde " * 200], 90) != model


def test_a_model_made_again_from_its_bytes_is_the_same(model: bytes) -> None:
    one, other = Subwords(model), Subwords(model)
    assert one.encode(TEXT) == other.encode(TEXT)


def test_sentencepiece_itself_reads_the_model(model: bytes, subwords: Subwords) -> None:
    plain = SentencePieceProcessor(model_proto=model)
    assert plain.encode(TEXT) == subwords.encode(TEXT)


def test_the_longest_sentence_of_a_corpus_is_learned_from() -> None:
    longest = "😀 " * (MAX_CHARACTERS // 2 - 1) + "😀😀"
    assert len(longest) == MAX_CHARACTERS
    assert UNK not in Subwords(learn([longest], 6)).encode(["😀 😀"])[0]
    widest = "😀" * MAX_CHARACTERS
    assert UNK not in Subwords(learn([widest], 6)).encode(["😀"])[0]


@pytest.mark.parametrize("vocab_size", [-1, 0, 1, 5, CHARACTERS - 1])
def test_a_vocabulary_too_small_names_the_smallest(vocab_size: int) -> None:
    with pytest.raises(
        UsageError, match=f"--vocab-size: {vocab_size} is too small .*Take {CHARACTERS} or more"
    ) as caught:
        learn(TEXT, vocab_size)
    assert caught.value.exit_code == 2
    assert len(Subwords(learn(TEXT, CHARACTERS))) == CHARACTERS


def test_a_vocabulary_too_large_names_the_largest() -> None:
    with pytest.raises(UsageError, match="--vocab-size: 5000 is too large for this text") as caught:
        learn(TEXT, 5000)
    largest = int(str(caught.value).partition("Take ")[2].split()[0])
    assert len(Subwords(learn(TEXT, largest))) == largest
    with pytest.raises(UsageError, match=f"Take {largest} or less"):
        learn(TEXT, largest + 1)


@pytest.mark.parametrize("text", [[], [""], [" ", "\t"], ["\u200b", "\x01"]], ids=repr)
def test_a_text_of_nothing_is_an_input_error(text: list[str]) -> None:
    with pytest.raises(InputError, match="nothing in it to learn"):
        learn(text, 90)


def test_a_broken_model_is_an_input_error(model: bytes) -> None:
    """Also where sentencepiece alone would notice nothing: there is a digest."""
    places = [*range(1200), *range(1200, len(model), 997), *range(len(model) - 100, len(model))]
    broken = [model[:i] for i in places]
    broken += [model[:i] + bytes([model[i] ^ 1 << i % 8]) + model[i + 1 :] for i in places]
    broken += [model + b"\x00", model + model, b"\x00" * len(model)]
    for data in broken:
        with pytest.raises(InputError, match="broken"):
            Subwords(data)
    print(f"\n{len(broken)} of {len(broken)} broken models refused")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], model: bytes) -> None:
    learn(TEXT, 90)
    for size in (5, 5000):
        with pytest.raises(UsageError):
            learn(TEXT, size)
    with pytest.raises(InputError):
        Subwords(model[:1000])
    Subwords(model).encode(["😀"])
    assert capfd.readouterr() == ("", "")
