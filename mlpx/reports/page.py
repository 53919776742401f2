"""The page: one HTML file that needs nothing else, the same bytes for the same runs."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from mlpx.reports import of_many, of_run
from mlpx.reports.choosing import Part
from mlpx.reports.describing import listed
from mlpx.reports.elements import Section

HERE = Path(__file__).parent


def render(parts: Sequence[Part], warnings: Sequence[str]) -> str:
    """The page about runs.

    Args:
        parts: The runs, which :func:`mlpx.reports.choosing.read_parts` has found.
        warnings: What to say of runs that could not be read.
    """
    import jinja2

    script = (HERE / "page.js").read_text()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    sections = [_section(part, f"s{number}") for number, part in enumerate(parts, 1)]
    return environment.get_template("page.html").render(
        title=sections[0].heading if len(sections) == 1 else f"Runs of {_experiments(parts)}",
        sections=sections,
        warnings=warnings,
        style=(HERE / "page.css").read_text(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _section(part: Part, name: str) -> Section:
    """The section of a single run, or of several."""
    if part.sweep is None and len(part.records) == 1:
        return of_run.section(part.records[0], name)
    return of_many.section(part, name)


def _experiments(parts: Sequence[Part]) -> str:
    return listed(list(dict.fromkeys(part.experiment for part in parts)))
