"""``--check 'test_loss < 0.05'``: conditions on the metrics of a run, for scripts."""

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from mlpx.errors import UsageError, did_you_mean

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
FORM = re.compile(rf"\s*([A-Za-z_]\w*)\s*({'|'.join(COMPARISONS)})\s*(\S.*?)\s*", re.ASCII)


class Check(NamedTuple):
    """A metric, a comparison and a number."""

    metric: str
    comparison: str
    number: float

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {repr(self.number).removesuffix('.0')}"

    def holds(self, metrics: Mapping[str, float | None]) -> bool:
        """Whether the metrics fulfill it; a metric that is missing or not a number fails every comparison."""
        value = metrics.get(self.metric)
        return value is not None and not math.isnan(value) and COMPARISONS[self.comparison](value, self.number)


def parse(text: str) -> Check:
    """The check that ``text`` stands for.

    Raises:
        UsageError: It does not have the form NAME COMPARISON NUMBER.
    """
    match = FORM.fullmatch(text)
    try:
        number = float(match[3]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number):
        raise UsageError("--check", f"{text!r} is not a check", "Write one like 'test_loss < 0.05'.")
    return Check(match[1], match[2], number)


def require_known(checks: Collection[Check], metrics: Collection[str]) -> None:
    """Check that the run will have all metrics that are asked for.

    Raises:
        UsageError: It will not have one of them.
    """
    for check in checks:
        if check.metric not in metrics:
            remedy = did_you_mean(check.metric, metrics, f"The metrics are {', '.join(metrics)}.")
            raise UsageError("--check", f"no metric {check.metric!r}", remedy)
