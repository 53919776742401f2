"""What a trained model is for: text in, text out, and a look at its attention."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from mlpx.errors import InputError
from mlpx.experiments.transformer import model, tasks
from mlpx.experiments.transformer.decoding import translate
from mlpx.experiments.transformer.encoding import MAX_WORDS
from mlpx.experiments.transformer.protocol import AttentionMaps, EncoderDecoder
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.vocabulary import BOS, EOS
from mlpx.training.experiment import Learned
from mlpx.training.states import restore


def load_weights(untrained: EncoderDecoder, learned: Learned) -> None:
    """Put the weights of a finished run into a model.

    Raises:
        InputError: They do not fit.
    """
    with torch.no_grad():
        restore(dict(untrained.named_parameters()), learned.weights, "weights.safetensors", "Train the run anew.")


def length_penalty_of(settings: TransformerSettings, learned: Learned) -> float:
    """The length penalty with which a finished run decoded its test sets.

    Raises:
        InputError: It was tuned, and is lost.
    """
    if not settings.tune_length_penalty:
        return settings.length_penalty
    length_penalty = learned.metrics.get("length_penalty")
    if not isinstance(length_penalty, float):
        raise InputError("run.json", "lacks the length penalty", "Train the run anew.")
    return length_penalty


class Translated(NamedTuple):
    """The translation of a line.

    Args:
        text: The translation.
        score: The score of its hypothesis.
        cut: Whether the line was too long, so that only its beginning was read.
    """

    text: str
    score: float
    cut: bool


class Translator:
    """The model and the vocabulary of a finished run.

    Raises:
        InputError: The weights do not fit the settings, or the vocabulary is missing or broken.
    """

    def __init__(self, settings: TransformerSettings, device: torch.device, learned: Learned) -> None:
        self._vocabulary = tasks.vocabulary_of(settings, learned)
        self._model = model.untrained(settings, len(self._vocabulary), device)
        load_weights(self._model, learned)

    def translate(self, lines: Sequence[str], beam: int, length_penalty: float) -> list[Translated]:
        """The translation of each line, in their order; a line without words has an empty one."""
        words = self._vocabulary.encode(lines)
        rows = [i for i, line in enumerate(words) if line]
        sources = [words[i][:MAX_WORDS] for i in rows]
        best = translate(self._model, sources, beam=beam, length_penalty=length_penalty)
        translated = [Translated("", 0.0, cut=False) for _ in lines]
        for i, hypothesis in zip(rows, best, strict=True):
            text = self._vocabulary.decode(hypothesis.words)
            translated[i] = Translated(text, hypothesis.score, cut=len(words[i]) > MAX_WORDS)
        return translated

    def draw_attention(self, line: str, beam: int, length_penalty: float) -> bytes:
        """The attention weights as ``line`` is translated, as PNG."""
        src = self._vocabulary.encode([line])[0][:MAX_WORDS]
        (best,) = translate(self._model, [src], beam=beam, length_penalty=length_penalty)
        read, written = [*src, EOS], [BOS, *best.words]
        maps = self._model.attention_maps(read, written)
        return draw_attention(maps, self._vocabulary.pieces(read), self._vocabulary.pieces(written))


def draw_attention(maps: AttentionMaps, sources: Sequence[str], targets: Sequence[str]) -> bytes:
    """Encoder self-attention, decoder self-attention and cross-attention of one pair, as PNG.

    The block that is shown is the one with the sharpest cross-attention: whose weights have the least mean entropy.

    Args:
        maps: The attention weights of all blocks.
        sources: How the source words are written.
        targets: How the target words are written.
    """
    # matplotlib takes half a second to import, so it is imported only when something is drawn.
    from mlpx.experiments.transformer.plots import AttentionPanel, attention_figure
    from mlpx.plots.figure import png

    entropies = [float(torch.special.entr(block).sum(-1).mean()) for block in maps.cross]
    sharpest = entropies.index(min(entropies))
    kinds = (
        ("encoder self-attention", maps.encoder, sources, sources),
        ("decoder self-attention", maps.decoder, targets, targets),
        ("cross-attention", maps.cross, targets, sources),
    )
    panels = [AttentionPanel(name, queries, keys, blocks[sharpest].numpy()) for name, blocks, queries, keys in kinds]
    return png(attention_figure(f"What each word attends to, in block {sharpest + 1} of {len(entropies)}", panels))
