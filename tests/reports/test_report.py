"""The page of ``mlpx report``: what it says of runs in any state, and that nothing in them does harm."""

import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import lxml.html
import pytest
from helpers import Program, assert_fails, mlpx, run_program, write_run, write_sweep
from lxml.html import HtmlElement
from sweeping import losses, make_sweep, scores

from mlpx.errors import Diverged, InputError
from mlpx.experiments.poly.settings import PolySettings
from mlpx.experiments.transformer.settings import TransformerSettings
from mlpx.runs.folder import Run

MEBIBYTE = 2**20
HOSTILE = "<script>alert(1)</script>&\"'{{ 7 * 7 }}$\\frac"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose runs folder holds a sweep over degrees and seeds, named ``degrees``."""
    folder = tmp_path_factory.mktemp("trained")
    words = "sweep poly --degree 1,3,19 --seed 0..2 --epochs 1000 --into runs/degrees --quiet"
    result = run_program(words.split(), folder)
    assert result.code == 0, result
    return folder


def page_of(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[Path, HtmlElement]:
    """The page that ``mlpx report`` writes, after what must hold of every page."""
    result = mlpx(capfd, "report", *arguments)
    assert result.code == 0, result
    path = Path(result.out.rstrip("\n"))
    text = path.read_text()
    page = lxml.html.fromstring(text)
    ids = Counter(page.xpath("//@id"))
    assert not [name for name, count in ids.items() if count > 1]
    assert len(page.xpath("//script")) == 1
    assert not page.xpath("//link | //iframe | //object | //*[@onclick or @onload or @onerror]")
    for link in page.xpath("//@href | //@src"):
        assert link.startswith(("#", "data:image/png;base64,"))
    for used in re.findall(r"url\(#([^)]*)\)", text):
        assert used in ids
    assert "default-src 'none'" in page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    for svg in page.xpath("//*[local-name()='svg']"):
        assert svg.get("role") == "img"
        assert svg.xpath("*[local-name()='title']")[0].text
        assert svg.xpath("*[local-name()='desc']")[0].text.endswith(".")
    assert all(alt.endswith(".") for alt in page.xpath("//img/@alt"))
    assert len(page.xpath("//img")) == len(page.xpath("//img/@alt"))
    return path, page


def headings(page: HtmlElement) -> list[str]:
    return [each.text_content() for each in page.xpath("//h2 | //h3 | //summary")]


def cells(page: HtmlElement, caption: str) -> list[list[str]]:
    """The rows of the table of that caption, its head included."""
    for table in page.xpath("//table"):
        if table.xpath("caption")[0].text_content().startswith(caption):
            return [[cell.text_content().strip() for cell in row.xpath("th | td")] for row in table.xpath(".//tr")]
    raise AssertionError(caption)


def test_the_page_of_a_run_has_its_curves_its_picture_its_settings_and_its_command(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = trained / "runs/degrees/degree19-seed0"
    path, page = page_of(capfd, str(run), "--out", str(tmp_path / "a.html"))
    assert headings(page) == [
        *("Curves", "The curves in numbers, 25 of 51 rows", "What was learned", "The weights in numbers"),
        *("All metrics", "Settings", "All settings", "How to repeat it"),
    ]
    summary = json.loads((run / "run.json").read_text())["summary"]
    assert page.xpath("//p[@class='lead']")[0].text.rstrip(".").lower() == summary.rstrip(".").lower()
    assert ["degree", "19", "Degree of the fitted polynomial (highest power of x)"] in cells(page, "Settings that are")
    assert len(cells(page, "The weights in numbers")) == 21
    assert page.xpath("//pre")[-1].text_content() == f"mlpx poly --config {run}/config.toml"
    description = page.xpath("//figcaption")[0].text
    assert re.search(r"Train loss falls from [\d.]+ at epoch \d+ to [\d.]+ at epoch 1000; ", description)
    assert path.stat().st_size < 1.5 * MEBIBYTE


def test_the_page_of_a_sweep_says_which_is_best_and_shows_the_best_the_median_and_the_worst_run(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, page = page_of(capfd, str(trained / "runs/degrees"), "--out", str(tmp_path / "a.html"))
    lead = page.xpath("//p[@class='lead']")[0].text
    assert lead.startswith("Degree 3 has the lowest generalization loss of 3: ")
    assert lead.endswith("; 9 runs, all finished.")
    table = cells(page, "Results: mean ± standard deviation over n seeds")
    assert table[0] == ["degree", "n", "train loss", "test loss", "generalization loss"]
    assert [row[:2] for row in table[1:]] == [["1", "3"], ["3", "3"], ["19", "3"]]
    assert table[2][-1].endswith("(best)")
    assert [each.split(":")[0] for each in headings(page) if " run: " in each] == [
        "Best run",
        "Median run",
        "Worst run",
    ]
    assert "Compared with degree 1" in headings(page)
    over = page.xpath("//figcaption")[0].text
    assert re.fullmatch(
        r"The median generalization loss falls from [\d.]+ at degree 1 to [\d.]+ at degree 3, then rises to [\d.]+ at"
        r" degree 19\.",
        over,
    )
    assert path.stat().st_size < 2 * MEBIBYTE


def test_the_same_runs_give_the_same_bytes(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = [str(trained / "runs/degrees"), str(trained / "runs/degrees/degree03-seed1")]
    first, _ = page_of(capfd, *runs, "--out", str(tmp_path / "a.html"))
    second, page = page_of(capfd, *runs, "--out", str(tmp_path / "b.html"))
    assert first.read_bytes() == second.read_bytes()
    # Each run is on the page once, so the run that was named beside its sweep stays with the sweep.
    assert [each.text_content() for each in page.xpath("//h1")] == ["poly: degree 1, 3, 19; seed 0, 1, 2"]


def test_runs_of_several_experiments_are_sections_with_a_table_of_contents(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    poly = make_sweep(tmp_path, "poly", {"degree": "1,3"}, losses)
    mlp = make_sweep(tmp_path, "mlp", {"hidden": "none,64", "seed": "0..6"}, scores)
    run = write_run(tmp_path, TransformerSettings(), {"train_loss": 0.5, "val_loss": 0.4, "epoch": 10})
    path, page = page_of(capfd, *map(str, (run, mlp.path, poly.path)), "--out", str(tmp_path / "a.html"))
    assert page.xpath("//h1")[0].text == "Runs of transformer, mlp and poly"
    assert page.xpath("//nav//a/@href") == ["#section1", "#section2", "#section3"]
    assert [each.text for each in page.xpath("//h2")] == [
        "transformer, reverse",
        "mlp: hidden none, 64; seed 0 to 6",
        "poly: degree 1, 3",
    ]
    words = " ".join(p.text for p in page.xpath("//section[2]//p") if p.text)
    assert "Test accuracy: hidden 64 is higher in 7 of 7 seeds" in words
    assert path.name == "a.html"


def test_runs_that_are_no_sweep_are_compared_over_the_settings_in_which_they_differ(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for degree in (1, 3, 19):
        for seed in (0, 1):
            settings = PolySettings(degree=degree, seed=seed)
            write_run(tmp_path / "runs", settings, {**losses(settings, seed), "epoch": 20})
    _, page = page_of(capfd, str(tmp_path / "runs"), "--out", str(tmp_path / "a.html"))
    assert page.xpath("//h1")[0].text == "poly: degree 1, 3, 19; seed 0, 1"
    assert [row[0] for row in cells(page, "Results")] == ["degree", "1", "3", "19"]
    _, page = page_of(capfd, str(tmp_path / "runs"), "--where", "degree > 1", "--out", str(tmp_path / "a.html"))
    assert sorted(row[0] for row in cells(page, "Results")[1:]) == ["19", "3"]


def test_what_failed_diverged_or_is_not_finished_is_named_with_its_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def measure(settings: object, seed: int) -> dict[str, float] | Exception | None:
        if seed == 1:
            return Diverged("diverged", "train_loss is nan at epoch 20", "Try a lower --lr.")
        if seed == 2:
            return InputError("data", HOSTILE, "")
        return None if seed == 3 else losses(settings, seed)

    sweep = make_sweep(tmp_path, "poly", {"degree": "1,3", "seed": "0..3"}, measure)
    _, page = page_of(capfd, str(sweep.path))
    assert "2 of 8 runs finished, 2 diverged, 2 failed and 2 waiting." in page.xpath("//p[@class='lead']")[0].text
    rows = cells(page, "Runs that did not finish, and why")
    assert rows[1][0] == "degree1-seed1, degree3-seed1"
    assert "train_loss is nan" in rows[1][2]
    assert HOSTILE in rows[2][2]
    assert cells(page, "Results")[1][-1] == "1 diverged, 1 failed, 1 waiting"


@pytest.mark.parametrize("status", ["waiting", "running", "dead", "diverged", "half written", "no numbers"])
def test_a_run_in_any_state_has_a_page(status: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if status == "waiting":
        run = write_sweep(tmp_path, PolySettings, {"degree": "1,3"}).runs()[0]
    else:
        known = status if status in ("running", "diverged") else "running" if status == "dead" else "finished"
        run = write_run(tmp_path, PolySettings(), {"train_loss": float("nan"), "epoch": 3}, known)
    if status == "half written":
        os.remove(run / "run.json")
        (run / "metrics.csv").write_text("epoch,train_loss\n1,0.5\n2,")
    if status == "no numbers":
        (run / "metrics.csv").write_bytes(b"\0\xff,<b>\n<script>,1\n")
        (run / "fit.png").write_text(HOSTILE)
    if status == "running":
        with Run(run):
            _, page = page_of(capfd, str(run))
        assert "is being trained" in page.xpath("//p[@class='lead']")[0].text
    else:
        _, page = page_of(capfd, str(run))
    warnings = [each.text for each in page.xpath("//p[@class='warning']")]
    if status == "no numbers":
        assert any("metrics.csv" in each for each in warnings)
        assert any("fit.png: is no PNG file" in each for each in warnings)
    assert page.xpath("//p[@class='lead']")[0].text


def test_a_finished_run_without_its_picture_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, PolySettings(), {"train_loss": 0.5, "epoch": 3})
    _, page = page_of(capfd, str(run))
    assert [each.text for each in page.xpath("//p[@class='warning']")] == [f"{run.name}: fit.png is missing"]


def test_hostile_settings_and_texts_are_shown_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        files = {f"{part}_{side}": f"/{HOSTILE}.txt" for part in ("train", "val", "test") for side in ("src", "tgt")}
        settings = TransformerSettings.model_validate({"task": "text", **files, "train_src": f"/{HOSTILE}{number}.txt"})
        run = write_run(tmp_path / "runs", settings, {"train_loss": 0.5, "val_loss": 0.5, "epoch": 3})
        document = json.loads((run / "run.json").read_text())
        document |= {"summary": HOSTILE, "warnings": [HOSTILE], "command": HOSTILE, "host": HOSTILE}
        (run / "run.json").write_text(json.dumps(document))
        (run / "translations.txt").write_text(f"source:    {HOSTILE}\nreference: \0\noutput:    {HOSTILE}\n")
    run = run.rename(tmp_path / "runs" / "<script>alert(1)<")
    path, page = page_of(capfd, str(run))
    assert page.xpath("//p[@class='place']")[0].text == run.name
    assert page.xpath("//p[@class='lead']")[0].text == f"{HOSTILE}."
    assert page.xpath("//td[text()=$text]", text=HOSTILE)
    assert "<script>alert" not in path.read_text()
    path, page = page_of(capfd, str(tmp_path / "runs"), "--out", str(tmp_path / "a.html"))
    assert "<script>alert" not in path.read_text()
    assert any("<script>" in row[0] for row in cells(page, "Results")[1:])


def test_numbers_that_are_not_finite_are_left_out_of_what_is_computed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def measure(settings: object, seed: int) -> dict[str, float]:
        found = losses(settings, seed)
        return {name: float("inf") for name in found} if seed == 1 else found

    sweep = make_sweep(tmp_path, "poly", {"degree": "1,3,5", "seed": "0..2"}, measure)
    path, page = page_of(capfd, str(sweep.path))
    assert [row[1] for row in cells(page, "Results")[1:]] == ["2", "2", "2"]
    assert 'data-value="inf"' not in path.read_text()
    assert 'data-value="nan"' not in path.read_text()


def test_two_hundred_runs_are_less_than_two_megabytes_and_ten_seconds(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], trained: Path
) -> None:
    sweep = make_sweep(tmp_path, "poly", {"degree": "0..19", "seed": "0..9"}, losses)
    rows = (trained / "runs/degrees/degree19-seed0/metrics.csv").read_bytes()
    picture = (trained / "runs/degrees/degree19-seed0/fit.png").read_bytes()
    for run in sweep.runs():
        (run / "metrics.csv").write_bytes(rows)
        (run / "fit.png").write_bytes(picture)
    began = time.perf_counter()
    path, page = page_of(capfd, str(sweep.path))
    assert time.perf_counter() - began < 10
    assert path.stat().st_size < 2 * MEBIBYTE
    assert len(cells(page, "Results")) == 21
    assert len(page.xpath("//img")) == 3


def test_by_night_dark_colors_are_lighter(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, _ = page_of(capfd, str(trained / "runs/degrees"), "--out", str(tmp_path / "a.html"))
    text = path.read_text()
    used = set(re.findall(r"var\(--([0-9a-f]{6})\)", text))
    day, night = (
        dict(re.findall(r"--([0-9a-f]{6}):(#[0-9a-f]{6});", part))
        for part in re.findall(
            r"<style>:root{(.*?)}@media screen and \(prefers-color-scheme:dark\){:root{(.*?)}}</style>", text
        )[0]
    )
    assert used == set(day) == set(night)
    assert "440154" in used  # the first, nearly black color of viridis
    assert night["440154"] > day["440154"] == "#440154"


def test_where_the_page_lies(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / "runs", PolySettings(degree=degree), {"epoch": 3}) for degree in (1, 3)]
    in_runs = ("--runs-dir", str(tmp_path / "runs"))
    assert page_of(capfd, "latest", *in_runs)[0] == runs[1] / "report.html"
    assert page_of(capfd, runs[0].name, *in_runs)[0] == runs[0] / "report.html"
    for several in ([str(tmp_path / "runs")], [runs[0].name, runs[1].name]):
        assert_fails(mlpx(capfd, "report", *several, *in_runs), 2, "--out FILE")
    assert_fails(mlpx(capfd, "report", "latest", *in_runs, "--out", str(tmp_path)), 6, str(tmp_path))
    assert_fails(mlpx(capfd, "report", "nothing", *in_runs), 5, "no such run")
    assert_fails(mlpx(capfd, "report", "latest", *in_runs, "--where", "degree == 7"), 5, "none of these runs")
    found = mlpx(capfd, "report", "latest", *in_runs, "--json")
    assert json.loads(found.out) == {"report": str(runs[1] / "report.html"), "runs": 1}


def test_a_report_of_a_run_changes_nothing_else_in_it(trained: Path, program: Program) -> None:
    run = trained / "runs/degrees/degree01-seed1"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir() if path.is_file()}
    assert program("report", str(run)).code == 0
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir() if path.is_file()}
    after.pop("report.html")
    assert after == before


def test_replicas_of_a_run_are_its_seeds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = run_program(["poly", "--replicas", "8", "--epochs", "20", "--quiet"], tmp_path)
    _, page = page_of(capfd, result.out.strip())
    assert "median of 8 replicas" in page.xpath("//*[local-name()='svg']")[0].text_content()
