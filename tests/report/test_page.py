"""The page of a report in a real browser, on a desk and on a telephone."""

from pathlib import Path

import pytest

from fewshot.report.__main__ import page_of
from fewshot.report.configs import read_configs
from tests.report.written import write_job

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make setup")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.is_file(), reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    for lr, level in ((0.1, 0.4), (0.4, 0.7), (0.8, 0.5)):
        write_job(folder, lr, 0, level)
    path = folder / "report.html"
    path.write_text(page_of(read_configs([folder])[0], "Rates", 0, hardest=1), "utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser, address, width, scheme):
    wrong = []
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: wrong.append(request.url) if request.url != address else None)
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        sizes = page.evaluate("[...document.querySelectorAll('svg text')].map((text) => text.getBoundingClientRect().height)")
        assert min(sizes) > 9
        colours = page.evaluate(
            "['body', 'svg text', 'h2'].map((name) => getComputedStyle(document.querySelector(name)))"
            ".map((style) => [style.backgroundColor, style.color, style.fill])"
        )
        assert colours[1][2] == colours[2][1]  # a drawing's text has the page's colour
        assert (colours[0][0] == "rgb(255, 255, 255)") == (scheme == "light")
    assert wrong == []


def test_a_click_on_a_header_sorts(browser, address):
    page = browser.new_page()
    page.goto(address)
    table = page.locator("table").first

    def order():
        return table.locator("tbody tr td:first-child").all_inner_texts()

    assert order() == ["lr=0.4", "lr=0.8", "lr=0.1"]
    table.get_by_role("button", name="test accuracy").click()
    assert order() == ["lr=0.1", "lr=0.8", "lr=0.4"]
    table.get_by_role("button", name="test accuracy").click()
    assert order() == ["lr=0.4", "lr=0.8", "lr=0.1"]
    table.get_by_text("difference", exact=True).click()
    assert order()[-1] == "lr=0.4"  # the best has no difference
    assert table.locator("th[aria-sort]").count() == 1
    table.get_by_role("button", name="config").click()
    assert order() == ["lr=0.1", "lr=0.4", "lr=0.8"]
