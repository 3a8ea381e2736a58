"""Write the pictures of docs/report.md: pages of stored results, as Chromium shows them. Nothing is trained."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from sections import ROOT

from normbench.report.page import page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: Each picture: the results that it shows, the scheme of colours, and the window.
PICTURES = {
    "report.png": (["mnist-lr"], "light", (1340, 840)),
    "report-dark.png": (["why-rates", "why-rates-paper"], "dark", (1280, 780)),
}


def main() -> None:
    """Write the pictures into docs/."""
    executable = next(filter(None, map(shutil.which, CHROMIUM)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for name, (results, scheme, size) in PICTURES.items():
            file = Path(folder) / f"{name}.html"
            file.write_bytes(page([Path("results") / f"{result}.json" for result in results]))
            _shoot(browser, file, scheme, size, ROOT / "docs" / name)


def _shoot(browser: Browser, file: Path, scheme: str, size: tuple[int, int], picture: Path) -> None:
    """Write what a window shows of a page, once the charts in it are drawn."""
    width, height = size
    shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    shown.goto(file.as_uri())
    shown.locator("svg.marks").first.wait_for()
    shown.wait_for_load_state("networkidle")
    shown.screenshot(path=picture)
    shown.close()


if __name__ == "__main__":
    main()
