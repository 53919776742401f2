"""The rules of the house: who may import whom, and what may not be imported to show a help text."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROGRAM, ROOT, Program, environment

PACKAGE = ROOT / "mlpx"
# Who may import whom, room by room: imports go down only.
GROUND = {"errors", "files"}
LOW = {"settings", "data", "plots", *GROUND}
MAY_IMPORT = {
    "cli": {"cli", "registry", "reports", "sweeps", "runs", "training", *LOW},
    "reports": {"reports", "sweeps", "registry", "runs", "training", *LOW},
    "sweeps": {"sweeps", "registry", "runs", "training", *LOW},
    "registry": {"training", "settings"},
    "runs": {"runs", "registry", "training", *LOW},
    "experiments": {"training", *LOW},
    "training": {"training", *LOW},
    **{room: {room, *GROUND} for room in ("settings", "data", "plots")},
    "files": {"errors"},
    "errors": set[str](),
    "__main__": {"cli"},
}
# The commands that belong to one experiment may import it.
MAY_IMPORT_AN_EXPERIMENT = {
    "cli/predict.py": "mlp",
    "cli/translate.py": "transformer",
    "cli/data.py": "mlp transformer",
}
ONLY_IN = {
    **{package: {"cli"} for package in ("typer", "rich", "plotille")},
    **{package: {"reports"} for package in ("tensorboard", "mlflow", "sqlalchemy", "jinja2")},
    "scipy": {"runs"},
    "ray": {"sweeps"},
}

READING = ("runs", "show", "compare", "report")
COMMANDS = ("poly", "mlp", "transformer", "resume", "evaluate", "predict", "translate", "sweep", *READING, "export")
GROUPS = ("sweep", "export")
INSIDE = ("sweep poly", "sweep mlp", "sweep transformer", "export tensorboard", "export mlflow")
TYPEFACES = "experiments/mlp/glyphs.py"  # matplotlib ships them
SLOW = (
    *("torch", "ray", "matplotlib", "numpy", "scipy", "plotille", "sentencepiece", "sacrebleu"),
    *("tensorboard", "mlflow", "sqlalchemy", "jinja2"),
)


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


def room_of(path: Path) -> str:
    """The room in which a file lies: a folder of the package, or a module at its top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_rooms_are_those_of_the_plan() -> None:
    assert {room_of(path) for path in FILES} - {"__init__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only_and_no_experiment_knows_another(path: Path) -> None:
    here = str(path.relative_to(PACKAGE))
    for name in imported(path):
        package, *rest = name.split(".")
        if package == "mlpx" and rest and rest != ["__version__"] and here != "__init__.py":
            allowed = MAY_IMPORT[room_of(path)]
            if rest[0] == "experiments":
                own = path.parent.name if room_of(path) == "experiments" else MAY_IMPORT_AN_EXPERIMENT.get(here, "")
                assert rest[1] in own.split(), f"{here} imports {name}"
            else:
                assert rest[0] in allowed, f"{here} imports {name}"
        assert room_of(path) in ONLY_IN.get(package, {room_of(path)}), f"{here} imports {name}"
        if package == "matplotlib":
            assert room_of(path) == "plots" or path.name == "plots.py" or here == TYPEFACES, f"{here} imports {name}"


def test_no_import_runs_in_a_circle() -> None:
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    edges = {name: {part for part in imported(path) if part in modules} for name, path in modules.items()}
    edges = {
        name: {*found, *(part for whole in imported(modules[name]) if (part := whole.rpartition(".")[0]) in modules)}
        - {name}
        for name, found in edges.items()
    }
    # Take away what imports nothing that is left, again and again; what stays is a circle.
    while free := [name for name, found in edges.items() if not found & edges.keys()]:
        for name in free:
            del edges[name]
    assert not edges


def test_settings_and_errors_are_free_of_slow_packages() -> None:
    named = [PACKAGE / f"{name}.py" for name in ("errors", "files", "registry", "__main__", "settings/metrics")]
    for path in [*(PACKAGE / "settings").glob("*.py"), *PACKAGE.glob("experiments/*/settings.py"), *named]:
        assert not {name.split(".")[0] for name in imported(path)} & set(SLOW)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([*name.split(), "--help"] for name in (*COMMANDS, *INSIDE)), ["--version"]],
)
def test_help_is_quick_and_imports_nothing_slow(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['mlpx', *{arguments!r}]\n"
        "from mlpx.__main__ import main\n"
        f"code = main(); print([m for m in {SLOW!r} if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_training_imports_nothing_that_exports(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = 'mlpx poly --epochs 2 --quiet'.split()\n"
        "from mlpx.__main__ import main\n"
        "code = main(); print([m for m in ('tensorboard', 'mlflow', 'sqlalchemy') if m in sys.modules], code)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[] 0"


@pytest.mark.slow
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
    assert commands == [*COMMANDS, "data"]
    for command in (*(name for name in COMMANDS if name not in GROUPS), *INSIDE, "data fetch"):
        text = program(*command.split(), "--help", env=environment(COLUMNS="200")).out
        assert "Examples:\n" in text
        assert f"  mlpx {command} " in text
        options = re.findall(r"^  --([\w-]+)(?: / --no-[\w-]+)?(?: <\S+>)?(?:  +|\n {20,})(\w.*)", text, re.MULTILINE)
        assert len(options) == len(re.findall(r"^  --", text, re.MULTILINE)) >= 2


def lines_of_code(lines: list[str], docstrings: set[int], first: int, last: int) -> int:
    """Lines ``first`` to ``last`` (from 1) that are neither blank, nor a comment, nor of a docstring."""
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in docstrings
        for number, line in enumerate(lines[first - 1 : last], first)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    lines, tree = text.splitlines(), ast.parse(text)
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    assert lines_of_code(lines, docstrings, 1, len(lines)) <= 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert lines_of_code(lines, docstrings, node.lineno, node.end_lineno or 0) <= 50, node.name


def test_the_version_is_one(program: Program) -> None:
    import mlpx

    assert program("--version").out == f"mlpx {mlpx.__version__}\n"
