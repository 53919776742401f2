"""The rules of the house: who may import whom, and what may not be imported to show a help text."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROGRAM, ROOT, Program, environment

PACKAGE = ROOT / "mlpx"
GROUND = {"settings", "training", "models", "data", "plots"}
MAY_IMPORT = {
    "cli": {"cli", "experiments", "runs", *GROUND},
    "experiments": {"experiments", "runs", *GROUND},
    "runs": {"runs", *GROUND},
    **{room: {room} for room in GROUND},
}
ONLY_IN = {"typer": {"cli"}, "rich": {"cli"}, "matplotlib": {"plots"}}
EXCEPT = {("matplotlib", "data/glyphs.py")}  # it ships the typefaces
SLOW = ("torch", "matplotlib", "numpy", "sentencepiece", "sacrebleu")


def imported(path: Path) -> set[str]:
    """Every module that the file imports, by its dotted name, at whatever depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({path.parent.name for path in FILES if path.parent != PACKAGE})


def test_the_rooms_are_those_of_the_plan() -> None:
    assert set(ROOMS) == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down_only(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for name in imported(path):
            package, _, rest = name.partition(".")
            if package == "mlpx" and rest and (PACKAGE / rest.split(".")[0]).is_dir():
                assert rest.split(".")[0] in MAY_IMPORT[room], f"{path} imports {name}"
            excepted = (package, str(path.relative_to(PACKAGE))) in EXCEPT
            assert excepted or room in ONLY_IN.get(package, {room}), f"{path} imports {name}"


def test_settings_and_errors_are_free_of_slow_packages() -> None:
    for path in [*(PACKAGE / "settings").glob("*.py"), PACKAGE / "errors.py", PACKAGE / "__main__.py"]:
        assert not {name.split(".")[0] for name in imported(path)} & set(SLOW)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("poly", "mlp", "transformer", "predict", "translate")), ["--version"]],
)
def test_help_is_quick_and_imports_nothing_slow(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['mlpx', *{arguments!r}]\n"
        "from mlpx.__main__ import main\n"
        f"code = main(); print([m for m in {SLOW!r} if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


@pytest.mark.parametrize("arguments", [["--help"], ["transformer", "--help"]])
def test_help_takes_less_than_three_tenths_of_a_second(arguments: list[str]) -> None:
    import time

    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([*PROGRAM, *arguments], capture_output=True, env=environment(), check=True)
        seconds.append(time.perf_counter() - began)
    print(f"\nmlpx {' '.join(arguments)}: {min(seconds):.3f} s at best, {sorted(seconds)[2]:.3f} s in the median")
    assert min(seconds) < 0.3


def test_shell_completion_imports_nothing_slow(program: Program) -> None:
    env = environment(_MLPX_COMPLETE="complete_bash", COMP_WORDS="mlpx poly --de", COMP_CWORD="2")
    code = (
        "import sys; sys.argv = ['mlpx']\n"
        "from mlpx.__main__ import main\n"
        "try: main()\n"
        f"except SystemExit: pass\nprint([m for m in {SLOW!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--degree" in done.stdout


def test_every_command_has_examples_and_every_option_has_help(program: Program) -> None:
    commands = [line.split()[0] for line in program("--help").out.partition("Commands:")[2].splitlines() if line]
    assert commands == ["poly", "mlp", "transformer", "resume", "evaluate", "predict", "translate", "data"]
    commands[-1] = "data fetch"
    for command in commands:
        text = program(*command.split(), "--help", env=environment(COLUMNS="200")).out
        assert "Examples:\n" in text
        assert f"  mlpx {command} " in text
        options = re.findall(r"^  --([\w-]+)(?: / --no-[\w-]+)?(?: <\S+>)?(?:  +|\n {20,})(\w.*)", text, re.MULTILINE)
        assert len(options) == len(re.findall(r"^  --", text, re.MULTILINE)) >= 2


def test_files_stay_small() -> None:
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 300, path


def test_the_version_is_one(program: Program) -> None:
    import mlpx

    assert program("--version").out == f"mlpx {mlpx.__version__}\n"
