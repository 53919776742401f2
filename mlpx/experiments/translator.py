"""A trained Transformer put to use: text in, text out, and a look at its attention."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mlpx.data.subwords import BOS, EOS, PAD
from mlpx.errors import InputError
from mlpx.experiments import tasks
from mlpx.experiments.tasks import MAX_WORDS, SPECIAL, Vocabulary
from mlpx.models.decoding import translate
from mlpx.models.maps import attention_maps
from mlpx.models.transformer import Transformer
from mlpx.runs import reading, weights
from mlpx.settings.transformer import TransformerSettings
from mlpx.training.batches import generator
from mlpx.training.states import restore

PRODUCTS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def new_model(settings: TransformerSettings, vocab_size: int, device: torch.device) -> Transformer:
    """The untrained model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(settings.seed, "weights").initial_seed())
        model = Transformer(
            vocab_size,
            num_layers=settings.num_layers,
            d_model=settings.d_model,
            num_heads=settings.num_heads,
            d_ff=settings.d_ff,
            dropout=settings.dropout,
            pre_norm=settings.norm == "pre",
            products=PRODUCTS[settings.precision],
            pad=PAD,
        )
    return model.to(device)


def trained_model(
    settings: TransformerSettings, vocab_size: int, device: torch.device, run: Path, learned: Mapping[str, Tensor]
) -> Transformer:
    """The model with the weights ``learned`` by a run; raises InputError where they don't fit."""
    model = new_model(settings, vocab_size, device)
    with torch.no_grad():
        restore(dict(model.named_parameters()), learned, run / weights.NAME, "Train the run anew.")
    return model


def length_penalty_of(settings: TransformerSettings, run: Path) -> float:
    """By which a finished run decoded its test set; raises InputError where it was tuned and is lost."""
    if not settings.tune_length_penalty:
        return settings.length_penalty
    found = reading.metrics_of(reading.document_of(run)).get("length_penalty")
    if not isinstance(found, float):
        raise InputError(run / "run.json", "lacks the length penalty", "Train the run anew.")
    return found


class Translated(NamedTuple):
    """A line's translation; ``score`` is that of its hypothesis, ``cut`` says that only the line's start was read."""

    text: str
    score: float
    cut: bool


class Translator:
    """The model and the vocabulary of a run that has finished.

    Raises:
        InputError: one of them cannot be had.
    """

    def __init__(self, settings: TransformerSettings, device: torch.device, run: Path) -> None:
        learned = weights.read(run)  # first: a run that has not finished has no vocabulary either
        self._vocabulary = tasks.vocabulary_of(settings, run)
        self._model = trained_model(settings, len(self._vocabulary), device, run, learned)

    def translate(self, lines: Sequence[str], beam: int, length_penalty: float) -> list[Translated]:
        """The translation of each line, in their order; that of one without words is empty."""
        words = self._vocabulary.encode(lines)
        rows = [i for i, line in enumerate(words) if line]
        sources = [words[i][:MAX_WORDS] for i in rows]
        found = dict(
            zip(
                rows,
                translate(self._model, sources, SPECIAL, beam=beam, length_penalty=length_penalty),
                strict=True,
            )
        )
        return [
            Translated(self._vocabulary.decode(found[i].words), found[i].score, len(line) > MAX_WORDS)
            if i in found
            else Translated("", 0.0, cut=False)
            for i, line in enumerate(words)
        ]

    def draw_attention(self, line: str, beam: int, length_penalty: float) -> bytes:
        """Who attends to whom when ``line`` is translated, as PNG."""
        src = self._vocabulary.encode([line])[0][:MAX_WORDS]
        (found,) = translate(self._model, [src], SPECIAL, beam=beam, length_penalty=length_penalty)
        return draw_attention(self._model, self._vocabulary, src, found.words)


def draw_attention(model: Transformer, vocabulary: Vocabulary, src: Sequence[int], output: Sequence[int]) -> bytes:
    """Encoder self-attention, decoder self-attention and cross-attention for one sentence, as PNG.

    Shown is the block whose cross-attention looks most sharply: whose weights have the least mean entropy.
    """
    from mlpx.plots.attention import AttentionMap
    from mlpx.plots.attention import attention_maps as draw
    from mlpx.plots.figure import png  # matplotlib takes half a second to import: only when something is drawn

    read, written = [*src, EOS], [BOS, *output]
    maps = attention_maps(model, read, written)
    sources, targets = vocabulary.pieces(read), vocabulary.pieces(written)
    entropies = [float(torch.special.entr(block).sum(-1).mean()) for block in maps.cross]
    sharpest = entropies.index(min(entropies))
    kinds = (
        ("encoder self-attention", maps.encoder, sources, sources),
        ("decoder self-attention", maps.decoder, targets, targets),
        ("cross-attention", maps.cross, targets, sources),
    )
    panels = [AttentionMap(name, queries, keys, of[sharpest].numpy()) for name, of, queries, keys in kinds]
    return png(draw(f"What each word attends to, in block {sharpest + 1} of {len(entropies)}", panels))
