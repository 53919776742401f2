"""Where data lies, in environments that say it, and in those that do not."""

from pathlib import Path

import pytest

from mlpx.data.folders import cache_folder, data_folder
from mlpx.errors import MachineError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MLPX_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/me")


def test_the_folder_given_wins_over_the_environment_and_that_over_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_folder("") == Path("/home/me/.cache/mlpx/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("/home/me/.cache/mlpx")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_folder("") == Path("/cache/mlpx/data")
    monkeypatch.setenv("MLPX_DATA_DIR", "/data")
    assert data_folder("") == Path("/data")
    assert data_folder("here") == Path("here")


def test_an_empty_home_is_none_and_not_the_root_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    with pytest.raises(MachineError, match=r"no home folder.*XDG_CACHE_HOME"):
        cache_folder()
    monkeypatch.setenv("HOME", "/")
    assert cache_folder() == Path("/.cache/mlpx")


def test_a_tilde_that_no_shell_has_replaced_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPX_DATA_DIR", "~/data")
    assert data_folder("") == Path("/home/me/data")
