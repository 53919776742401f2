"""Train configs/transformer-multi30k.toml and variations of it, and print a table with a row for each.

    MLPX_DATA_DIR=… python benchmarks/multi30k.py [--epochs 20] [--seeds 1] [--jobs 2] [NAME …]

Each variation changes one thing. Without names all of them are trained. ``--epochs`` trains them for fewer epochs, and
keeps the preset's share of epochs in which pairs are turned round (``both_ways``).

Variations are to be compared by BLEU on the validation set, with greedy decoding. BLEU on the test set (beam search,
with the length penalty that is best on the validation set) is printed beside it, but is not used to choose.

``--jobs`` runs are trained at a time and share the processor's cores, so the minutes are those of a run that has others
beside it. A run in ``--runs-dir`` that has the same name and the same settings is used again: it is not trained anew if
it has finished, and it is resumed if it was stopped. A run with other settings, such as those of an older preset, is
left alone, and a new one is trained.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mlpx.errors import MlpxError
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.settings.base import Settings
from mlpx.settings.files import resolve

PRESET = Path(__file__).resolve().parent.parent / "configs" / "transformer-multi30k.toml"
Changes = Mapping[str, Any]
"""Settings by name, with values other than the preset's."""

VARIATIONS: dict[str, Changes] = {
    "preset": {},
    "one-way": {"both_ways": 0},
    "adam": {"optimizer": "adam"},
    "post-norm": {"norm": "post"},
    "no-smoothing": {"label_smoothing": 0.0},
    "dropout-0.2": {"dropout": 0.2},
    "dropout-0.4": {"dropout": 0.4},
    "vocabulary-4000": {"vocab_size": 4000},
    "6-blocks": {"num_layers": 6},
    "wider": {"d_model": 192, "d_ff": 384},
    "raw": {"text": "raw"},
    "fr": {"target": "fr"},
    "raw-fr": {"text": "raw", "target": "fr"},
}


def as_options(changes: Changes) -> list[str]:
    """The command-line options that make these changes."""
    words = []
    for name, value in changes.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            for item in value if isinstance(value, list) else [value]:
                words += [f"--{option}", f"{item:g}" if isinstance(item, float) else str(item)]
    return words


def trained(model: type[Settings], preset: Path, changes: Changes, name: str, runs: Path, threads: int) -> Path:
    """The finished run of that name with the preset's settings and ``changes``; trained, or resumed, if need be.

    Args:
        model: The experiment's settings.
        preset: A file of settings.
        changes: The settings that differ from the preset's.
        name: What ends the run folder's name.
        runs: The runs folder.
        threads: How many threads it is trained with.
    """
    settings = resolve(model, changes, preset)
    run = matching_run(settings, name, runs)
    if run is None or status_of(run) != "finished":
        command = [settings.experiment, "--config", str(preset), *as_options(changes)]
        words = ["resume", str(run)] if run else [*command, "--name", name, "--runs-dir", str(runs)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        arguments = [sys.executable, "-m", "mlpx", *words, "--quiet"]
        subprocess.run(arguments, env=environment, check=True, stdout=subprocess.DEVNULL)
        run = matching_run(settings, name, runs)
    if run is None:
        raise RuntimeError(f"the run {name} in {runs} does not have the settings that it was trained with")
    return run


def matching_run(settings: Settings, name: str, runs: Path) -> Path | None:
    """The newest run of that name with these settings, a finished one if there is one; ``None`` if there is none."""
    matching = []
    for run in sorted(runs.glob(f"*-{settings.experiment}-{name}")):
        # A kill may leave a folder without config.toml, and an older version's file may have other settings.
        try:
            same = resolve(type(settings), {}, run / "config.toml") == settings
        except MlpxError:
            continue
        if same:
            matching.append(run)
    return max(matching, key=lambda run: (status_of(run) == "finished", run.name), default=None)


def status_of(run: Path) -> str:
    """The status of a run; empty if it was killed before it wrote ``run.json``."""
    try:
        return str(json.loads((run / "run.json").read_text())["status"])
    except FileNotFoundError:
        return ""


def spread(figures: Sequence[float]) -> str:
    """The mean; of several values also the standard deviation."""
    mean = f"{statistics.mean(figures):.2f}"
    return f"{mean} ± {statistics.stdev(figures):.2f}" if len(figures) > 1 else mean


def main() -> None:
    """Train, and print a row as soon as its runs are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(VARIATIONS))
    parser.add_argument("--epochs", type=int, help="in place of the preset's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    options = parser.parse_args()
    if unknown := set(options.names) - set(VARIATIONS):
        parser.error(f"no such variation: {', '.join(sorted(unknown))}")
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    preset = resolve(TransformerSettings, {}, PRESET)
    epochs = options.epochs or preset.epochs
    both_ways = round(epochs * preset.both_ways / preset.epochs)

    def train(name: str, seed: int) -> dict[str, Any]:
        changes = {"epochs": epochs, "both_ways": both_ways, "seed": seed, **VARIATIONS[name]}
        label = f"{name}-{epochs}-seed{seed}"
        run = trained(TransformerSettings, PRESET, changes, label, options.runs_dir, threads)
        document: dict[str, Any] = json.loads((run / "run.json").read_text())
        return document

    names = options.names or list(VARIATIONS)
    print(f"{epochs} epochs, {options.seeds} seeds\n")
    print("| variation | changes | validation BLEU | test BLEU | minutes |")
    print("| --- | --- | ---: | ---: | ---: |")
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = {name: [pool.submit(train, name, seed) for seed in range(options.seeds)] for name in names}
        for name, runs in futures.items():
            metrics = [future.result()["metrics"] for future in runs]
            scores = " | ".join(spread([each[key] for each in metrics]) for key in ("val_bleu", "test_bleu"))
            minutes = statistics.mean(each["seconds"] for each in metrics) / 60
            print(f"| {name} | {' '.join(as_options(VARIATIONS[name]))} | {scores} | {minutes:.0f} |", flush=True)


if __name__ == "__main__":
    main()
