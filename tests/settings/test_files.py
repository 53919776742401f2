"""Settings files that Python's own limits would turn into a bug."""

from pathlib import Path

import pytest

from mlpx.errors import UsageError
from mlpx.experiments.mlp.settings import MlpSettings
from mlpx.settings.files import resolve, to_toml


@pytest.mark.parametrize("key", ["seed", "epochs", "hidden", "experiment", "unknown"])
@pytest.mark.parametrize("digits", ["0x" + "f" * 5000, "0b" + "1" * 20_000, "9" * 5000])
def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path, key: str, digits: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(f"{key} = {f'[{digits}]' if key == 'hidden' else digits}")
    with pytest.raises(UsageError, match=r"my\.toml: is not TOML: .*digits"):
        resolve(MlpSettings, {}, path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    settings = MlpSettings(hidden=[3, 4], lr=1e-300, seed=0xFFFF)
    (tmp_path / "my.toml").write_text(to_toml(settings))
    assert resolve(MlpSettings, {}, tmp_path / "my.toml") == settings
