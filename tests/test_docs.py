"""What the documentation says is run: presets with the results they promise, and the README's commands."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import PROGRAM, ROOT, Program, environment

from mlpx.settings import MODELS

PRESETS = sorted((ROOT / "configs").glob("*.toml"))
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_hold_only_what_differs_and_end_as_they_say(program: Program, preset: Path, tmp_path: Path) -> None:
    import json

    text = preset.read_text()
    command, expected = text.splitlines()[:2]
    assert command == f"# mlpx {preset.stem.split('-')[0]} --config configs/{preset.name}"
    settings = tomllib.loads(text)
    model = MODELS[settings.pop("experiment")]
    for name, value in settings.items():
        assert value != model.model_fields[name].default, name

    result = program(*command.removeprefix("# mlpx ").split(), "--runs-dir", str(tmp_path), cwd=ROOT)
    assert result.code == 0
    verdict = json.loads((tmp_path / "latest" / "run.json").read_text())["verdict"]
    assert expected.startswith(f"# Expected: {verdict}.")


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "mlpx" in line and not line.startswith("make")]
    assert len(lines) >= 10
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    binaries = str(Path(PROGRAM[0]).parent)
    env = environment(PATH=f"{binaries}:{environment()['PATH']}")
    for line in lines:
        done = subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), line


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
