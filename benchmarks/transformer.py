"""Time `mlpx transformer` against the plain way with PyTorch, and against the least that its products take.

    python benchmarks/transformer.py --src train.en.gz --tgt train.de.gz [--rounds 5] [--steps 8]

Everyone trains 4+4 blocks, d_model 128, d_ff 256, 4 heads, dropout 0.1, on the same word ids: those of mlpx's joint
vocabulary of 10,000 for the two files, any parallel ones. The plain way is `torch.nn.Transformer` on random batches of
128 padded sentences, as PyTorch's tutorial trains it. They take turns, so that a machine that slows down slows them
all: a row gives the median of target words a second, padding not counted, and the median of the ratios, round by round.
The floor is the dense products of a step of mlpx's alone, forwards and backwards, without attention's small ones.
Then beam-5 decoding, by a model trained for `--warm-up` steps so that its sentences are as long as real ones, with
keys and values kept and, by the same search, with none: every word before is decoded again at each step, of fewer
sentences at once, as suits it. Peak memory is that of a process of mlpx's alone that trains and decodes.
On CUDA everything runs there, and the paper's base model besides.
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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlpx.experiments import transformer
from mlpx.experiments.tasks import SPECIAL
from mlpx.models import decoding
from mlpx.models.attention import Layout
from mlpx.models.smoothing import SLICE
from mlpx.models.transformer import Transformer, causal_bias, positions
from mlpx.settings.transformer import TransformerSettings

SIZES = {"num_layers": 4, "d_model": 128, "num_heads": 4, "d_ff": 256}
BASE = {"num_layers": 6, "d_model": 512, "num_heads": 8, "d_ff": 2048, "batch_tokens": 25_000}
RATES = {"lr": 0.003, "warmup_steps": 100, "schedule": "inverse-sqrt"}
SENTENCES = 128  # a step of the plain way
BEAM, LENGTH_PENALTY = 5, 1.0

Steps = Callable[[int], int]  # takes so many steps, and says how many target words they had


def experiment(files: Sequence[str], device: torch.device, **changes: Any) -> transformer.Translation:
    """Mlpx's own, on the two files."""
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
    return transformer.build(TransformerSettings.model_validate({"task": "text", **places, **settings}), device)


def mlpx(task: transformer.Translation) -> Steps:
    """Steps of mlpx's own training."""

    def endless() -> Iterator[int]:
        for epoch in itertools.count(1):
            for rectangles, _ in zip(task.batches(epoch), task.train(epoch, 0), strict=True):
                yield task.examples.num_words_of(rectangles)

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
        padding = src == SPECIAL.pad
        found = self.core(
            *(self.embed(layer, words) for layer, words in ((self.src, src), (self.tgt, tgt))),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            tgt_key_padding_mask=tgt == SPECIAL.pad,
            memory_key_padding_mask=padding,
        )
        return self.out(found)  # type: ignore[no-any-return]

    def embed(self, layer: nn.Module, words: Tensor) -> Tensor:
        """Words (B, T) to (B, T, D)."""
        places = self.get_buffer("positions")[: words.shape[1]]
        return self.dropout(layer(words) * math.sqrt(places.shape[1]) + places)  # type: ignore[no-any-return]


def plain(task: transformer.Translation, device: torch.device) -> Steps:
    """Steps of the plain way, on random batches of the same sentences."""
    pairs = task.task.train
    net = Plain(len(task.task.vocabulary)).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9)
    criterion = nn.CrossEntropyLoss(ignore_index=SPECIAL.pad, label_smoothing=0.1)

    def padded(sentences: list[list[int]]) -> Tensor:
        rows = [torch.tensor(words) for words in sentences]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=SPECIAL.pad).to(device)

    def take(number: int) -> int:
        words = 0
        for _ in range(number):
            rows = torch.randint(len(pairs.src), (SENTENCES,)).tolist()
            src = padded([[*pairs.src[i], SPECIAL.eos] for i in rows])
            tgt = padded([[SPECIAL.bos, *pairs.tgt[i], SPECIAL.eos] for i in rows])
            loss = criterion(net(src, tgt[:, :-1]).flatten(0, 1), tgt[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            words += int((tgt[:, 1:] != SPECIAL.pad).sum())
        return words

    return take


def floor(task: transformer.Translation, dtype: torch.dtype, device: torch.device) -> Steps:
    """The dense products of mlpx's mean step alone: each forwards, by its input and by its weight."""
    settings = task.settings
    batches = task.batches(1)
    tgt_words = task.examples.num_words // len(batches)
    src_words = int(task.examples.src.lengths.sum()) // len(batches)
    d, f, vocab_size = settings.d_model, settings.d_ff, len(task.task.vocabulary)
    encoder = [(src_words, *shape) for shape in ((d, d), (d, 2 * d), (d, d), (d, f), (f, d))]
    decoder = [(tgt_words, *shape) for shape in ((d, d), (d, 2 * d), (d, d), (d, d), (d, d), (d, f), (f, d))]
    shapes = settings.num_layers * [*encoder, *decoder, (src_words, d, 2 * d)]
    rows = SLICE // vocab_size
    shapes += (tgt_words // rows) * [(rows, d, vocab_size)]
    made = {
        shape: [torch.rand(size, dtype=dtype, device=device) for size in ((n, i), (o, i), (n, o))]
        for shape in set(shapes)
        for n, i, o in [shape]
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


class Forgetful:
    """In place of decoding's cache: it keeps the source's encoding alone, and decodes all words anew at each step."""

    def __init__(self, model: Transformer, src: Tensor) -> None:
        self._model, self._src = model, src
        self._memory = model.encode([src]).view(*src.shape, -1)
        self._words = src.new_empty(len(src), 1, 0)  # (B, G, t)

    def step(self, words: Tensor) -> Tensor:
        """What the decoder gives for one more word of each hypothesis: (B, G) to (B, G, D)."""
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
        """Go on with some sentences, each hypothesis continuing one of its parents."""
        self._src, self._memory = self._src[sentences], self._memory[sentences]
        words = self._words[sentences]
        self._words = words.gather(1, parents[:, :, None].expand(-1, -1, words.shape[2]))


def decoder(task: transformer.Translation, number: int, **instead: Any) -> Callable[[], list[decoding.Hypothesis]]:
    """Beam search on the first sentences, with something else ``instead`` of what is in mlpx's module."""

    def decode() -> list[decoding.Hypothesis]:
        task.model.noise.generator = None
        with unittest.mock.patch.dict(vars(decoding), instead):
            sources = task.task.train.src[:number]
            return decoding.translate(task.model, sources, SPECIAL, beam=BEAM, length_penalty=LENGTH_PENALTY)

    return decode


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of ``work``, and what it gave."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, found


def compare(unit: str, rows: dict[str, list[float]], against: str, *others: str) -> None:
    """Print each row's median, and its median ratio to other rows."""
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
    """Train and decode by mlpx alone, and print the peak memory of this process in MiB."""
    for precision in ("fp32", "bf16"):
        task = experiment(files, torch.device("cpu"), precision=precision)
        mlpx(task)(10)
    decoder(task, 200)()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


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
    files = [os.path.abspath(options.src), os.path.abspath(options.tgt)]
    if options.alone:
        alone(files)
        return
    command = [sys.executable, os.path.abspath(__file__), "--src", files[0], "--tgt", files[1], "--alone"]
    # First: a process counts the memory of the one that it was forked from, which is small as yet.
    memory = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads", end="\n\n")

    tasks = {precision: experiment(files, device, precision=precision) for precision in ("fp32", "bf16")}
    trainers = {
        "plain way, torch.nn.Transformer": plain(tasks["fp32"], device),
        "mlpx": mlpx(tasks["fp32"]),
        "mlpx --precision bf16": mlpx(tasks["bf16"]),
        "floor: products alone, fp32": floor(tasks["fp32"], torch.float32, device),
        "floor: products alone, bf16": floor(tasks["bf16"], torch.bfloat16, device),
    }
    if device.type == "cuda":
        base = experiment(files, device, precision="bf16", **BASE)
        trainers["mlpx, base model, bf16"] = mlpx(base)
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    for counted in range(-1, options.rounds):  # the first round is not counted: caches, threads
        for name, take in trainers.items():
            seconds, words = timed(functools.partial(take, options.steps))
            if counted >= 0:
                speeds[name].append(words / seconds)
    compare("target words a second", speeds, "plain way, torch.nn.Transformer", "mlpx", "floor: products alone, fp32")

    trainers["mlpx --precision bf16"](options.warm_up)
    trained = tasks["fp32"]
    trained.model.load_state_dict(tasks["bf16"].model.state_dict())
    decoders = {
        "beam 5, nothing kept": decoder(trained, options.sentences, Cache=Forgetful, DECODED_AT_ONCE=4096),
        "beam 5, mlpx": decoder(trained, options.sentences),
    }
    speeds = {name: [] for name in decoders}
    outputs = {}
    for _ in range(options.rounds):
        for name, decode in decoders.items():
            seconds, outputs[name] = timed(decode)
            speeds[name].append(options.sentences / seconds)
    compare("sentences a second", speeds, "beam 5, nothing kept")
    same = sum(a.words == b.words for a, b in zip(*outputs.values(), strict=True))
    length = statistics.mean(len(found.words) for found in outputs["beam 5, mlpx"])
    print(f"{same} of {options.sentences} translations are the same; {length:.1f} words on average\n")

    print(f"peak memory of mlpx alone, on a CPU: {memory:.0f} MiB")


if __name__ == "__main__":
    main()
