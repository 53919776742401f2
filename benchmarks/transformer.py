"""Time `mlpx transformer` against a plain PyTorch model, and against the matrix products alone.

    python benchmarks/transformer.py --src train.en.gz --tgt train.de.gz [--rounds 5] [--steps 8]

All train 4+4 blocks, d_model 128, d_ff 256, 4 heads, dropout 0.1, on the same word ids: those of mlpx's joint
vocabulary of 10,000 for the two files, which may be any parallel text. The plain way is `torch.nn.Transformer` on
random batches of 128 padded sentences, as PyTorch's tutorial trains it. They take turns, so that a machine that slows
down slows them all: a row gives the median of target words a second, padding not counted, and the median of the ratios,
round by round. The floor is the dense matrix products of one step of mlpx alone, forward and backward, without the
small products of attention.

Then beam search with 5 hypotheses is timed, with a model trained for `--warm-up` steps, so that its translations are
as long as real ones: once with the key-value cache, and once without, where each step decodes all earlier words again,
of fewer sentences at a time, which suits it better. The peak memory is that of a process in which mlpx alone trains and
decodes. With CUDA everything runs there, and the paper's base model is timed too.
"""

import argparse
import functools
import itertools
import math
import os
import resource
import statistics
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mlpx.experiments.transformer import decoding
from mlpx.experiments.transformer.attention import Layout
from mlpx.experiments.transformer.experiment import Translation
from mlpx.experiments.transformer.model import Transformer, causal_bias, positions
from mlpx.experiments.transformer.protocol import AutoregressiveModel
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.experiments.transformer.smoothing import SLICE
from mlpx.experiments.transformer.vocabulary import BOS, EOS, PAD
from mlpx.training import memory

SIZES = {"num_layers": 4, "d_model": 128, "num_heads": 4, "d_ff": 256}
BASE = {"num_layers": 6, "d_model": 512, "num_heads": 8, "d_ff": 2048, "batch_tokens": 25_000}
RATES = {"lr": 0.003, "warmup_steps": 100, "schedule": "inverse-sqrt"}
SENTENCES = 128  # a step of the plain way
BEAM, LENGTH_PENALTY = 5, 1.0

Steps = Callable[[int], int]  # takes that many steps, and gives the number of their target words


def translation(files: Sequence[str], device: torch.device, **changes: Any) -> Translation:
    """Mlpx's experiment on the two files."""
    source, target = files
    places = {
        f"{part}_{side}": path for part in ("train", "val", "test") for side, path in (("src", source), ("tgt", target))
    }
    settings = {
        **SIZES,
        "dropout": 0.1,
        "norm": "post",
        "label_smoothing": 0.1,
        "batch_size": 10**6,
        **RATES,
        **changes,
    }
    return Translation(TransformerSettings.model_validate({"task": "text", **places, **settings}), device)


def mlpx(experiment: Translation) -> Steps:
    """Steps of mlpx's own training."""

    def endless() -> Iterator[int]:
        for epoch in itertools.count(1):
            lengths, batches = experiment.training_pairs(epoch).tgt.lengths + 1, experiment.batches(epoch)
            for step, _ in enumerate(experiment.train(epoch, 0)):
                yield sum(int(lengths[rows].sum()) for rows in batches.rectangles(step))

    words = endless()
    return lambda number: sum(next(words) for _ in range(number))


class Plain(nn.Module):
    """A translation model as PyTorch's tutorial builds it on ``torch.nn.Transformer``."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        d_model, layers = SIZES["d_model"], SIZES["num_layers"]
        self.src, self.tgt = nn.Embedding(vocab_size, d_model), nn.Embedding(vocab_size, d_model)
        self.core = nn.Transformer(d_model, SIZES["num_heads"], layers, layers, SIZES["d_ff"], 0.1, batch_first=True)
        self.out = nn.Linear(d_model, vocab_size)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("positions", positions(1024, d_model).float())

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        """Words (B, S) and (B, T) to logits (B, T, V)."""
        causal = nn.Transformer.generate_square_subsequent_mask(tgt.shape[1], device=tgt.device)
        padding = src == PAD
        hidden = self.core(
            *(self.embed(layer, words) for layer, words in ((self.src, src), (self.tgt, tgt))),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            tgt_key_padding_mask=tgt == PAD,
            memory_key_padding_mask=padding,
        )
        return self.out(hidden)  # type: ignore[no-any-return]

    def embed(self, layer: nn.Module, words: Tensor) -> Tensor:
        """Words (B, T) to (B, T, D)."""
        places = self.get_buffer("positions")[: words.shape[1]]
        return self.dropout(layer(words) * math.sqrt(places.shape[1]) + places)  # type: ignore[no-any-return]


def plain(experiment: Translation, device: torch.device) -> Steps:
    """Steps of the plain way, on random batches of the same sentences."""
    pairs = experiment.task.train
    net = Plain(len(experiment.task.vocabulary)).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=0.1)

    def padded(sentences: list[list[int]]) -> Tensor:
        rows = [torch.tensor(words) for words in sentences]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)

    def take(number: int) -> int:
        words = 0
        for _ in range(number):
            rows = torch.randint(len(pairs.src), (SENTENCES,)).tolist()
            src = padded([[*words, EOS] for words in pairs.src.lists(rows)])
            tgt = padded([[BOS, *words, EOS] for words in pairs.tgt.lists(rows)])
            loss = criterion(net(src, tgt[:, :-1]).flatten(0, 1), tgt[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            words += int((tgt[:, 1:] != PAD).sum())
        return words

    return take


def floor(experiment: Translation, dtype: torch.dtype, device: torch.device) -> Steps:
    """The dense matrix products of an average step of mlpx: forward, by the input, and by the weight."""
    settings = experiment.settings
    batches, pairs = experiment.batches(1), experiment.training_pairs(1)
    src_words, tgt_words = (int((side.lengths + 1).sum()) // batches.num_steps for side in pairs)
    d, f, vocab_size = settings.d_model, settings.d_ff, len(experiment.task.vocabulary)
    encoder = [(src_words, *shape) for shape in ((d, d), (d, 2 * d), (d, d), (d, f), (f, d))]
    decoder = [(tgt_words, *shape) for shape in ((d, d), (d, 2 * d), (d, d), (d, d), (d, d), (d, f), (f, d))]
    shapes = settings.num_layers * [*encoder, *decoder, (src_words, d, 2 * d)]
    rows = SLICE // vocab_size
    shapes += (tgt_words // rows) * [(rows, d, vocab_size)]
    made = {
        (n, i, o): [torch.rand(size, dtype=dtype, device=device) for size in ((n, i), (o, i), (n, o))]
        for n, i, o in set(shapes)
    }
    room = {shape: [torch.empty_like(tensor) for tensor in tensors] for shape, tensors in made.items()}

    def take(number: int) -> int:
        for _ in range(number):
            for shape in shapes:
                (x, weight, gradient), (by_x, by_weight, out) = made[shape], room[shape]
                torch.mm(x, weight.t(), out=out)
                torch.mm(gradient, weight, out=by_x)
                torch.mm(gradient.t(), x, out=by_weight)
        return number * tgt_words

    return take


class Uncached:
    """A model that decodes as ``model`` does, but without a key-value cache."""

    def __init__(self, model: Transformer) -> None:
        self._model = model

    @property
    def output_weight(self) -> Tensor:
        """The matrix (V, D) of the output layer."""
        return self._model.output_weight

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits of hidden states: (…, D) to (…, V)."""
        return self._model.logits(hidden)

    def start(self, src: Tensor) -> "Forgetful":
        """Encode the sources (B, S)."""
        return Forgetful(self._model, src)


class Forgetful:
    """A decoder state that keeps the encoder's output alone, and decodes all words anew at each step."""

    def __init__(self, model: Transformer, src: Tensor) -> None:
        self._model, self._src = model, src
        self._memory = model.encode([src]).view(*src.shape, -1)
        self._words = src.new_empty(len(src), 1, 0)  # (B, G, t)

    def step(self, words: Tensor) -> Tensor:
        """Read one more word of each hypothesis, (B, G), and give the hidden states after it, (B, G, D)."""
        model = self._model
        self._words = torch.cat((self._words, words[:, :, None]), dim=2)
        batch, beam, length = self._words.shape
        x = model.embed([self._words.flatten(0, 1)])
        memory = self._memory.repeat_interleave(beam, 0)
        rectangles, source = [(batch * beam, length)], [(batch * beam, memory.shape[1])]
        layout = Layout(rectangles, rectangles, [causal_bias(length, x)])
        across = Layout(rectangles, source, [model.padding_bias(self._src).repeat_interleave(beam, 0)])
        for block in model.decoder:
            x = block(x, layout, memory.flatten(0, 1), across)
        return model.decoder_norm(x.view(batch, beam, length, -1)[:, :, -1])  # type: ignore[no-any-return]

    def keep(self, sentences: Tensor, parents: Tensor) -> None:
        """Go on with some sentences, each of their hypotheses continuing one of its parents."""
        self._src, self._memory = self._src[sentences], self._memory[sentences]
        words = self._words[sentences]
        self._words = words.gather(1, parents[:, :, None].expand(-1, -1, words.shape[2]))


def decoder(
    model: AutoregressiveModel, sources: Sequence[Sequence[int]], at_once: int = decoding.DECODED_AT_ONCE
) -> Callable[[], list[decoding.Hypothesis]]:
    """Beam search on ``sources``, of which ``at_once`` words times hypotheses are decoded together."""

    def decode() -> list[decoding.Hypothesis]:
        with unittest.mock.patch.object(decoding, "DECODED_AT_ONCE", at_once):
            return decoding.translate(model, sources, beam=BEAM, length_penalty=LENGTH_PENALTY)

    return decode


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that ``work`` takes, and its result."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def compare(unit: str, rows: dict[str, list[float]], against: str, *others: str) -> None:
    """Print the median of each row, and the median of its ratios to other rows."""
    heads = [f"against {other}" for other in (against, *others)]
    print(f"| {'':<30} | {unit:>22} | " + " | ".join(heads) + " |")
    print(f"| {'-' * 30} | {'-' * 21}: | " + " | ".join("-" * (len(head) - 1) + ":" for head in heads) + " |")
    for name, figures in rows.items():
        ratios = [
            statistics.median(a / b for a, b in zip(figures, rows[other], strict=True)) for other in (against, *others)
        ]
        cells = " | ".join(f"{ratio:{len(head)}.2f}" for ratio, head in zip(ratios, heads, strict=True))
        print(f"| {name:<30} | {statistics.median(figures):22,.0f} | {cells} |")
    print()


def alone(files: Sequence[str]) -> None:
    """Train and decode with mlpx alone, and print the peak memory of this process in MiB."""
    for precision in ("fp32", "bf16"):
        ours = translation(files, torch.device("cpu"), precision=precision)
        mlpx(ours)(10)
    decoder(ours.model, ours.task.train.src.lists(range(200)))()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare_decoders(ours: Mapping[str, Translation], num_sentences: int, rounds: int) -> None:
    """Print the table of decoding, with the weights that were trained in bfloat16."""
    model, trained = (cast(Transformer, ours[precision].model) for precision in ("fp32", "bf16"))
    model.load_state_dict(trained.state_dict())
    sources = ours["fp32"].task.train.src.lists(range(num_sentences))
    decoders = {
        "beam 5, nothing kept": decoder(Uncached(model), sources, at_once=4096),
        "beam 5, mlpx": decoder(model, sources),
    }
    speeds: dict[str, list[float]] = {name: [] for name in decoders}
    outputs = {}
    for _ in range(rounds):
        for name, decode in decoders.items():
            seconds, outputs[name] = timed(decode)
            speeds[name].append(num_sentences / seconds)
    compare("sentences a second", speeds, "beam 5, nothing kept")
    same = sum(a.words == b.words for a, b in zip(*outputs.values(), strict=True))
    length = statistics.mean(len(hypothesis.words) for hypothesis in outputs["beam 5, mlpx"])
    print(f"{same} of {num_sentences} translations are the same; {length:.1f} words on average\n")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--src", required=True)
    parser.add_argument("--tgt", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="a round")
    parser.add_argument("--warm-up", type=int, default=700, help="steps before decoding")
    parser.add_argument("--sentences", type=int, default=300, help="to decode")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    memory.keep_freed()  # as every training of mlpx does
    files = [os.path.abspath(options.src), os.path.abspath(options.tgt)]
    if options.alone:
        alone(files)
        return
    command = [sys.executable, os.path.abspath(__file__), "--src", files[0], "--tgt", files[1], "--alone"]
    # This comes first, because a new process counts the memory of the one that it was forked from, which is small now.
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads", end="\n\n")

    ours = {precision: translation(files, device, precision=precision) for precision in ("fp32", "bf16")}
    trainers = {
        "plain way, torch.nn.Transformer": plain(ours["fp32"], device),
        "mlpx": mlpx(ours["fp32"]),
        "mlpx --precision bf16": mlpx(ours["bf16"]),
        "floor: products alone, fp32": floor(ours["fp32"], torch.float32, device),
        "floor: products alone, bf16": floor(ours["bf16"], torch.bfloat16, device),
    }
    if device.type == "cuda":
        base = translation(files, device, precision="bf16", **BASE)
        trainers["mlpx, base model, bf16"] = mlpx(base)
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    for counted in range(-1, options.rounds):  # the first round warms up caches and threads, and is not counted
        for name, take in trainers.items():
            seconds, words = timed(functools.partial(take, options.steps))
            if counted >= 0:
                speeds[name].append(words / seconds)
    compare("target words a second", speeds, "plain way, torch.nn.Transformer", "mlpx", "floor: products alone, fp32")

    trainers["mlpx --precision bf16"](options.warm_up)
    compare_decoders(ours, options.sentences, options.rounds)
    print(f"peak memory of mlpx alone, on a CPU: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
