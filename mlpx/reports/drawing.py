"""Figures inside a page: SVG whose colors are those of the page, so that it is read by day, by night and on paper."""

import base64
import re
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
    body = _COLOR.sub(lambda found: _color(found[0]), body)
    body = _PLACES.sub(_rounded, body)
    body = _FAMILY.sub("font-family: sans-serif", _FONT.sub(r"\1 sans-serif", body))
    body = _SPACE.sub(">\n<", body).replace("xlink:href", "href")
    width, height = (72 * size for size in figure.get_size_inches())
    return Markup(  # noqa: S704 - matplotlib has escaped the texts within
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(printable(title))}</title>'
        f'<desc id="{name}-desc">{escape(printable(description))}</desc>{body}</svg>'
    )


def _rounded(attribute: re.Match[str]) -> str:
    """Places to a hundredth of a point."""
    return _FRACTION.sub(r"\1", attribute[0])


def _color(code: str) -> str:
    name = COLORS.get(code)
    return f"var(--{name})" if name else code


def image(png: bytes, description: str) -> Markup:
    """A picture of a run folder as an ``img`` element that holds the whole of it."""
    data = base64.b64encode(png).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, printable(description))
