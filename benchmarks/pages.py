"""How fast an atlas's pages open and scroll, in a headless Chromium without a GPU: python benchmarks/pages.py ATLAS…

For every layer of every atlas, from disk, each in a new window: milliseconds from opening the layer's address until all
pictures in view are loaded; and while the whole grid scrolls at 3,000 pixels per second, how long frames take (16.7 ms is 60
per second) and the longest time for which scripts and layout block the page.
"""

import argparse
import json
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from deconvnet import Atlas

_WINDOW_SIZES = {"desktop": (1440, 900), "phone": (390, 844)}

_WAIT_FOR_PICTURES = """() => new Promise(resolve => {
    const pictures = () => [...document.querySelectorAll(".cell")].slice(0, 100).filter(cell => {
        const box = cell.getBoundingClientRect(); // not the picture's, which asks for what is laid out only when in view
        return box.bottom > 0 && box.top < innerHeight;
    }).map(cell => cell.querySelector("img"));
    const check = () => {
        const inView = pictures();
        if (inView.length && inView.every(picture => picture.complete)) resolve(performance.now());
        else requestAnimationFrame(check);
    };
    check();
})"""

_SCROLL = """seconds => new Promise(resolve => {
    const frames = [], blocks = [];
    const record = list => blocks.push(...list.getEntries().map(entry => entry.duration));
    new PerformanceObserver(record).observe({entryTypes: ["longtask"]});
    const began = performance.now();
    let last = began;
    const step = now => {
        frames.push(now - last);
        scrollTo(0, (now - began) * 3);
        last = now;
        if (now - began < 1000 * seconds) requestAnimationFrame(step);
        else resolve({frames: frames.slice(1), longest: Math.max(0, ...blocks)});
    };
    requestAnimationFrame(step);
})"""


def measure(page: Page, address: str) -> dict[str, float]:
    """Timings of one layer's page."""
    page.goto(address)
    loaded = page.evaluate(_WAIT_FOR_PICTURES)
    scrolled = page.evaluate(_SCROLL, 10)
    frames = sorted(scrolled["frames"]) or [0.0]
    return {
        "shown_ms": round(loaded),
        "frames": len(frames),
        "frame_median_ms": round(frames[len(frames) // 2], 1),
        "frame_99_percent_ms": round(frames[int(0.99 * (len(frames) - 1))], 1),
        "longest_block_ms": round(scrolled["longest"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlases", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="also write JSON")
    options = parser.parse_args()
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for folder in options.atlases:
            atlas = Atlas(folder)
            for name, (width, height) in _WINDOW_SIZES.items():
                for layer in atlas.description["layers"]:
                    context = browser.new_context(viewport={"width": width, "height": height})
                    address = f"{folder.resolve().as_uri()}/index.html#{layer['name']}"
                    row = {"network": atlas.description["network"]["name"], "layer": layer["name"], "units": layer["units"]}
                    rows.append({**row, "window": name, **measure(context.new_page(), address)})
                    print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
                    context.close()
        result = {"browser": browser.version, "rows": rows}
        browser.close()
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
