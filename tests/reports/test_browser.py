"""The page of ``mlpx report`` in a real browser, which has no network: it asks for nothing, sorts, and can be read.

Each page is looked at in all the ways in which it may be seen: wide and narrow, by day, by night, on paper, without
script. ``python -m pytest tests/reports/test_browser.py -m slow`` trains the lesson of the chapter and renews the
picture that the README shows.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import PROGRAM, ROOT, environment, run_program

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAYS = [
    *((width, scheme, "screen") for width in (1280, 360) for scheme in ("light", "dark")),
    (794, "light", "print"),  # the width of A4 in pixels
]
LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3
# The contrast of every text with what lies behind it, as (contrast, text) of those below a limit.
CONTRASTS = """(limit) => {
  const parts = (css) => { const c = css.match(/[\\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };
  const over = (top, below) => top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3]));
  const light = (color) => {
    const [r, g, b] = color.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const own = parts(getComputedStyle(element).backgroundColor);
    if (own[3] === 1 || !element.parentElement) return own[3] ? own.slice(0, 3) : [255, 255, 255];
    return over(own, behind(element.parentElement));
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || ["SCRIPT", "style", "title", "desc"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const isDrawn = element instanceof SVGElement;
    const below = behind(isDrawn ? element.ownerSVGElement : element);
    const color = over(parts(isDrawn ? style.fill : style.color), below);
    const [a, b] = [light(color), light(below)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < limit) found.push([contrast.toFixed(2), node.data.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of a run, one of a sweep, and one of two experiments."""
    folder = tmp_path_factory.mktemp("pages")
    for command in (
        "sweep poly --degree 1,3,19 --seed 0..1 --epochs 400 --into runs/degrees",
        "mlp --dataset glyphs --num-train 600 --epochs 2 --into runs/mlp",
        "report runs/mlp",
        "report runs/degrees",
        "report runs/degrees runs/mlp --out lesson.html",
    ):
        result = run_program([*command.split(), "--quiet"], folder)
        assert result.code == 0, result
    return {
        "run": folder / "runs/mlp/report.html",
        "sweep": folder / "runs/degrees/report.html",
        "lesson": folder / "lesson.html",
    }


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install Debian's package chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


class Seen:
    """A page as it is seen, and what the browser says of it."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str, media: str, *, script: bool = True) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script, offline=True
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.emulate_media(media=media)

    def close(self) -> None:
        """Check that it asked for nothing but itself, and that nothing was wrong."""
        assert self.said == []
        assert [url for url in self.asked if not url.startswith("data:image/png")] == [self.page.url]
        self.context.close()


@pytest.mark.parametrize(("width", "scheme", "media"), WAYS)
def test_a_page_can_be_read_in_every_way_and_asks_for_nothing(
    width: int, scheme: str, media: str, pages: dict[str, Path], browser: Any, tmp_path: Path
) -> None:
    seen = Seen(browser, pages["lesson"], width, scheme, media)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate(CONTRASTS, LEAST_CONTRAST) == []
    assert seen.page.locator("svg, img").count() == seen.page.locator("figure").count() > 0
    seen.page.screenshot(path=tmp_path / f"{width}-{scheme}-{media}.png", full_page=True)
    seen.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "lesson"])
def test_axe_finds_nothing_serious(name: str, scheme: str, pages: dict[str, Path], browser: Any) -> None:
    seen = Seen(browser, pages[name], 1280, scheme, "screen")
    seen.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = axe.Axe().run(seen.page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []
    seen.context.close()


def column(seen: Seen, number: int) -> list[str]:
    cells = seen.page.locator(f"table.sortable tbody tr td:nth-child({number})")
    return [text.split()[0] for text in cells.all_inner_texts()]


def test_tables_sort_by_click_and_by_keyboard(pages: dict[str, Path], browser: Any) -> None:
    seen = Seen(browser, pages["sweep"], 1280, "light", "screen")
    head = seen.page.locator("table.sortable th").first
    assert column(seen, 1) == ["1", "3", "19"]
    for words, degrees in (("ascending", ["1", "3", "19"]), ("descending", ["19", "3", "1"])):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == words
        assert column(seen, 1) == degrees
    last = seen.page.locator("table.sortable th").last
    last.locator("button").focus()
    seen.page.keyboard.press("Enter")
    losses = [float(text) for text in column(seen, 5)]
    assert losses == sorted(losses)
    assert head.get_attribute("aria-sort") is None
    seen.page.keyboard.press("Space")
    assert [float(text) for text in column(seen, 5)] == losses[::-1]
    # The tab key reaches the heading that comes before.
    seen.page.keyboard.press("Shift+Tab")
    assert seen.page.evaluate("document.activeElement.textContent") == "test loss"
    seen.close()


def test_everything_is_there_without_script(pages: dict[str, Path], browser: Any) -> None:
    with_script, without = (
        Seen(browser, pages["sweep"], 1280, "light", "screen", script=script) for script in (True, False)
    )
    assert without.page.locator("body").inner_text() == with_script.page.locator("body").inner_text()
    assert without.page.locator("button").count() == 0
    without.page.locator("summary").first.click()
    assert without.page.locator("details table").first.is_visible()
    with_script.close()
    without.context.close()


@pytest.mark.slow
def test_the_lesson_is_a_page_to_project(browser: Any, tmp_path: Path) -> None:
    for command in (
        "sweep poly --degree 1,3,19 --seed 0..4 --epochs 1500 --into runs/degrees",
        "sweep poly --degree 0..15 --seed 0..4 --epochs 1500 --into runs/complexity",
        "mlp --dataset glyphs --epochs 10 --into runs/mlp",
        "transformer --into runs/transformer",
        "report runs/degrees runs/complexity runs/mlp runs/transformer --out lesson.html",
    ):
        subprocess.run([*PROGRAM, *command.split(), "--quiet"], cwd=tmp_path, check=True, env=environment())
    seen = Seen(browser, tmp_path / "lesson.html", 1280, "light", "screen")
    assert seen.page.locator("nav li").count() == 4
    assert seen.page.evaluate(CONTRASTS, LEAST_CONTRAST) == []
    top = {"x": 0, "y": 0, "width": 1280, "height": 1400}
    seen.page.screenshot(path=ROOT / "docs" / "report.png", full_page=True, clip=top)
    seen.close()
