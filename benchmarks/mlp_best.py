"""Train configs/mlp-best.toml and variations of it, and print a table with a row for each.

    MLPX_DATA_DIR=… python benchmarks/mlp_best.py [--epochs 20] [--replicas 1] [--jobs 2] [NAME …]

Each variation changes one thing. Without names all of them are trained. They are trained on the first 50,000 training
images, and compared by their accuracy on the other 10,000. The test set is not used to choose and is not shown.

``--jobs`` runs are trained at a time and share the processor's cores, so the minutes are those of a run that has others
beside it. A run in ``--runs-dir`` that has the same name and the same settings is used again: it is not trained anew if
it has finished, and it is resumed if it was stopped. A run with other settings, such as those of an older preset, is
left alone, and a new one is trained.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from multi30k import Changes, as_options, spread, trained

from mlpx.experiments.mlp import images
from mlpx.experiments.mlp.classify import inputs, trained_model
from mlpx.experiments.mlp.model import score
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.runs import weights
from mlpx.settings.files import resolve

PRESET = Path(__file__).resolve().parent.parent / "configs" / "mlp-best.toml"
NUM_TRAIN = 50_000
VARIATIONS: dict[str, Changes] = {
    "preset": {},
    "no jitter, no flip": {"jitter": 0, "flip": False},
    "jitter alone": {"flip": False},
    "flip alone": {"jitter": 0},
    "jitter 4": {"jitter": 4},
    "rate constant": {"schedule": "constant"},
    "no batch norm": {"batch_norm": False},
    "labels as they are": {"label_smoothing": 0.0},
    "no dropout": {"dropout": 0.0},
    "dropout 0.25": {"dropout": 0.25},
    "one layer": {"hidden": [1024]},
    "512 units": {"hidden": [512, 512, 512]},
    "four layers": {"hidden": [1024, 1024, 1024, 1024]},
}


def accuracies_held_back(run: Path) -> list[float]:
    """The accuracy of each replica of a run on the training images that it was not trained on, in percent."""
    settings = resolve(MlpSettings, {}, run / "config.toml")
    train, _ = images.load(settings.dataset, settings.data_dir)
    model = trained_model(settings, weights.read(run), torch.device("cpu"))
    pixels, labels = train.images[NUM_TRAIN:].flatten(1), train.labels[NUM_TRAIN:].long()
    _, num_right = score(model.log_probabilities(inputs(pixels)), labels)
    return [100 * count / len(labels) for count in num_right.tolist()]


def main() -> None:
    """Train the variations, and print a row as soon as its run has finished."""
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
    epochs = options.epochs or resolve(MlpSettings, {}, PRESET).epochs

    def train(name: str) -> Path:
        common = {"num_train": NUM_TRAIN, "epochs": epochs, "replicas": options.replicas}
        label = f"{name.replace(', ', '-').replace(' ', '-')}-{epochs}-by-{options.replicas}"
        return trained(MlpSettings, PRESET, {**common, **VARIATIONS[name]}, label, options.runs_dir, threads)

    print(f"{epochs} epochs, {options.replicas} replicas\n")
    print("| variation | changes | accuracy on the images held back | minutes |")
    print("| --- | --- | ---: | ---: |")
    names = options.names or list(VARIATIONS)
    with ThreadPoolExecutor(options.jobs) as pool:
        for name, run in zip(names, pool.map(train, names), strict=True):
            minutes = json.loads((run / "run.json").read_text())["metrics"]["seconds"] / 60
            accuracy = spread(accuracies_held_back(run))
            print(f"| {name} | {' '.join(as_options(VARIATIONS[name]))} | {accuracy} % | {minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
