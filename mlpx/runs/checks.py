"""``--check 'test_loss < 0.05'``: what a script asks of a run's metrics."""

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from mlpx.errors import UsageError

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
PATTERN = re.compile(rf"\s*([A-Za-z_]\w*)\s*({'|'.join(COMPARISONS)})\s*(\S+)\s*", re.ASCII)


class Check(NamedTuple):
    """A metric, a comparison and a number."""

    metric: str
    comparison: str
    number: float

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.number:g}"

    def holds(self, metrics: Mapping[str, float | None]) -> bool:
        """Whether it holds; a metric that is not a number fails every comparison."""
        value = metrics.get(self.metric)
        return value is not None and not math.isnan(value) and COMPARISONS[self.comparison](value, self.number)


def parse(text: str) -> Check:
    """The check that ``text`` writes.

    Raises:
        UsageError: it is not of the form NAME COMPARISON NUMBER.
    """
    match = PATTERN.fullmatch(text)
    try:
        number = float(match[3]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number):
        raise UsageError("--check", f"{text!r} is not a check", "Write one like 'test_loss < 0.05'.")
    return Check(match[1], match[2], number)


def require_known(checks: Collection[Check], metrics: Collection[str]) -> None:
    """Raise UsageError for a check of a metric that the run will not have."""
    for check in checks:
        if check.metric not in metrics:
            near = difflib.get_close_matches(check.metric, metrics, n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else f"The metrics are {', '.join(metrics)}."
            raise UsageError("--check", f"no metric {check.metric!r}", remedy)
