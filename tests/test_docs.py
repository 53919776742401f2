"""The documentation is true: each command runs, each link leads somewhere, each table agrees with the program."""

import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from forks import run_forked
from helpers import PROGRAM, ROOT, environment, real_data

from mlpx import registry
from mlpx.experiments.transformer.settings import FILES
from mlpx.settings.base import ReplicatedSettings
from mlpx.settings.files import resolve

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CHANGELOG.md"]

# What a test runs in place of what the page says, where that would take long: the first pattern that matches counts.
# Each replacement keeps the command and the options that the page names, and makes the training smaller.
SHORTER = [
    (r"^(make [\w-]+)", r"\1 --dry-run"),
    (r"-m pytest", "-m pytest --collect-only --quiet"),
    (r"mlpx sweep (mlp|transformer) --config .*", r"\g<0> --dry-run"),
    (r"mlpx sweep poly .*(--replicas 100|--on (slurm|ray))", r"\g<0> --dry-run"),
    (r"(mlpx resume latest) --on slurm", r"\1"),
    (r"mlpx sweep poly .*--into runs/part-\w", r"\g<0> --dry-run"),
    (r"mlpx sweep poly (--degree 1,3,19|--config)", r"mlpx sweep poly --epochs 20 \1"),
    (r"mlpx sweep mlp (--num-val|--dataset).*", r"\g<0> --dry-run"),
    (
        r"torchrun .* -m (mlpx transformer) --config wmt.toml",
        r"\1 --num-layers 1 --d-model 16 --num-train 100 --epochs 1",
    ),
    (r"mlpx sweep", r"\g<0>"),
    (r"--replicas 100", "--replicas 5"),
    (r"--config configs/mlp-best.toml.*", r"\g<0> --num-train 2000 --epochs 1 --hidden 32"),
    (r"--dataset glyphs", r"\g<0> --epochs 1"),
    (r"mlpx mlp --num-train 1000 --epochs 100", "mlpx mlp --num-train 1000 --epochs 20"),
    (r"mlpx mlp --check 'train_loss", r"mlpx mlp --epochs 5 --check 'train_loss"),
    (r"mlpx mlp (.*)--epochs \d+", r"mlpx mlp \1--epochs 1"),
    (r"mlpx mlp", "mlpx mlp --epochs 1"),
    (r"--config configs/transformer-multi30k.toml", r"\g<0> --epochs 1 --num-layers 1 --d-model 32 --beam 1"),
    (r"mlpx transformer --task text", r"\g<0> --num-layers 1 --epochs 1 --vocab-size 40"),
    (r"mlpx transformer (.*)--epochs 50", r"mlpx transformer \1--epochs 2 --num-layers 1 --d-model 16 --num-train 100"),
    (r"mlpx transformer", "mlpx transformer --num-layers 1 --d-model 16 --num-train 100"),
]
# What is slow all the same: the vocabulary of 29,000 pairs, and 1,000 translations by a model that never ends one.
SLOW_COMMANDS = r"configs/transformer-multi30k.toml"

# The finished run that ``latest`` is, by page or else by what the command does; each is made once, by these words.
# What stands before a semicolon is run before, in the same folder.
RUNS = {
    "poly": "poly --epochs 10",
    "mlp": "mlp --dataset glyphs --hidden none --num-val 1000 --epochs 1",
    "transformer": "transformer --num-layers 1 --d-model 16 --num-train 100 --epochs 1",
    "ci": "mlp --dataset glyphs --hidden none --epochs 1 --replicas 2",
    "compare": "poly --num-train 20 --epochs 10 --replicas 6 --name few;"
    " poly --num-train 100 --epochs 10 --replicas 6 --name many",
    "sweeps": "sweep poly --degree 1,3 --seed 0..1 --epochs 10",
    "reports": "sweep poly --degree 1,3 --seed 0..1 --epochs 10",
    "exports": "sweep poly --degree 1,3 --seed 0..1 --epochs 10",
    "clusters": "sweep poly --epochs 10 --into runs/part-a; sweep poly --epochs 10 --seed 1 --into runs/part-b;"
    " sweep poly --degree 1,3 --seed 0..1 --epochs 10",
    "text": "transformer --task text --num-layers 1 --d-model 16 --epochs 1 --vocab-size 40 --train-src train.en"
    " --train-tgt train.de --val-src val.en --val-tgt val.de --test-src test.en --test-tgt test.de",
}
SENTENCES = {
    "en": "a man sees a dog\na dog sees a man\ntwo dogs run\na man runs\n",
    "de": "ein mann sieht einen hund\nein hund sieht einen mann\nzwei hunde laufen\nein mann läuft\n",
}


class Command(NamedTuple):
    """A command line of a page, and what is run to check it."""

    page: Path
    line: str

    @property
    def shorter(self) -> str:
        """The line, or what stands in for it."""
        for pattern, replacement in SHORTER:
            if re.search(pattern, self.line):
                return re.sub(pattern, replacement, self.line)
        return self.line

    @property
    def data(self) -> str:
        """The real data set that it needs, if any."""
        if re.search(r"mlpx (sweep )?mlp|fetch fashion-mnist", self.line) and "glyphs" not in self.line:
            return "FashionMNIST"
        return "multi30k" if "multi30k" in self.line else ""

    @property
    def latest(self) -> str | None:
        """Which finished run ``latest`` is, where the line names it."""
        if not re.search(r"latest|runs/\*|mlpx runs", self.line):
            return None
        if ".en" in self.line:
            return "text"
        commands = {"predict": "mlp", "translate": "transformer"}
        by_command = next((run for word, run in commands.items() if f"mlpx {word}" in self.line), None)
        if by_command or self.page.stem in RUNS:
            return by_command or self.page.stem
        return "compare" if "latest" not in self.line else "poly"


def commands() -> Iterator[Command]:
    """The lines of every block of shell commands, those that end in a backslash joined with the next."""
    for page in PAGES:
        for block in re.findall(r"^```sh\n(?!#!)(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith("#"):
                    yield Command(page, re.sub(r" +", " ", line.strip()))


def as_parameter(command: Command) -> object:
    """The command as a test case, with its marks and a readable name."""
    marks = [pytest.mark.real_data] if command.data else []
    if re.search(SLOW_COMMANDS, command.line):
        marks.append(pytest.mark.slow)
    return pytest.param(command, marks=marks, id=f"{command.page.stem}: {command.line.partition(' #')[0]}")


# A command that stands on several pages is run once, unless it works on another run there.
DIFFERENT = {(command.line.partition(" #")[0], command.latest): command for command in reversed([*commands()])}
COMMANDS = [as_parameter(command) for command in reversed(DIFFERENT.values())]

Prepare = Callable[[str], Path]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Gives a folder in which the finished run of that name is ``runs/latest``; makes it when first asked."""
    made: dict[str, Path] = {}

    def prepare(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(f"docs-{name}")
            write_sentences(folder)
            for line in RUNS[name].split(";"):
                assert run_forked(shlex.split(line), folder, environment(), b"")[0] == 0
            made[name] = folder
        return made[name]

    return prepare


def write_sentences(folder: Path) -> None:
    """The files of sentences that the pages name."""
    for part, language in itertools.product(("train", "val", "test", "other"), SENTENCES):
        (folder / f"{part}.{language}").write_text(SENTENCES[language])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_documentation_runs(command: Command, prepared: Prepare, tmp_path: Path) -> None:
    if command.data:
        real_data(command.data)
    if extra := re.match(r"mlpx export (tensorboard|mlflow)", command.line):
        needed = {"mlflow": ("mlflow", "sqlalchemy", "alembic", "sqlparse")}.get(extra[1], (extra[1],))
        if not all(map(importlib.util.find_spec, needed)):
            pytest.skip(f"not installed: pip install 'mlpx[{extra[1]}]'")
    line = command.shorter
    if re.match(r"make|\.venv/", line):
        code, error = run_in_shell(line, ROOT)
    else:
        prepare_folder(tmp_path, command, prepared)
        plain = line.startswith("mlpx ") and not re.search(r"[<>|*$;&]", re.sub(r"'.*?'", "", line))
        code, error = (run_in_fork if plain else run_in_shell)(line, tmp_path)
    # A note is no warning.
    assert (code, re.sub(r"note: .*\n", "", error)) == (0, ""), line


def prepare_folder(folder: Path, command: Command, prepared: Prepare) -> None:
    """Put into ``folder`` what a user of a checkout has there, and the run that the command calls ``latest``."""
    for name in ("configs", "docs"):
        (folder / name).symlink_to(ROOT / name)
    write_sentences(folder)
    if command.latest:
        shutil.copytree(prepared(command.latest) / "runs", folder / "runs", symlinks=True)
    if "mlpx compare baseline" in command.line:
        shutil.copytree(folder / "runs" / "latest", folder / "baseline")


def run_in_fork(line: str, folder: Path) -> tuple[int, str]:
    """The exit code and the standard error of a plain command line of mlpx."""
    env = environment(MLPX_DATA_DIR=os.environ.get("MLPX_DATA_DIR"))
    code, _, error = run_forked(shlex.split(line, comments=True)[1:], folder, env, b"")
    return code, error.decode()


def run_in_shell(line: str, folder: Path) -> tuple[int, str]:
    """The exit code and the standard error of a line of bash, with this Python's programs first in the path."""
    bin_folder = Path(PROGRAM[0]).parent
    env = environment(PATH=f"{bin_folder}:{environment()['PATH']}", MLPX_DATA_DIR=os.environ.get("MLPX_DATA_DIR"))
    line = line.replace(".venv/bin/", "")
    done = subprocess.run(["bash", "-ec", line], cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_the_documentation_has_commands() -> None:
    assert len(COMMANDS) >= 40


def test_the_workflow_of_the_ci_page_gates_what_is_worse(prepared: Prepare, tmp_path: Path) -> None:
    page = ROOT / "docs" / "ci.md"
    (workflow,) = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    train, gate = (
        re.sub(r"\s*\\\n\s*", " ", line).strip()
        for line in re.findall(r"- run: (?:\|\n)?\s*(mlpx .*?)\n(?! {12})", workflow, re.DOTALL)
    )
    prepare_folder(tmp_path, Command(page, "mlpx compare baseline latest"), prepared)
    for extra, code in (("", 0), (" --lr 1e-6", 3)):
        assert run_in_shell(train + extra, tmp_path) == (0, "")
        done, error = run_in_shell(f"export GITHUB_STEP_SUMMARY={tmp_path}/summary{code}.md; {gate}", tmp_path)
        assert (done, "does not hold" in error) == (code, code == 3)
        summary = (tmp_path / f"summary{code}.md").read_text()
        assert summary.startswith("|  | ")
        assert ("none; " in summary) == (code == 0)


PRESETS = sorted((ROOT / "configs").glob("*.toml"))
TRAINED_LONG = ("mlp-best", "transformer-reverse", "transformer-multi30k")
SLOW_PRESETS = {path.stem: pytest.param(path, marks=pytest.mark.slow) for path in PRESETS if path.stem in TRAINED_LONG}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_hold_only_what_differs_and_are_settings(preset: Path) -> None:
    text = preset.read_text()
    assert text.startswith(f"# mlpx {preset.stem.split('-')[0]} --config configs/{preset.name}")
    assert "\n# Expected: " in text
    settings = tomllib.loads(text)
    model = registry.settings_class(settings.pop("experiment"))
    for name, value in settings.items():
        assert value != model.model_fields[name].default, name
    files = dict.fromkeys(FILES, "x") if settings.get("task") == "text" else {}
    resolve(model, files, preset)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "preset", [SLOW_PRESETS.get(path.stem, path) for path in PRESETS if path.stem != "transformer-base"]
)
def test_presets_end_as_they_say(preset: Path, tmp_path: Path) -> None:
    line, expected = preset.read_text().splitlines()[:2]
    command = Command(preset, line.removeprefix("# "))
    if command.data:
        real_data(command.data)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    assert run_in_shell(command.line, tmp_path) == (0, "")
    document = json.loads((tmp_path / "runs/latest/run.json").read_text())
    assert document["exit_code"] == 0
    assert expected.startswith(f"# Expected: {document.get('verdict', 'exit code 0')}.")


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        if "://" not in name:
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), link
            headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE) if heading else []
            assert not heading or heading in [title.lower().replace(" ", "-") for title in headings], link


def test_the_readme_is_short_and_links_every_page() -> None:
    assert len(README.splitlines()) <= 150
    for page in ALL_PAGES[1:]:
        assert f"]({page.relative_to(ROOT)})" in README, page


def test_the_readme_names_what_is_there() -> None:
    tree = README.partition("## The files")[2].partition("```\n")[2].partition("```")[0]
    within = set(re.findall(r"^  ([\w.]+)/? ", tree, re.MULTILINE))
    there = {path.name for path in (ROOT / "mlpx").iterdir()} - {"__init__.py", "__pycache__"}
    assert within == there
    for name in re.findall(r"^([\w.]+)/", tree, re.MULTILINE):
        assert (ROOT / name).is_dir(), name


def test_exit_codes_are_those_of_the_program() -> None:
    from mlpx import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MlpxError)]
    assert len(kinds) >= 9
    for kind in kinds:
        assert re.search(rf"^\| {kind.exit_code} \| ", README, re.MULTILINE), kind


def test_the_list_of_commands_shows_each_summary_whole() -> None:
    done = subprocess.run([*PROGRAM, "--help"], env=environment(COLUMNS="80"), capture_output=True, text=True)
    listed = done.stdout.partition("Commands:\n")[2]
    for experiment in registry.EXPERIMENTS:
        summary = registry.settings_class(experiment).summary
        assert len(summary) <= 60
        assert summary in listed
    assert "..." not in listed


@pytest.mark.parametrize("experiment", registry.EXPERIMENTS)
def test_the_page_of_an_experiment_has_a_table_of_its_settings(experiment: str) -> None:
    """Where this fails, put the rows that it shows into the page."""
    assert settings_table(experiment) in (ROOT / "docs" / f"{experiment}.md").read_text()


def settings_table(experiment: str) -> str:
    """A row for each setting, those of the experiment alone first, as in its help."""
    fields = registry.settings_class(experiment).model_fields
    rows = []
    for name in sorted(fields, key=lambda name: name in ReplicatedSettings.model_fields):
        default = fields[name].default
        shown = " ".join(map(str, default)) if isinstance(default, list) else str(default)
        shown = shown.lower() if isinstance(default, bool) else shown
        cell = f" `{shown}` " if shown else " "
        rows.append(f"| `--{name.replace('_', '-')}` |{cell}| {fields[name].description} |\n")
    return "".join(rows)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_pages_are_spelled_in_american_english(page: Path) -> None:
    british = (
        r"\w*(?:(?:general|normal|regular|token|orthogonal)is(?:e|ed|es|ing|ation)|colour|behaviour|grey|neighbour)\w*"
    )
    assert re.findall(rf"\b{british}\b", page.read_text(), re.IGNORECASE) == []
