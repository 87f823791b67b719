"""Photographs the page of ``demo.py`` at work: ``.venv/bin/python docs/images/demo.py RUN SUPPORT QUERY PICTURE.png``.

RUN, SUPPORT and QUERY are those of ``predict.py``. Needs Chromium (Debian: apt install chromium).
"""

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from fewshot import FewShotLearner
from fewshot.predict.demo_server import DemoServer
from fewshot.predict.examples import Example, read_queries, read_support

CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1100, "height": 400}


@contextmanager
def opened(learner: FewShotLearner) -> Iterator[Page]:
    """The page of a learner, in a headless browser."""
    with DemoServer(learner, 0) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(f"http://127.0.0.1:{server.server_port}")
        page.wait_for_selector("#queries > *")
        yield page
        browser.close()
        server.shutdown()


def recognise(page: Page, support: list[Example], queries: list[Example]) -> None:
    """Gives examples and queries to the page as a user does, and waits for the answer."""
    names = sorted({example.label for example in support})
    cards = page.locator("#classes > .card")
    while cards.count() < len(names):
        page.click("#add")
    for number, name in enumerate(names):
        cards.nth(number).locator("input").fill(name)
        _give(page, cards.nth(number), [example for example in support if example.label == name])
    _give(page, page.locator("#queries"), queries)
    page.click("#go")
    page.wait_for_selector("#result:not([hidden]), #error:not(:empty)")


def _give(page: Page, card: Locator, examples: list[Example]) -> None:
    if isinstance(examples[0].item, str):
        card.locator("textarea").fill("\n".join(str(example.item) for example in examples))
        return
    with page.expect_file_chooser() as chooser:
        card.locator(".drop").click()
    chooser.value.set_files([Path(example.item) for example in examples])


def main(run: str, support: str, query: str, picture: str) -> None:
    """Takes the picture of the whole page."""
    with opened(FewShotLearner.from_run(run)) as page:
        recognise(page, read_support(support)[0], read_queries(query))
        image = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    image.convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
