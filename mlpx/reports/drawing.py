"""Figures inside a page: SVG whose colors are those of the page, so that it is read by day, by night and on paper."""

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from mlpx.errors import printable

if TYPE_CHECKING:
    from mlpx.plots.effects import Picture

# The colors of the pictures, and what the page's style calls them. Others stay as they are.
COLORS = {
    "#0072b2": "blue",
    "#d55e00": "orange",
    "#009e73": "green",
    "#cc79a7": "pink",
    "#e69f00": "yellow",
    "#56b4e9": "sky",
    "#666666": "soft",
    "#dddddd": "grid",
    "#000000": "ink",
    "#ffffff": "paper",
}
LUMA, LEAST_LUMA = (0.299, 0.587, 0.114), 120
"""How bright red, green and blue are, and how bright a line has to be on a dark page, from 0 to 255."""
_GROUP_ID = re.compile(r'<g id="[^"]*"')
_ID = re.compile(r'( id="|url\(#|href="#)')
_COLOR = re.compile(r"#[0-9a-f]{6}(?=[;\"])")
_PLACES = re.compile(r'(?<= )(d|x|y|transform|points)="([^"]*)"')
_FRACTION = re.compile(r"(\.\d\d)\d+")
_FONT = re.compile(r"(font: [^;\"']*?px) [^;\"]*")
_FAMILY = re.compile(r"font-family: [^;\"]*")
_GLOBAL = re.compile(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SPACE = re.compile(r">\s+<")


def inline(figure: "Picture", name: str, title: str, description: str) -> Markup:
    """The figure as an ``svg`` element.

    Args:
        figure: A figure of matplotlib.
        name: Names it on the page; no other figure there has the same.
        title: What it is.
        description: What it shows.
    """
    from mlpx.plots.figure import svg

    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)
    whole = svg(figure)
    body = whole[whole.index(">", whole.index("<svg")) + 1 : whole.rindex("</svg>")]
    for pattern in (_METADATA, _GLOBAL, _COMMENT):
        body = pattern.sub("", body, count=0 if pattern is _COMMENT else 1)
    body = _GROUP_ID.sub("<g", body)
    body = _ID.sub(rf"\g<1>{name}-", body)
    others = sorted({*_COLOR.findall(body)} - {*COLORS})
    body = _COLOR.sub(lambda found: f"var(--{COLORS.get(found[0], found[0][1:])})", body)
    body = _PLACES.sub(_rounded, body)
    body = _FAMILY.sub("font-family: sans-serif", _FONT.sub(r"\1 sans-serif", body))
    body = _SPACE.sub(">\n<", body).replace("xlink:href", "href")
    width, height = (72 * size for size in figure.get_size_inches())
    return Markup(  # noqa: S704 - matplotlib has escaped the texts within
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(printable(title))}</title>'
        f'<desc id="{name}-desc">{escape(printable(description))}</desc>{_style(others)}{body}</svg>'
    )


def _rounded(attribute: re.Match[str]) -> str:
    """Places to a hundredth of a point."""
    return _FRACTION.sub(r"\1", attribute[0])


def _style(codes: Sequence[str]) -> str:
    """What other colors are by day and on paper, and by night, when dark ones are made lighter."""
    if not codes:
        return ""
    day = "".join(f"--{code[1:]}:{code};" for code in codes)
    night = "".join(f"--{code[1:]}:{_lighter(code)};" for code in codes)
    at_night = f"@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}"
    return f"<style>:root{{{day}}}{at_night}</style>"


def _lighter(code: str) -> str:
    """The color, mixed with as much white as it needs to be seen on a dark page."""
    parts = [int(code[place : place + 2], 16) for place in (1, 3, 5)]
    for share in range(0, 100, 5):
        mixed = [round(part + (255 - part) * share / 100) for part in parts]
        if sum(weight * part for weight, part in zip(LUMA, mixed, strict=True)) >= LEAST_LUMA:
            return "#" + "".join(f"{part:02x}" for part in mixed)
    return code


def image(png: bytes, description: str) -> Markup:
    """A picture of a run folder as an ``img`` element that holds the whole of it."""
    data = base64.b64encode(png).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, printable(description))
