"""Make runs with an old version of mlpx, and use them with a new one.

    python benchmarks/old_runs.py OLD NEW [--only PATTERN] [--threads 1]

OLD and NEW are each the folder of a checkout, or a commit or branch of the repository that this script lies in; how
they are run is described in ``same_numbers.py``. The checks are:

* ``evaluate``, on a finished run of OLD: NEW exits 0, computes each metric that OLD computes, and each has exactly the
  recorded value;
* ``predict`` and ``translate``, on a finished run of OLD: NEW prints the same as OLD, as text and as JSON Lines;
* ``--config``: a run of NEW with the ``config.toml`` of a finished run of OLD has the same numbers, bit for bit;
* ``resume``, on a run of OLD that SIGKILL stopped: NEW ends with the numbers of a run of OLD that was never stopped,
  bit for bit, or refuses to resume with one line on standard error and an exit code of 2 or 5. That line is printed.

Prints a line for each check. Exits 1 if a check fails.
"""

import argparse
import itertools
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from same_numbers import FAILURES, RunFailed, Version, add_arguments, command, ending, first_difference, two_versions

# Runs by their names in same_numbers.py.
FINISHED = (
    "poly",
    "poly, 5 replicas, odd batches",
    "mlp, all options, 3 replicas",
    "transformer",
    "transformer, text",
)
# The epoch after which SIGKILL stops a run.
KILLED = {
    "poly, 5 replicas, odd batches": 100,
    "mlp, weight decay, a row every 3 epochs": 2,
    "mlp, all options, 3 replicas": 1,
    "transformer": 1,
    "transformer, muon, both ways, average of 2": 2,
    "transformer, text": 3,
}
SENTENCES = {
    "transformer": ("3 1 4 1 5", "99 0 7", "12 12 12 40 8 61 5 2 77 3"),
    "transformer, text": ("ba do gi", "no no ki ma", "unknown words, and a full stop."),
}
TRANSLATE_OPTIONS: tuple[list[str], ...] = ([], ["--json"], ["--beam", "3", "--length-penalty", "0.5"])
REFUSALS = (2, 5)  # exit codes: settings, or a file, cannot be used


class Checker:
    """Carries out the checks, prints a line for each, and counts them.

    Args:
        old: The version that makes the runs.
        new: The version that uses them.
        folder: A folder for what the checks need, which holds the sentences in ``corpus``.
        only: What the title of a check must match, or else it is left out.
    """

    def __init__(self, old: Version, new: Version, folder: Path, only: re.Pattern[str]) -> None:
        self.total = self.failed = 0
        self._old, self._new, self._folder, self._only = old, new, folder, only
        self._finished: dict[str, Path] = {}

    def check_all(self) -> None:
        """Carry out all checks."""
        for run in FINISHED:
            self._check(f"{run}: evaluate", self._evaluate, run)
            if run.startswith("mlp"):
                pictures = draw_digits(self._folder)
                for options in ([], ["--json"]):
                    self._check(
                        " ".join([f"{run}: predict", *options]), self._answer, run, "predict", *pictures, *options
                    )
            for options in TRANSLATE_OPTIONS if run in SENTENCES else ():
                words = [*SENTENCES[run], *options]
                self._check(" ".join([f"{run}: translate", *options]), self._answer, run, "translate", *words)
            self._check(f"{run}: --config", self._repeat, run)
        for run, epoch in KILLED.items():
            self._check(f"{run}: resume after a SIGKILL after epoch {epoch}", self._resume, run, epoch)

    def _check(self, title: str, function: Callable[..., str], *arguments: Any) -> None:
        """Print what ``function`` says of a check that holds, or the failure that it raises."""
        if not self._only.search(title):
            return
        self.total += 1
        try:
            print(f"holds   {title}: {function(*arguments)}", flush=True)
        except FAILURES as error:
            self.failed += 1
            print(f"FAILS   {title}: {error}", flush=True)

    def _run(self, run: str) -> Path:
        """A run that OLD finished undisturbed; it is made when it is first needed."""
        if run not in self._finished:
            self._finished[run] = self._old.train(self._command(run))
        return self._finished[run]

    def _command(self, run: str) -> list[str]:
        return command(run, self._folder / "corpus")

    def _evaluate(self, run: str) -> str:
        """NEW computes the recorded metrics again, all that OLD does."""
        path = self._run(run)
        recorded = json.loads((path / "run.json").read_text())["metrics"]
        by_old, by_new = (evaluation(version, path) for version in (self._old, self._new))
        for name in by_old.keys() | by_new.keys():
            if name not in by_new or by_new[name] != recorded[name]:
                raise RunFailed(f"{name} is {by_new.get(name, 'missing')}, and was {recorded[name]}")
        return f"{len(by_new)} metrics as recorded"

    def _answer(self, run: str, name: str, *words: str) -> str:
        """NEW's command ``name`` prints the same as OLD's."""
        path = self._run(run)
        by_old, by_new = (version.call(name, str(path), *words).splitlines() for version in (self._old, self._new))
        for number, (one, other) in enumerate(itertools.zip_longest(by_old, by_new), 1):
            if one != other:
                raise RunFailed(f"line {number} was {one!r}, and is {other!r}")
        return f"the same {len(by_new)} lines"

    def _repeat(self, run: str) -> str:
        """NEW trains by the settings of a run of OLD, and has its numbers."""
        path = self._run(run)
        experiment = self._command(run)[0]
        repeated = self._new.train([experiment, "--config", str(path / "config.toml")])
        require_equal(path, repeated)
        return "the same numbers"

    def _resume(self, run: str, epoch: int) -> str:
        """NEW resumes a run of OLD, and has the numbers of an undisturbed one, or it refuses in the proper way."""
        undisturbed = self._run(run)
        path = self._old.stopped(self._command(run), signal.SIGKILL, epoch)
        done = self._new.run("resume", str(path), "--quiet")
        if done.returncode == 0:
            require_equal(undisturbed, path)
            return "the same numbers"
        if done.returncode in REFUSALS and len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: "):
            return f"refused: {done.stderr.strip()}"
        raise RunFailed(f"NEW: mlpx resume {ending(done.returncode, done.stderr)}")


def evaluation(version: Version, run: Path) -> dict[str, float]:
    """The metrics that ``mlpx evaluate`` computes."""
    lines = [json.loads(line) for line in version.call("evaluate", str(run), "--json").splitlines()]
    (metrics,) = [line["metrics"] for line in lines if line["event"] == "evaluation"]
    return dict(metrics)


def require_equal(old: Path, new: Path) -> None:
    """Raise RunFailed unless two runs have the same numbers."""
    if difference := first_difference(old, new):
        raise RunFailed(difference)


def draw_digits(folder: Path) -> list[str]:
    """The paths of pictures of digits: light on dark, dark on light, and larger than the images of the data set."""
    paths = []
    for number, (digit, side, background) in enumerate((("3", 28, 0), ("7", 28, 255), ("8", 60, 255))):
        image = Image.new("L", (side, side), background)
        middle = (side / 2, side / 2)
        ImageDraw.Draw(image).text(middle, digit, fill=255 - background, font_size=0.8 * side, anchor="mm")
        paths.append(str(folder / f"digit{number}.png"))
        image.save(paths[-1])
    return paths


def main() -> None:
    """Carry out the checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args()
    with two_versions(options) as (old, new, corpus):
        checker = Checker(old, new, corpus.parent, options.only)
        checker.check_all()
    if checker.total == 0:
        parser.error("no check matches --only")
    print(f"{checker.total - checker.failed} of {checker.total} hold")
    sys.exit(checker.failed > 0)


if __name__ == "__main__":
    main()
