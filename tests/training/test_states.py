"""Restoring a state: tensors in place, numbers and text by their type, and nothing where anything differs."""

import pytest
import torch

from mlpx.errors import InputError
from mlpx.training.states import Value, restore


def state() -> dict[str, Value]:
    return {"weights": torch.zeros(2, 3), "epoch": 0, "loss": 0.0, "data": "abc"}


def test_tensors_are_restored_in_place_and_numbers_left_to_the_caller() -> None:
    into, saved = state(), {**state(), "weights": torch.ones(2, 3), "epoch": 7, "loss": 0.5, "data": "d"}
    weights = into["weights"]
    restore(into, saved, "checkpoint", "Start anew.")
    assert into["weights"] is weights
    assert torch.equal(weights, torch.ones(2, 3))  # type: ignore[arg-type]
    assert (into["epoch"], into["loss"], into["data"]) == (0, 0.0, "abc")


FAULTS: dict[str, tuple[str, Value | None, str]] = {
    "a number that is a tensor": ("epoch", torch.ones(3), r"its epoch is float32 of shape \(3,\), not a whole number"),
    "a whole number that is none": ("epoch", 1.0, "its epoch is a number, not a whole number"),
    "a number that is whole": ("loss", 1, "its loss is a whole number, not a number"),
    "a number that is text": ("loss", "1", "its loss is text, not a number"),
    "text that is a number": ("data", 5, "its data is a whole number, not text"),
    "a tensor that is a number": ("weights", 1.0, r"its weights is a number, not float32 of shape \(2, 3\)"),
    "another shape": ("weights", torch.ones(3, 2), r"its weights is float32 of shape \(3, 2\), not .* \(2, 3\)"),
    "another type": ("weights", torch.ones(2, 3).double(), "its weights is float64 .*, not float32"),
    "one too few": ("epoch", None, "its epoch is missing, not a whole number"),
    "one too many": ("extra", 3, "its extra is a whole number, not missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_state_that_does_not_match_is_refused_and_changes_nothing(fault: str) -> None:
    name, value, message = FAULTS[fault]
    into, saved = state(), {**state(), "weights": torch.ones(2, 3)}
    if value is None:
        del saved[name]
    else:
        saved[name] = value
    with pytest.raises(InputError, match=rf"^checkpoint: {message}.* Start anew\.$"):
        restore(into, saved, "checkpoint", "Start anew.")
    assert torch.equal(into["weights"], torch.zeros(2, 3))  # type: ignore[arg-type]
