"""The report in a real browser, without a network: what a reader points at, presses, sorts and moves."""

import os
import re
import shutil
from pathlib import Path

import pytest
from reported import HOSTILE

from normbench.charts.looks import BLUE, DARK
from normbench.report.page import page as report

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: As root it starts without a sandbox only; it reads nothing here but our own file.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WINDOW = {"width": 1200, "height": 900}
#: The marks of batchnorm in a chart.
BATCHNORM = f'svg.marks path[stroke="{BLUE}"], svg.marks path[fill="{BLUE}"]'


@pytest.fixture(scope="module")
def browser():
    """Start Chromium once."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        missing = pytest.fail if os.environ.get("NORMBENCH_TEST_BROWSER") == "1" else pytest.skip
        missing(f"none of {', '.join(NAMES)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(mine, tmp_path_factory):
    """Return a report that is written."""
    written = tmp_path_factory.mktemp("page") / "mine-report.html"
    written.write_bytes(report([mine]))
    return written


@pytest.fixture(scope="module")
def opened(browser, file):
    """Return a function that opens the report; nothing may go wrong in it, and nothing may be asked of a network."""
    contexts, wrong = [], []

    def open_page(of: Path = file, **options):
        context = browser.new_context(**{"viewport": WINDOW, "reduced_motion": "reduce", **options})
        context.set_offline(True)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        page.goto(of.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [] == wrong


@pytest.fixture(scope="module")
def loaded(opened):
    """Return the report, opened once: to load it takes longer than what a test does with it."""
    page = opened()
    page.locator("#c0 svg.marks").wait_for()
    return page


@pytest.fixture
def page(loaded):
    """Return the report, which each test leaves as it was but for the order of rows and for what was pointed at."""
    yield loaded
    loaded.keyboard.press("Escape")
    loaded.mouse.move(0, 0)


def drawn(page):
    """Draw all charts of a page, and return how many there are."""
    plots = page.locator(".plot")
    for i in range(plots.count()):
        plots.nth(i).scroll_into_view_if_needed()
        plots.nth(i).locator("svg.marks").wait_for()
    return plots.count()


def test_all_charts_are_drawn(page):
    """Scores, curves, throughput: each as it comes into view; what a norm is called is only text."""
    assert 3 <= drawn(page)
    assert HOSTILE in page.locator(".norms").inner_text()
    assert 0 == page.locator("img").count()


def test_the_pointer_is_told_what_it_is_at(page):
    """Norm, rate and seed."""
    marker = page.locator("#c0").locator(BATCHNORM).last
    marker.scroll_into_view_if_needed()
    box = marker.bounding_box()
    page.mouse.move(box["x"], box["y"])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    said = tooltip.inner_text()
    assert re.search(r"norm\s+batchnorm", said)
    assert re.search(r"learning rate\s+(0\.1|0\.3|1)\b", said)
    assert re.search(r"seed\s+", said)


def test_a_norm_is_hidden_everywhere(page):
    """In each chart that is drawn, or will be, and in each table; and it comes back."""
    rows = page.locator('tr[data-norm="batchnorm"]:visible')
    before = rows.count()
    button = page.get_by_role("button", name="batchnorm", exact=True)

    button.click()

    page.locator("#c0").locator(BATCHNORM).first.wait_for(state="detached")
    drawn(page)
    assert "false" == button.get_attribute("aria-pressed")
    assert (0, 0) == (page.locator(BATCHNORM).count(), rows.count())
    page.get_by_role("button", name="Show all").click()
    page.locator("#c0").locator(BATCHNORM).first.wait_for()
    assert before == rows.count() > 3


def test_a_table_sorts(page):
    """By a click or the keyboard; its heading says which way."""
    board = page.locator('.board[data-board="accuracy"]')
    heading = board.locator('th[data-column="accuracy"]')
    norms = board.locator("tbody tr")

    heading.locator(".sort").click()
    best_first = [row.get_attribute("data-norm") for row in norms.all()]
    assert "descending" == heading.get_attribute("aria-sort")
    heading.locator(".sort").press("Enter")

    assert "ascending" == heading.get_attribute("aria-sort")
    assert [HOSTILE, "batchnorm", "none"] == best_first
    assert best_first[::-1] == [row.get_attribute("data-norm") for row in norms.all()]


def test_a_slider_chooses_the_rate(page):
    """And says which it is."""
    drawn(page)
    figure = page.locator("figure.chart", has=page.locator(".choice")).first
    slider, line = figure.get_by_role("slider"), figure.locator(BATCHNORM).first
    before, said = line.get_attribute("d"), figure.locator("output").inner_text()

    slider.press("End")

    assert said != figure.locator("output").inner_text() == slider.get_attribute("aria-valuetext")
    moved = "([path, before]) => path.getAttribute('d') !== before"
    page.wait_for_function(moved, arg=[line.element_handle(), before])


def test_a_column_and_a_row_say_what_they_are(page):
    """A column its definition, a row the command that repeats it; Escape puts it away."""
    board, said = page.locator('.board[data-board="stability"]'), page.locator("#said")

    board.get_by_role("button", name="What over the grid").click()
    definition = said.inner_text()
    page.keyboard.press("Escape")
    said.wait_for(state="hidden")
    back = page.evaluate("document.activeElement.className")
    board.get_by_role("button", name="repeats batchnorm", exact=False).click()

    assert "grid" in definition
    assert "normbench run mine --norm batchnorm --seeds 3" in said.inner_text()
    assert ("what", "said") == (back, page.evaluate("document.activeElement.id"))


def test_it_is_dark_for_who_wants_it(opened):
    """As the browser says, or by a button: the ground, and the colours of norms."""
    page = opened(color_scheme="dark")
    page.locator(f'#c0 svg.marks path[stroke="{DARK[BLUE]}"]').first.wait_for()
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)

    page.get_by_role("button", name="Dark").click()

    page.locator("#c0").locator(BATCHNORM).first.wait_for()
    assert ("rgb(20, 23, 28)", "rgb(255, 255, 255)") == (dark, page.evaluate(ground))


@pytest.mark.parametrize("width", [400, 1600])
def test_no_screen_is_too_narrow(page, width):
    """What is wider scrolls in a box of its own."""
    page.set_viewport_size({"width": width, "height": 800})
    drawn(page)

    assert 0 == page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_viewport_size(WINDOW)


def test_the_keyboard_reaches_all(opened):
    """The first key skips to the results, the next ones press norms; what is focused is seen."""
    page = opened()
    focused = "document.activeElement.textContent.trim()"
    page.keyboard.press("Tab")
    assert "Skip to the results" == page.evaluate(focused)
    while page.evaluate(focused) != "none":
        page.keyboard.press("Tab")

    page.keyboard.press("Space")

    assert "false" == page.get_by_role("button", name="none", exact=True).get_attribute("aria-pressed")
    assert "2px" == page.evaluate("getComputedStyle(document.activeElement).outlineWidth")


def test_paper_has_all_of_it(page):
    """Before printing all charts are drawn, in light colours, and nothing is folded."""
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")

    page.locator(".plot >> svg.marks").last.wait_for()
    assert page.locator(".plot").count() == page.locator(".plot svg.marks").count()
    assert 0 == page.locator("details:not([open])").count()
    cells = page.locator(".strip td:visible").count()
    page.emulate_media(media="print")
    assert cells == page.locator(".strip td:visible").count()
    assert 0 == page.get_by_role("button", name="Copy").count()
    page.emulate_media(media="screen")
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert 0 < page.locator("details:not([open])").count()


def test_without_scripts_there_are_the_tables(opened):
    """Each chart's numbers, and the commands, as text."""
    page = opened(java_script_enabled=False)

    assert 4 <= page.locator("figure.chart details.numbers tbody tr").count()
    assert "normbench run mine --norm none --seeds 3" in page.locator(".commands").text_content()
