"""Take the README's pictures of pages, with Debian's Chromium.

    deconvnet explore ALEXNET ZFNET          (atlases of scikit-image's photos, in another terminal)
    python docs/draw_pages.py http://127.0.0.1:8000

ALEXNET and ZFNET are the folders' names, `alexnet2012` and `zfnet`. Of the report:

    deconvnet reproduce --quick --out report/
    python docs/draw_pages.py report/
"""

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from deconvnet.demo_images import demo_image

PICTURES = Path(__file__).parent / "pictures"


def save(page: Page, name: str) -> None:
    """What the window shows."""
    page.wait_for_load_state("networkidle")
    Image.open(BytesIO(page.screenshot())).convert("RGB").save(PICTURES / f"{name}.webp", quality=82, method=6)


def draw_pages(page: Page, address: str) -> None:
    """A unit's page, and the live page with a photo and its occlusion map."""
    page.goto(f"{address}/atlas/alexnet2012/index.html#conv3/66")
    page.wait_for_selector(".sources li")
    save(page, "page-unit")

    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "chelsea.png"
        demo_image("chelsea").save(photo)
        page.goto(f"{address}/?network=alexnet2012")
        page.set_input_files("#file", photo)
        page.wait_for_selector("#layers article")
        page.click("#run")
        page.wait_for_selector('#sweep-status:has-text("Done")')
        page.set_viewport_size({"width": 1320, "height": 1500})
        page.mouse.wheel(0, 230)
        page.wait_for_timeout(2000)  # the pictures that have come into view
        save(page, "page-live")


def draw_report(page: Page, folder: Path) -> None:
    """Fig. 6 of a report: what the paper says, what was measured, and the two networks' filters."""
    page.set_viewport_size({"width": 1320, "height": 1010})
    page.goto(f"{(folder / 'index.html').resolve().as_uri()}#fig-6")
    page.wait_for_timeout(2000)
    save(page, "page-report")


def main(what: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1320, "height": 860})
        if what.startswith("http"):
            draw_pages(page, what.rstrip("/"))
        else:
            draw_report(page, Path(what))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
