"""The peers' side of ``sweeps.py``, which starts this file once for each of them.

    python benchmarks/sweeps_peers.py yardstick RUNS FOLDER
    python benchmarks/sweeps_peers.py hydra --multirun '+seed=range(0,100)' hydra.sweep.dir=FOLDER [OVERRIDE …]
    python benchmarks/sweeps_peers.py ray RUNS JOBS REUSE FOLDER

The peers' packages need not be there, so they are imported by name, and have no types.
"""

import importlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

DEGREE, EPOCHS = 19, 1500


def train(seed: int, folder: Path) -> float:
    """Train a polynomial as ``mlpx poly`` does, write the files of a run to ``folder``, and return the work's seconds.

    The work is training, with a row of ``metrics.csv`` for each record, and drawing the two pictures. The imports come
    before it, inside this function, so that a process that only hands out the runs does without them.
    """
    import torch

    # The pictures' modules are imported here, because mlpx imports them only when it draws.
    import mlpx.experiments.poly.plots
    import mlpx.plots.loss  # noqa: F401
    from mlpx.experiments.poly.experiment import Polynomials
    from mlpx.experiments.poly.settings import PolySettings
    from mlpx.runs import weights
    from mlpx.settings.files import to_toml
    from mlpx.settings.metrics import columns
    from mlpx.training.loop import EpochRecord, fit

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    settings = PolySettings(degree=DEGREE, epochs=EPOCHS, seed=seed)
    (folder / "config.toml").write_text(to_toml(settings))
    experiment = Polynomials(settings, torch.device("cpu"))
    rows: dict[str, list[float]] = {column.name: [] for column in columns(settings.metrics, 1)}

    began = time.perf_counter()
    with open(folder / "metrics.csv", "w") as file:
        print(*rows, sep=",", file=file)
        for record in fit(experiment):
            if isinstance(record, EpochRecord):
                print(*record.row.values(), sep=",", file=file, flush=True)
                for name, value in record.row.items():
                    rows[name].append(value)
    trained = time.perf_counter()

    last = {name: values[-1] for name, values in rows.items()}
    outcome = experiment.outcome(last)
    files = {weights.NAME: weights.to_bytes(outcome.weights, settings), **outcome.files}
    drawing = time.perf_counter()
    files["loss.png"] = experiment.draw_losses(rows)
    files |= {name: draw() for name, draw in outcome.pictures.items()}
    work = time.perf_counter() - drawing + trained - began

    metrics = {**last, **{name: values[0] for name, values in outcome.metrics.items()}}
    document = {"status": "finished", "seed": seed, "metrics": metrics, "summary": outcome.summary, **outcome.facts}
    files["run.json"] = json.dumps({**document, "work_seconds": work}, indent=2).encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return work


def yardstick(runs: int, folder: Path) -> None:
    """Train once, say "ready", and at a line on standard input train ``runs`` times more; print their median work.

    The first training is left out: it imports torch, and fills the caches of torch and matplotlib.
    """
    train(0, folder)
    print("ready", flush=True)
    sys.stdin.readline()
    print(statistics.median(train(seed, folder) for seed in range(runs)))


def run_hydra() -> None:
    """Hydra's own command line: each job trains the seed of its configuration into the folder that Hydra gives it."""
    hydra = importlib.import_module("hydra")

    def job(config: Any) -> None:
        hydra_config = importlib.import_module("hydra.core.hydra_config")
        train(config.seed, Path(hydra_config.HydraConfig.get().runtime.output_dir))

    hydra.main(version_base="1.3", config_path=None)(job)()


def run_ray(runs: int, jobs: int, reuse_actors: bool, folder: Path) -> None:
    """Ray Tune over the seeds, ``jobs`` trials of one CPU at a time; its own files lie in ``folder`` too."""
    ray, tune = importlib.import_module("ray"), importlib.import_module("ray.tune")
    ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False, _temp_dir=str(folder))

    def trial(config: dict[str, int]) -> None:
        tune.report({"work_seconds": train(config["seed"], folder / "runs" / str(config["seed"]))})

    results = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={"seed": tune.grid_search(list(range(runs)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=jobs, reuse_actors=reuse_actors),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()
    ray.shutdown()
    if results.errors:
        sys.exit(f"{len(results.errors)} trials failed: {results.errors[0]}")


if __name__ == "__main__":
    # The rest is a command line of Hydra's, if it is Hydra that is asked for.
    what = sys.argv.pop(1)
    if what == "yardstick":
        yardstick(int(sys.argv[1]), Path(sys.argv[2]))
    elif what == "hydra":
        run_hydra()
    elif what == "ray":
        run_ray(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "reuse", Path(sys.argv[4]))
    else:
        sys.exit(f"{what}: is not known")
