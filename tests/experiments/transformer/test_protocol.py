"""Another encoder-decoder than the Transformer, a recurrent one, through training, beam search and scoring."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mlpx.experiments.transformer.decoding import search
from mlpx.experiments.transformer.dropout import Dropout
from mlpx.experiments.transformer.experiment import Translation
from mlpx.experiments.transformer.protocol import EncoderDecoder
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD
from mlpx.training.experiment import Learned
from mlpx.training.loop import EpochRecord, fit

CPU = torch.device("cpu")
PAIRS = [  # adjectives follow their noun in French
    (f"we see the {adjective} {noun}", f"nous voyons {article} {of_noun} {of_adjective}")
    for noun, article, of_noun in (("cat", "le", "chat"), ("dog", "le", "chien"), ("tree", "un", "arbre"))
    for adjective, of_adjective in (("red", "rouge"), ("young", "jeune"), ("sad", "triste"), ("yellow", "jaune"))
]


class Gru(nn.Module):
    """A recurrent encoder, whose last state begins a recurrent decoder (Cho et al., 2014)."""

    products = torch.float32

    def __init__(self, vocab_size: int, size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, size)
        self.dropout = Dropout(dropout)
        self.encoder, self.decoder = (nn.GRU(size, size, batch_first=True) for _ in range(2))

    @property
    def output_weight(self) -> Tensor:
        return self.embedding.weight

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.output_weight.T

    def encode(self, src: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """The state after EOS: (B, S) to (1, B, D)."""
        states, _ = self.encoder(self.dropout(self.embedding(src), dropout))
        ends = (src == EOS).int().argmax(1)
        return states[torch.arange(len(src)), ends][None]  # type: ignore[no-any-return]

    def forward(self, src: Sequence[Tensor], tgt: Sequence[Tensor], dropout: torch.Generator | None = None) -> Tensor:
        parts = []
        for read, written in zip(src, tgt, strict=True):
            states, _ = self.decoder(self.dropout(self.embedding(written), dropout), self.encode(read, dropout))
            parts.append(states.flatten(0, 1))
        return torch.cat(parts)

    def start(self, src: Tensor) -> "GruState":
        return GruState(self, self.encode(src))

    def matrices(self) -> list[nn.Parameter]:
        return [p for part in (self.encoder, self.decoder) for p in part.parameters() if p.ndim == 2]

    def attention_maps(self, src: Sequence[int], tgt: Sequence[int]) -> None:
        return None


class GruState:
    """The decoder's state after the words so far, of each hypothesis of each sentence: (1, B·G, D)."""

    def __init__(self, model: Gru, state: Tensor) -> None:
        self._model, self._state, self._beam = model, state, 1

    def step(self, words: Tensor) -> Tensor:
        self._beam = words.shape[1]
        _, self._state = self._model.decoder(self._model.embedding(words.reshape(-1, 1)), self._state)
        return self._state.view(*words.shape, -1)

    def keep(self, sentences: Tensor, parents: Tensor) -> None:
        self._state = self._state[:, (sentences[:, None] * self._beam + parents).flatten()]


class RecurrentTranslation(Translation):
    @classmethod
    def new_model(cls, settings: TransformerSettings, vocab_size: int, device: torch.device) -> EncoderDecoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return Gru(vocab_size, settings.d_model, settings.dropout).to(device)


def settings(folder: Path, **changes: Any) -> TransformerSettings:
    files = {}
    for part in ("train", "val", "test"):
        for side, sentences in (("src", [src for src, _ in PAIRS]), ("tgt", [tgt for _, tgt in PAIRS])):
            path = folder / f"{part}.{side}"
            path.write_text("\n".join(sentences))
            files[f"{part}_{side}"] = str(path)
    few = {"vocab_size": 60, "d_model": 32, "batch_size": 4, "lr": 0.01, "warmup_steps": 0, "epochs": 30, "beam": 3}
    return TransformerSettings.model_validate({"task": "text", **files, **few, "dropout": 0.1, **changes})


@pytest.mark.parametrize("changes", [{}, {"optimizer": "muon", "average_last": 3, "tune_length_penalty": True}])
def test_a_recurrent_model_learns_to_translate_and_draws_no_attention(tmp_path: Path, changes: dict[str, Any]) -> None:
    experiment = RecurrentTranslation(settings(tmp_path, eval_every=10, **changes), CPU)
    *_, last = (record.row for record in fit(experiment) if isinstance(record, EpochRecord))
    outcome = experiment.outcome(last)
    print(f"\n{outcome.summary}; {last}")
    (bleu,) = outcome.metrics["test_bleu"]
    assert bleu > 50
    assert outcome.pictures == {}
    assert outcome.files["translations.txt"].decode().count("output: ") == len(PAIRS)

    metrics = {name: value for name, (value,) in outcome.metrics.items()}
    learned = Learned(outcome.weights, metrics, outcome.files.__getitem__)
    again = RecurrentTranslation.final_metrics(experiment.settings, CPU, learned)
    assert again == {name: outcome.metrics[name] for name in ("test_loss", "test_perplexity", "test_bleu")}


@torch.no_grad()
def test_scores_of_its_beam_search_are_those_of_whole_sentences() -> None:
    torch.manual_seed(1)
    model = Gru(9, 8, dropout=0.5).double()
    sentences = [[4, 5, 6], [7], [8, 8, 4, 5, 6]]
    for src, hypotheses in zip(sentences, search(model, sentences, beam=4, length_penalty=0.6), strict=True):
        assert len({tuple(words) for words, _ in hypotheses}) == 4
        for words, score in hypotheses:
            hidden = model([torch.tensor([[*src, EOS]])], [torch.tensor([[BOS, *words]])])
            log_probabilities = model.logits(hidden).log_softmax(-1)
            ended = [*words, EOS]
            total = float(log_probabilities[range(len(ended)), ended].sum())
            # A hypothesis at the limit has to end, and is scored like any other.
            assert score == pytest.approx(total / len(ended) ** 0.6, rel=1e-10)
            assert PAD not in words


def test_dropout_is_drawn_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    model = Gru(9, 8, dropout=0.5)
    pair = [torch.tensor([[4, 5, EOS]])], [torch.tensor([[BOS, 6, 7]])]
    first, second = (model(*pair, torch.Generator().manual_seed(seed)) for seed in (1, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, model(*pair))
    assert torch.equal(model(*pair), model(*pair))
