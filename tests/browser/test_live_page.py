"""Walks through the live page in a real browser: a photo, its classes and projections, an occluder, a cancelled run."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect
from starlette.requests import Request

from browser.conftest import NETWORKS, RequestLog
from deconvnet.data import find_images, read_image
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.occlusion_stream import OcclusionSweep
from deconvnet.explorer.served_networks import find_models
from deconvnet.explorer.uploads import UploadReader
from helpers.exploring import RunningServer

PICTURE, NUMBER = re.compile("blob:"), re.compile(r"^\d+$")


@pytest.fixture
def live(page: Page, server: str, watched: RequestLog) -> Iterator[Page]:
    """The live page; at the end, no complaint and no request to another place."""
    page.goto(f"{server}/")
    expect(page.locator("#network")).to_have_value("one")
    yield page
    watched.check(server)


@pytest.fixture
def photo(photos: Path) -> Path:
    return find_images(photos).file(5)


@pytest.fixture
def looking(live: Page, photo: Path) -> Page:
    """The live page with a photo on it."""
    live.set_input_files("#file", photo)
    expect(live.locator("#found")).to_be_visible()
    return live


def shown_classes(page: Page) -> dict[str, float]:
    """Probabilities by class, as percentages."""
    rows = page.locator("#classes .bars li")
    names, values = rows.locator(".name").all_text_contents(), rows.locator(".value").all_text_contents()
    return {name: float(value.strip("< %")) for name, value in zip(names, values, strict=True)}


def true_classes(name: str, x: torch.Tensor) -> dict[str, float]:
    network = NETWORKS[name]
    probabilities = network.probabilities(x[None])[0]
    return {title.partition(",")[0]: 100 * float(p) for (_, title), p in zip(network.classes, probabilities, strict=True)}


def test_a_photo_is_taken_apart(looking, photo):
    network = NETWORKS["one"]
    x = network.preprocess(read_image(photo))
    assert shown_classes(looking) == pytest.approx(true_classes("one", x), abs=0.6)
    layers = looking.locator("#layers section")
    expect(layers).to_have_count(2)
    for number, layer in enumerate(("conv1", "conv2")):
        maxima = network.activations(x[None], layer)[0].flatten(1).amax(dim=1)
        driven = [unit for unit in maxima.argsort(descending=True).tolist() if maxima[unit] > 0]
        cards = layers.nth(number).locator("article")
        expect(cards).to_have_count(len(driven))
        assert [title.split(" · ")[0] for title in cards.locator("h3").all_text_contents()] == [f"unit {u}" for u in driven]
    card = layers.nth(1).locator("article").first
    card.scroll_into_view_if_needed()
    expect(card.locator("button.cut")).to_have_attribute("style", PICTURE)
    expect(card.locator("figure img")).to_have_js_property("complete", True)
    assert card.locator("figure img").evaluate("picture => picture.naturalWidth") == 300
    card.locator("button.cut").click()
    expect(looking.get_by_role("dialog")).to_be_visible()
    assert looking.locator("#large-pictures img").evaluate_all("all => all.map(one => one.naturalWidth)") == [32, 32]
    looking.get_by_role("button", name="Close").click()
    card.get_by_role("link").click()
    expect(looking.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")


def test_any_place_of_a_map_is_projected_by_mouse_and_by_key(looking):
    card = looking.locator("#layers section").nth(0).locator("article").first
    card.scroll_into_view_if_needed()
    cut, caption, field = card.locator("button.cut"), card.locator("p.meaning").first, card.locator(".map-box")
    expect(cut).to_have_attribute("style", PICTURE)
    before = cut.get_attribute("style")
    expect(card.locator("canvas.map")).to_have_js_property("width", 16)
    box = field.bounding_box()
    field.click(position={"x": box["width"] * 2.5 / 16, "y": box["height"] * 3.5 / 16})
    expect(caption).to_contain_text("row 3, column 2")
    assert cut.get_attribute("style") != before
    field.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        looking.keyboard.press(key)
    expect(caption).to_contain_text("row 4, column 4")


def test_another_unit_is_shown(looking):
    section = looking.locator("#layers section").nth(0)
    count = section.locator("article").count()
    section.get_by_label("Unit of conv1").fill("4")  # the dead one, which no photo drives
    section.get_by_role("button", name="Show", exact=True).click()
    card = section.locator("article").first
    expect(card).to_be_focused()
    expect(card.locator("h3")).to_contain_text("unit 4 · 0")
    expect(card).to_contain_text("0, so nothing to project")
    section.get_by_role("button", name="Show", exact=True).click()  # it is there already
    expect(section.locator("article")).to_have_count(count + 1)


def test_an_occluder_changes_the_probabilities(looking, photo):
    x = NETWORKS["one"].preprocess(read_image(photo))
    stage = looking.locator("#stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()

    def at(pixel_x: float, pixel_y: float) -> tuple[float, float]:
        return box["x"] + box["width"] * pixel_x / 32, box["y"] + box["height"] * pixel_y / 32

    looking.mouse.move(*at(4, 6))
    looking.mouse.down()
    looking.mouse.move(*at(10, 9))
    looking.mouse.move(*at(24, 20))
    looking.mouse.up()
    expect(looking.locator("#occluder")).to_be_visible()
    expect(looking.locator("#change")).to_contain_text("without the occluder")
    covered = x.clone()
    covered[:, 6:20, 4:24] = 0
    _eventually(lambda: shown_classes(looking) == pytest.approx(true_classes("one", covered), abs=0.6))
    expect(looking.locator("#classes .before")).to_have_count(3)

    looking.get_by_role("button", name="Take the occluder away").click()
    expect(looking.locator("#occluder")).to_be_hidden()
    assert shown_classes(looking) == pytest.approx(true_classes("one", x), abs=0.6)

    stage.focus()
    for key in ("Enter", "ArrowLeft", "ArrowUp", "Shift+ArrowRight"):  # 8×8 in the middle, moved by 1, a column wider
        looking.keyboard.press(key)
    covered = x.clone()
    covered[:, 11:19, 11:20] = 0
    _eventually(lambda: shown_classes(looking) == pytest.approx(true_classes("one", covered), abs=0.6))
    looking.keyboard.press("Delete")
    expect(looking.locator("#occluder")).to_be_hidden()


def test_an_occlusion_map_arrives(looking):
    expect(looking.get_by_label("Size")).to_have_value("7")
    expect(looking.get_by_label("Step")).to_have_value("1")
    looking.get_by_label("Step").fill("5")
    looking.get_by_role("button", name="Run").click()
    expect(looking.locator("#sweep-status")).to_contain_text("Done: 36 positions")
    expect(looking.locator("#heat")).to_be_visible()
    painted = looking.locator("#heat").evaluate(
        """heat => {
            const {data} = heat.getContext("2d").getImageData(0, 0, heat.width, heat.height);
            return data.filter((value, index) => index % 4 === 3 && value > 0).length;
        }"""
    )
    assert painted == 32 * 32
    expect(looking.locator("#range")).to_contain_text("the probability of")
    looking.get_by_text("Activation", exact=True).click()
    expect(looking.locator("#range")).to_contain_text("the sum of all activations of conv2 · unit")
    looking.get_by_text("Off", exact=True).click()
    expect(looking.locator("#heat")).to_be_hidden()
    looking.locator("#follow").select_option("conv1 · 1")
    looking.get_by_role("button", name="Run").click()  # whoever makes another map wants to see it
    expect(looking.locator("#heat")).to_be_visible()
    looking.get_by_text("Activation", exact=True).click()
    expect(looking.locator("#range")).to_contain_text("the sum of all activations of conv1 · unit 1 ")


def slowed(original: Callable[[OcclusionSweep], dict], steps: list[int] | None = None) -> Callable[[OcclusionSweep], dict]:
    """`run_batch`, slowed down, with small batches."""

    def slow(sweep: OcclusionSweep) -> dict:
        time.sleep(0.05)
        if steps is not None:
            steps.append(sweep.done_count)
        sweep._batch_size = 4
        return original(sweep)

    return slow


def test_a_cancelled_run_stops_computing(looking, monkeypatch):
    steps: list[int] = []
    original = OcclusionSweep.run_batch
    monkeypatch.setattr(OcclusionSweep, "run_batch", slowed(original, steps))
    looking.get_by_role("button", name="Run").click()
    expect(looking.locator("#progress")).to_have_attribute("value", NUMBER)
    looking.locator("#stage").focus()  # nothing blocks the page: an occluder is answered in between
    looking.get_by_role("button", name="Cancel").click()
    expect(looking.locator("#sweep-status")).to_contain_text("Cancelled after")
    expect(looking.get_by_role("button", name="Run")).to_be_focused()
    time.sleep(0.3)
    made = len(steps)
    time.sleep(0.5)
    assert len(steps) == made < 676 / 4
    monkeypatch.setattr(OcclusionSweep, "run_batch", original)
    looking.get_by_role("button", name="Run").click()
    expect(looking.locator("#sweep-status")).to_contain_text("Done: 676 positions")


def test_the_page_answers_while_a_map_is_made(looking, monkeypatch):
    monkeypatch.setattr(OcclusionSweep, "run_batch", slowed(OcclusionSweep.run_batch))
    looking.get_by_role("button", name="Run").click()
    expect(looking.locator("#progress")).to_have_attribute("value", NUMBER)
    looking.locator("#stage").focus()
    looking.keyboard.press("Enter")
    expect(looking.locator("#change")).to_contain_text("without the occluder", timeout=2000)
    expect(looking.get_by_role("button", name="Cancel")).to_be_visible()
    looking.get_by_role("button", name="Cancel").click()
    expect(looking.locator("#sweep-status")).to_contain_text("Cancelled")


def test_a_tap_covers_a_square(chromium, server, photo):
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(server)
    page.set_input_files("#file", photo)
    expect(page.locator("#found")).to_be_visible()
    page.locator("#stage").tap()
    expect(page.locator("#change")).to_contain_text("without the occluder")
    assert page.evaluate("covered") == {"left": 12, "top": 12, "width": 8, "height": 8}
    assert page.locator("#stage").evaluate("stage => getComputedStyle(stage).touchAction") == "manipulation"  # it scrolls
    context.close()


def test_back_and_reload_show_the_photo_again(looking):
    looking.locator("#network").select_option("other")
    expect(looking.locator("#layers section")).to_have_count(3)
    classes = shown_classes(looking)
    looking.locator("#layers article").first.get_by_role("link").click()
    expect(looking.get_by_role("heading", level=1)).to_contain_text("conv1 · unit")
    looking.go_back()
    expect(looking.locator("#layers section")).to_have_count(3)
    looking.reload()
    expect(looking.locator("#layers section")).to_have_count(3)
    expect(looking.locator("#network")).to_have_value("other")
    assert shown_classes(looking) == classes


def test_another_network_looks_at_the_same_photo(looking, photo):
    looking.locator("#network").select_option("other")
    expect(looking.locator("#layers section")).to_have_count(3)
    assert shown_classes(looking) == pytest.approx(
        true_classes("other", NETWORKS["other"].preprocess(read_image(photo))), abs=0.6
    )


def test_a_photo_is_dropped(live, photo):
    transfer = live.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
            return transfer;
        }""",
        list(photo.read_bytes()),
    )
    live.dispatch_event("main", "drop", {"dataTransfer": transfer})
    expect(live.locator("#layers section")).to_have_count(2)


def test_a_photo_of_the_atlas_is_taken(live):
    live.get_by_role("button", name="Photo 3 of the atlas").click()
    expect(live.locator("#layers section")).to_have_count(2)


def test_what_is_no_photo_is_one_sentence_and_the_page_goes_on(page, server, photo):
    page.goto(f"{server}/")  # the browser's own console reports the refusal, so this page is not watched
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"not a photo"})
    expect(page.get_by_role("alert")).to_have_text(
        "This file is not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF image, or it is damaged."
    )
    page.set_input_files("#file", photo)
    expect(page.locator("#layers section")).to_have_count(2)
    expect(page.get_by_role("alert")).to_be_hidden()
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"not a photo"})
    expect(page.get_by_role("alert")).to_be_visible()
    card = page.locator("#layers section").nth(1).locator("article").first  # what was shown goes on
    card.scroll_into_view_if_needed()
    expect(card.locator("button.cut")).to_have_attribute("style", PICTURE)
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.locator("#stage").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#change")).to_contain_text("without the occluder")


def test_a_server_that_ends_says_so(page, atlases, photo, monkeypatch):
    explorer = Explorer(find_models([atlases / "one"], [NETWORKS["one"]]))
    server = RunningServer(explorer)
    monkeypatch.setattr(OcclusionSweep, "run_batch", slowed(OcclusionSweep.run_batch))
    page.goto(server.address)
    page.set_input_files("#file", photo)
    expect(page.locator("#layers section")).to_have_count(2)
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#progress")).to_have_attribute("value", NUMBER)
    server.stop()
    expect(page.get_by_role("alert")).to_contain_text("The server")
    expect(page.locator("#sweep-status")).to_contain_text("Stopped after")
    page.set_input_files("#file", photo)
    expect(page.get_by_role("alert")).to_have_text("The server does not answer: is deconvnet explore still running?")


def test_a_photo_may_be_chosen_before_the_networks_are_there(page, server, photo):
    held = []
    page.route("**/api/networks", lambda route: held.append(route))
    page.goto(f"{server}/")
    page.set_input_files("#file", photo)
    expect(page.locator("#status")).to_have_text("Reading the photo …")
    held.pop().continue_()
    expect(page.locator("#layers section")).to_have_count(2)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_photo_chosen_while_the_networks_cannot_be_listed(page, server, photo):
    held = []
    page.route("**/api/networks", lambda route: held.append(route))
    page.goto(f"{server}/")
    page.set_input_files("#file", photo)
    held.pop().abort()
    expect(page.get_by_role("alert")).to_have_text("The server does not answer: is deconvnet explore still running?")
    expect(page.locator("#status")).to_have_text("")


def test_the_network_may_change_while_a_photo_is_sent(live, photo, monkeypatch):
    original = UploadReader.read

    async def slow(reader: UploadReader, request: Request) -> object:
        await asyncio.sleep(0.5)
        return await original(reader, request)

    monkeypatch.setattr(UploadReader, "read", slow)
    live.set_input_files("#file", photo)
    live.locator("#network").select_option("other")
    expect(live.locator("#layers section")).to_have_count(3)


def test_from_an_atlas_to_the_live_page_and_back(live, server):
    live.get_by_role("link", name="Atlas other").click()
    live.get_by_role("link", name="Your own photo").click()
    expect(live.locator("#network")).to_have_value("other")
    live.get_by_role("link", name="Atlas one").click()
    expect(live.get_by_role("link", name="Compare")).to_have_attribute("href", "compare.html?with=other")
    live.get_by_role("link", name="Compare").click()
    expect(live.frame_locator("iframe").nth(1).get_by_role("heading", level=1)).to_have_text("other (random)")


def test_a_phone_is_wide_enough(looking):
    looking.set_viewport_size({"width": 360, "height": 740})
    assert looking.evaluate("document.documentElement.scrollWidth") <= 360


def test_dark_where_the_reader_wants_it_dark(live):
    live.emulate_media(color_scheme="dark")
    assert live.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"


def _eventually(condition) -> None:
    """Answers keep up with the pointer, so the last is not there at once."""
    for _ in range(50):
        if condition():
            return
        time.sleep(0.1)
    assert condition()
