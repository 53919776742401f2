"""Trains small Transformers in float64 and in float32, in as many processes as torchrun has started, or in one.

torchrun --nproc-per-node=2 tests/together.py RESULTS [SETTINGS]

SETTINGS are those of :func:`write_text`, as JSON. Without them, one process gets signals in the middle.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from mlpx.experiments.transformer import decoding, model, scoring, tasks
from mlpx.experiments.transformer.experiment import Translation
from mlpx.experiments.transformer.protocol import EncoderDecoder
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.training import distributed, precision
from mlpx.training.distributed import Group
from mlpx.training.loop import EpochRecord, fit
from mlpx.training.signals import StopFlag, Stopping

SMALL: dict[str, Any] = {
    "num_train": 100,
    "num_layers": 2,
    "d_model": 16,
    "num_heads": 2,
    "d_ff": 32,
    "batch_size": 16,
    "lr": 0.01,
    "warmup_steps": 0,
    "epochs": 2,
    "dropout": 0.0,
    "beam": 2,
}
CASES: dict[str, dict[str, Any]] = {
    "adam": {"clip_norm": 0.5},
    "muon": {"optimizer": "muon", "average_last": 2, "tune_length_penalty": True, "batch_tokens": 60},
    "text": {"task": "text", "vocab_size": 40, "lr": 0.02, "epochs": 12, "eval_every": 12},
    # Some steps have fewer pairs than there are processes.
    "single pairs": {"num_train": 9, "batch_size": 1, "both_ways": 1},
}


class Trained(NamedTuple):
    """What a training leaves: its rows and final metrics without what clocks measure, and its weights."""

    rows: list[dict[str, float]]
    metrics: dict[str, float]
    weights: dict[str, Tensor]


class DoubleTranslation(Translation):
    """The experiment in float64."""

    @classmethod
    def new_model(cls, settings: TransformerSettings, vocab_size: int, device: torch.device) -> EncoderDecoder:
        before = precision.DTYPES["fp32"]
        precision.DTYPES["fp32"] = torch.float64
        try:
            return model.untrained(settings, vocab_size, device).double()
        finally:
            precision.DTYPES["fp32"] = before


def train(experiment_class: type[Translation], group: Group, **changes: Any) -> Trained:
    """Train an experiment together with the other processes of a group."""
    experiment = experiment_class(TransformerSettings.model_validate({**SMALL, **changes}), torch.device("cpu"))
    experiment.group = group
    rows = [record.row for record in fit(experiment) if isinstance(record, EpochRecord)]
    outcome = experiment.outcome(rows[-1])
    timeless = [{name: row[name] for name in row if name not in ("seconds", "tokens_per_second")} for row in rows]
    return Trained(timeless, {name: values[0] for name, values in outcome.metrics.items()}, dict(outcome.weights))


def write_text(folder: Path) -> dict[str, str]:
    """Write two files of sentences and their translations, word by word, and give the settings that use them."""
    draws = random.Random(0)
    lines = [[draws.randrange(6) for _ in range(draws.randint(4, 8))] for _ in range(100)]
    names: dict[str, str] = {}
    for side, words in (("src", "a be cad dune edge fog"), ("tgt", "ein zwo drei vier acht neun")):
        path = folder / f"sentences.{side}"
        path.write_text("".join(" ".join(words.split()[word] for word in line) + "\n" for line in lines))
        names |= {f"{part}_{side}": str(path) for part in ("train", "val", "test")}
    return names


def train_all(group: Group, text: dict[str, str]) -> dict[str, Trained]:
    """All cases in float64, and the first one in float32; ``text`` are the settings of :func:`write_text`."""
    for name in ("NUM_VAL", "NUM_TEST"):
        setattr(tasks, name, 31)
    decoding.MORE_WORDS = 5
    cases = {**CASES, "text": {**CASES["text"], **text}}
    trained = {name: train(DoubleTranslation, group, **changes) for name, changes in cases.items()}
    return trained | {"fp32": train(Translation, group, **CASES["adam"])}


def stopped_while(doing: str, group: Group, signalled: int) -> tuple[int, int]:
    """Train until the process of rank ``signalled`` sends itself SIGTERM: the records so far, and the signal."""
    experiment = Translation(TransformerSettings.model_validate(SMALL), torch.device("cpu"))
    experiment.group = group
    module, name = {"scoring": (scoring, "losses"), "decoding": (decoding, "likeliest")}.get(doing, (scoring, "load"))
    wrapped = getattr(module, name)

    def signalling(*arguments: Any, **named: Any) -> Any:
        if group.rank == signalled and doing != "training":
            os.kill(os.getpid(), signal.SIGTERM)
        return wrapped(*arguments, **named)

    count = 0
    with StopFlag() as stop, mock.patch.object(module, name, signalling):
        group.stop = stop
        try:
            for _ in fit(experiment):
                count += 1
                if group.rank == signalled and doing == "training" and count == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                group.agree()
        except Stopping as stopping:
            return count, stopping.signum
    return count, 0


if __name__ == "__main__":
    with distributed.joined() as joined:
        results: dict[str, Any]
        if len(sys.argv) == 2:
            results = {
                doing: stopped_while(doing, joined, signalled=1) for doing in ("training", "scoring", "decoding")
            }
        else:
            trained_in_all = train_all(joined, json.loads(sys.argv[2]))
            results = {name: tuple(part) for name, part in trained_in_all.items()}
        # Each process has to have all of it.
        torch.save(results, f"{sys.argv[1]}.{joined.rank}")
