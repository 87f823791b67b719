"""Photographs TensorBoard on a folder of runs, into tensorboard.png beside this file.

Needs Chromium (Debian: apt install chromium): ``.venv/bin/python docs/images/tensorboard.py FOLDER``.
"""

import io
import socket
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PORT = 6116
WIDTH = 1800
PAGES = {
    "?tagFilter=^val/(acc$|adaptation)&smoothing=0#timeseries": 690,
    "#hparams": 310,
}
"""Address of a page -> height that is shown of it, pixels."""
LOADING = 15_000
"""Milliseconds that a page has to draw itself."""


def main(folder: str) -> None:
    """Takes the pictures and puts them one below the other."""
    tensorboard = subprocess.Popen([Path(sys.executable).parent / "tensorboard", "--logdir", folder, "--port", str(PORT)])
    try:
        wait_for(tensorboard)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            pictures = [photograph(browser, address, height) for address, height in PAGES.items()]
    finally:
        tensorboard.terminate()
    whole = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)))
    for number, picture in enumerate(pictures):
        whole.paste(picture, (0, sum(above.height for above in pictures[:number])))
    whole.quantize(128).save(Path(__file__).with_suffix(".png"), optimize=True)


def wait_for(tensorboard: subprocess.Popen[bytes]) -> None:
    """Until it answers, or has ended."""
    while tensorboard.poll() is None:
        with socket.socket() as connection:
            if connection.connect_ex(("localhost", PORT)) == 0:
                return
        time.sleep(0.5)
    sys.exit("TensorBoard has ended")


def photograph(browser, address: str, height: int) -> Image.Image:  # type: ignore[no-untyped-def]
    """The upper part of a page."""
    page = browser.new_page(viewport={"width": WIDTH, "height": height})
    page.goto(f"http://localhost:{PORT}/{address}", timeout=60_000)
    page.wait_for_timeout(LOADING)
    settings = page.get_by_role("button", name="Settings")
    if "timeseries" in address and settings.count():
        settings.last.click()
        page.wait_for_timeout(LOADING)
    return Image.open(io.BytesIO(page.screenshot()))


if __name__ == "__main__":
    main(sys.argv[1])
