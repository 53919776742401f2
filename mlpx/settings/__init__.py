"""What can be set: one frozen model an experiment, and the TOML files that fill it. Free of torch."""

from mlpx.settings.base import Settings
from mlpx.settings.mlp import MlpSettings
from mlpx.settings.poly import PolySettings
from mlpx.settings.transformer import TransformerSettings

MODELS: dict[str, type[Settings]] = {
    model.experiment: model for model in (PolySettings, MlpSettings, TransformerSettings)
}
