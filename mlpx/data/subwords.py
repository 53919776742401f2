"""One vocabulary of subwords for two languages: byte pair encoding by sentencepiece.

Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword Units", section 3.2: joint BPE.
Kudo and Richardson 2018, "SentencePiece", section 3: raw text in, ids out, and back to text.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Sequence

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from mlpx.data.corpora import MAX_CHARACTERS
from mlpx.errors import InputError, MlpxError, UsageError

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")  # in every vocabulary
PAD, BOS, EOS, UNK = range(len(SPECIAL))
SEAL = b"\xc2\x0c\x20"  # protobuf: field 200, which sentencepiece leaves to others, holding 32 bytes


def train(sentences: Iterable[str], vocab_size: int) -> bytes:
    """A model of ``vocab_size`` ids, the four special ones included: a function of the sentences, byte for byte.

    It is a sentencepiece model as any other, sealed by a digest so that :class:`Subwords` knows it to be whole.
    Passed over are sentences with a ``▅``, by which sentencepiece marks the unknown, and those longer in bytes than
    ``MAX_CHARACTERS`` of the widest.

    Raises:
        InputError: the sentences hold nothing but white space and control characters.
        UsageError: these sentences yield no vocabulary of that size.
    """
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=max(vocab_size, UNK + 1),  # below, sentencepiece doesn't say what it needs
            hard_vocab_limit=True,  # a smaller one in silence would belie the settings
            character_coverage=1.0,
            normalization_rule_name="nmt_nfkc",
            max_sentence_length=4 * MAX_CHARACTERS,  # in bytes
            shuffle_input_sentence=False,
            num_threads=1,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            minloglevel=2,
        )
    except RuntimeError as error:
        known = _explain(str(error), vocab_size)
        if known is None:
            raise
        raise known from error
    return model.getvalue() + _seal(model.getvalue())


def _explain(message: str, vocab_size: int) -> MlpxError | None:
    """What the trainer's message means for the user; ``None`` for an unknown one."""
    if most := re.search(r"set it to a value <= (\d+)", message):
        why = f"{vocab_size} is too large for this text, which yields {most[1]} subwords"
        return UsageError("--vocab-size", why, f"Take {most[1]} or less, or more text.")
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        why = f"{vocab_size} is too small for this text, whose characters and special ids are {least[1]}"
        return UsageError("--vocab-size", why, f"Take {least[1]} or more.")
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return InputError("the text", "there is nothing in it to learn subwords from", "Give sentences.")
    return None


def _seal(model: bytes) -> bytes:
    return SEAL + hashlib.sha256(model).digest()


class Subwords:
    """Text to ids and back by a model that :func:`train` made; ``model`` is what to keep of it.

    Raises:
        InputError: the model is not one of these, or not whole. Sentencepiece by itself takes most flipped bits, and
            ends between two pieces, in silence, and then cuts text differently.
    """

    def __init__(self, model: bytes) -> None:
        end = len(model) - len(_seal(b""))
        if model[end:] != _seal(model[:end]):
            raise InputError("the subwords", "their model is broken, or not one of mlpx", "Train it anew.")
        self.model = model
        self._processor = SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The ids of each sentence, none of ``PAD``, ``BOS`` and ``EOS`` among them; ``UNK`` for unseen characters."""
        data = [sentence.encode(errors="replace") for sentence in sentences]  # no lone surrogate gets through
        ids: list[list[int]] = self._processor.encode(data, out_type=int, num_threads=1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ``ids`` spell; special ids, and those that are none of the vocabulary, are passed over."""
        size = len(self)
        text: str = self._processor.decode([i for i in ids if UNK < i < size])
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """How each id is written, ``▁`` standing for a space.

        Raises:
            IndexError: an id is not in the vocabulary.
        """
        return [self._processor.id_to_piece(i) for i in ids]
