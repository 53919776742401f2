"""The fixtures that all tests share; what is no fixture is in helpers.py."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.register_assert_rewrite("helpers")  # so that its assertions say what differed

import forks  # noqa: E402
from helpers import PROGRAM, Program, Result, environment, run_program  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs the whole program; a module that does so without a fixture of these names has a ``pytestmark``."""
    for item in items:
        if {"program", "prepared"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("program")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is written to the user's own cache folder, nor read from it but data sets."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run ``mlpx`` in ``tmp_path``, so that its runs lie in ``tmp_path/runs``; with a ``prefix`` in a new process."""

    def run(
        *arguments: str,
        env: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        cwd: Path = tmp_path,
        given: bytes = b"",
    ) -> Result:
        if not prefix:
            return run_program(arguments, cwd, env, given)
        done = subprocess.run(
            [*prefix, *PROGRAM, *arguments],
            cwd=cwd,
            env=environment() if env is None else env,
            input=given,
            capture_output=True,
            timeout=120,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def fork_server() -> None:
    """The process from which the tests fork is there, so that sweeps in this process fork from it too."""
    forks.start_server()
