"""What the documentation says is run: presets with the results they promise, and the README's commands."""

import contextlib
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import PROGRAM, ROOT, environment, real_data

from mlpx.settings import MODELS
from mlpx.settings.files import resolve
from mlpx.settings.transformer import FILES

PRESETS = sorted((ROOT / "configs").glob("*.toml"))
TRAINED_LONG = ("mlp-best", "transformer-reverse", "transformer-multi30k")
SLOW = {path.stem: pytest.param(path, marks=pytest.mark.slow) for path in PRESETS if path.stem in TRAINED_LONG}
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_hold_only_what_differs_and_are_settings(preset: Path) -> None:
    text = preset.read_text()
    assert text.startswith(f"# mlpx {preset.stem.split('-')[0]} --config configs/{preset.name}")
    assert "\n# Expected: " in text
    settings = tomllib.loads(text)
    model = MODELS[settings.pop("experiment")]
    for name, value in settings.items():
        assert value != model.model_fields[name].default, name
    files = dict.fromkeys(FILES, "x") if settings.get("task") == "text" else {}
    resolve(model, files, preset)


@pytest.mark.real_data
@pytest.mark.parametrize("preset", [SLOW.get(path.stem, path) for path in PRESETS if path.stem != "transformer-base"])
def test_presets_end_as_they_say(preset: Path, tmp_path: Path) -> None:
    command, expected = preset.read_text().splitlines()[:2]
    document = json.loads((run_in_shell(command.removeprefix("# "), tmp_path) / "runs/latest/run.json").read_text())
    assert document["exit_code"] == 0
    assert expected.startswith(f"# Expected: {document.get('verdict', 'exit code 0')}.")


LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
COMMANDS = [line for line in LINES if "mlpx" in line and not line.startswith("make")]


@pytest.mark.real_data
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    assert len(COMMANDS) >= 20
    skipped = []
    for line in COMMANDS:
        try:
            run_in_shell(line, tmp_path)
        except pytest.skip.Exception:
            skipped.append(line)
    if skipped:
        pytest.skip(f"without real data {len(COMMANDS) - len(skipped)} of {len(COMMANDS)} commands ran")


def run_in_shell(line: str, folder: Path) -> Path:
    """Run a command line as a user of a checkout would, in ``folder``, which it returns; skips without its data."""
    for name in ("configs", "docs"):
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(ROOT / name)
    path = f"{Path(PROGRAM[0]).parent}:{environment()['PATH']}"
    if re.search(r"mlpx (mlp|data)", line) and "glyphs" not in line:
        real_data("FashionMNIST")
    if "multi30k" in line:
        real_data("multi30k")
    env = environment(PATH=path, MLPX_DATA_DIR=os.environ.get("MLPX_DATA_DIR"))
    done = subprocess.run(["bash", "-ec", line], cwd=folder, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), line
    return folder


def test_the_readme_names_what_is_there() -> None:
    tree = README.partition("## The files")[2]
    for name in re.findall(r"^  ([\w.]+)/? ", tree, re.MULTILINE):
        assert (ROOT / "mlpx" / name).exists(), name
    rooms = {path.name for path in (ROOT / "mlpx").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(re.findall(r"^  ([\w.]+)/ ", tree, re.MULTILINE))
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_exit_codes_are_those_of_the_program() -> None:
    from mlpx import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MlpxError)]
    assert len(kinds) >= 9
    for kind in kinds:
        assert re.search(rf"^\| {kind.exit_code} \| ", README, re.MULTILINE), kind
