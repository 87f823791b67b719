"""Photographs the upper part of a report: ``.venv/bin/python docs/images/report.py REPORT.html PICTURE.png [light|dark]``.

Needs Chromium (Debian: apt install chromium).
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1280, "height": 1500}


def main(report: str, picture: str, scheme: str = "light") -> None:
    """Takes the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()
        page.goto(Path(report).absolute().as_uri())
        image = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    image.convert("RGB").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
