"""Train configs/mlp-best.toml and variations of it, judge them on images held back, and print rows of a table.

    MLPX_DATA_DIR=… python benchmarks/mlp_best.py [--epochs 20] [--replicas 1] [--jobs 2] [NAME …]

Without names all variations are trained, one change each, on the first 50,000 training images; what they are judged on
are the other 10,000. The test set has no say and is not shown. Runs share the processor's cores, ``--jobs`` at a time,
so that minutes are those of a run with the others beside it. A run that has finished in ``--runs-dir`` is not trained
again, one that was stopped goes on where it was.
"""

import argparse
import json
import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from multi30k import spread, trained

from mlpx.data import images
from mlpx.experiments import classifier
from mlpx.models.mlp import score
from mlpx.runs import weights
from mlpx.settings.files import resolve
from mlpx.settings.mlp import MlpSettings

PRESET = Path(__file__).resolve().parent.parent / "configs" / "mlp-best.toml"
NUM_TRAIN = 50_000
VARIATIONS = {
    "preset": "",
    "no jitter, no flip": "--jitter 0 --no-flip",
    "jitter alone": "--no-flip",
    "flip alone": "--jitter 0",
    "jitter 4": "--jitter 4",
    "rate constant": "--schedule constant",
    "no batch norm": "--no-batch-norm",
    "labels as they are": "--label-smoothing 0",
    "no dropout": "--dropout 0",
    "dropout 0.25": "--dropout 0.25",
    "one layer": "--hidden 1024",
    "512 units": "--hidden 512 --hidden 512 --hidden 512",
    "four layers": "--hidden 1024 --hidden 1024 --hidden 1024 --hidden 1024",
}


def accuracies_held_back(run: Path) -> list[float]:
    """The share of the images held back that each replica of a run gets right, in percent."""
    settings = resolve(MlpSettings, {}, run / "config.toml")
    train, _ = images.load(settings.dataset, settings.data_dir)
    model = classifier.trained_model(settings, weights.read(run), torch.device("cpu"))
    pixels, labels = train.images[NUM_TRAIN:].flatten(1), train.labels[NUM_TRAIN:].long()
    _, num_right = score(model.log_probabilities(classifier.inputs(pixels)), labels)
    return [100 * count / len(labels) for count in num_right.tolist()]


def main() -> None:
    """Train, and print a row as soon as its run is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(VARIATIONS))
    parser.add_argument("--epochs", type=int, help="in place of the preset's")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    options = parser.parse_args()
    if unknown := set(options.names) - set(VARIATIONS):
        parser.error(f"no such variation: {', '.join(sorted(unknown))}")
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    epochs = options.epochs or tomllib.loads(PRESET.read_text())["epochs"]

    def train(name: str) -> Path:
        common = ["--num-train", str(NUM_TRAIN), "--epochs", str(epochs), "--replicas", str(options.replicas)]
        label = f"{name.replace(', ', '-').replace(' ', '-')}-{epochs}-by-{options.replicas}"
        command = ["mlp", "--config", str(PRESET), *common, *VARIATIONS[name].split()]
        return trained(command, label, options.runs_dir, threads)

    print(f"{epochs} epochs, {options.replicas} replicas\n")
    print("| variation | changes | accuracy on the images held back | minutes |")
    print("| --- | --- | ---: | ---: |")
    names = options.names or list(VARIATIONS)
    with ThreadPoolExecutor(options.jobs) as pool:
        for name, run in zip(names, pool.map(train, names), strict=True):
            minutes = json.loads((run / "run.json").read_text())["metrics"]["seconds"] / 60
            accuracy = spread(accuracies_held_back(run))
            print(f"| {name} | {VARIATIONS[name]} | {accuracy} % | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
