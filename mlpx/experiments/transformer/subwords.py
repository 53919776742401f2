"""One vocabulary of subwords for two languages: byte pair encoding (BPE) by sentencepiece.

Joint BPE is from Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword Units",
section 3.2. Sentencepiece (Kudo and Richardson, 2018, section 3) turns raw text into ids and ids back into text.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Sequence

import numpy as np
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from mlpx.errors import InputError, MlpxError, UsageError
from mlpx.experiments.transformer.corpora import MAX_CHARACTERS
from mlpx.experiments.transformer.sentences import Sentences, Words, dtype_of_words
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD, UNK

# The protobuf header of field 200, which sentencepiece leaves to others, with a content of 32 bytes.
SEAL = b"\xc2\x0c\x20"


def learn(sentences: Iterable[str], vocab_size: int) -> bytes:
    """Learn a vocabulary of ``vocab_size`` ids, the special words included, and give its sentencepiece model.

    The same sentences give the same bytes. A digest at the model's end seals it, so that :class:`Subwords` notices
    a broken one; other programs read it like any sentencepiece model. Sentencepiece skips sentences with a ``▅``, its
    mark for unknown characters, and those of more bytes than ``MAX_CHARACTERS`` of the widest characters have.

    Raises:
        InputError: The sentences hold nothing but white space and control characters.
        UsageError: These sentences yield no vocabulary of that size.
    """
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            # For a still smaller size, sentencepiece would not say how much it needs.
            vocab_size=max(vocab_size, UNK + 1),
            # Otherwise sentencepiece would give a smaller vocabulary than the settings say, without a word.
            hard_vocab_limit=True,
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
    """The error that the trainer's message means for the user; ``None`` for an unknown message."""
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
    """Text to ids and back, by a model that :func:`learn` made.

    Without the seal, most flipped bits, and a model that was cut between two pieces, would go unnoticed:
    sentencepiece reads such a model, and cuts text differently by it.

    Raises:
        InputError: The model is broken, or was not made by :func:`learn`.
    """

    def __init__(self, model: bytes) -> None:
        end = len(model) - len(_seal(b""))
        if model[end:] != _seal(model[:end]):
            raise InputError("the subwords", "their model is broken, or not one of mlpx", "Train it anew.")
        self._processor = SentencePieceProcessor(model_proto=model)

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The ids of each sentence, without ``PAD``, ``BOS`` and ``EOS``; unseen characters become ``UNK``."""
        return self.arrays(sentences).lists()

    def arrays(self, sentences: Sequence[str], num_threads: int = 1) -> Sentences:
        """The same as arrays, by this many threads."""
        # Sentencepiece cannot read lone surrogates, so they are replaced.
        data = [sentence.encode(errors="replace") for sentence in sentences]
        ids = self._processor.encode(data, return_type="numpy", num_threads=num_threads)
        words = np.concatenate([np.empty(0, np.int32), *ids])
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        # Mypy cannot tell which of the two types it is.
        narrow: Words = words.astype(dtype_of_words(len(self)))  # type: ignore[assignment]
        return Sentences(narrow, lengths)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids; special ids and ids outside the vocabulary are skipped."""
        size = len(self)
        text: str = self._processor.decode([i for i in ids if UNK < i < size])
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """How each id is written; ``▁`` stands for a space.

        Raises:
            IndexError: An id is not in the vocabulary.
        """
        return [self._processor.id_to_piece(i) for i in ids]
