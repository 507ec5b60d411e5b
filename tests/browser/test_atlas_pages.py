"""Walks through an atlas in a real browser, from disk and from the server."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from deconvnet import Atlas
from deconvnet.atlas.render import UnitLayout
from deconvnet.atlas.tables import read_table


@pytest.fixture
def book(atlases: Path) -> Atlas:
    return Atlas(atlases / "one")


def loaded(page: Page, selector: str) -> None:
    """Wait until the first picture is there, and see that it is one."""
    expect(page.locator(selector).first).to_have_js_property("complete", True)
    assert page.locator(selector).first.evaluate("picture => picture.naturalWidth") > 1


def test_from_the_overview_to_a_layer_to_a_unit_to_its_neighbours(page, site, book):
    page.goto(f"{site.address}one/index.html")
    expect(page.get_by_role("heading", level=1)).to_have_text("one (random)")
    expect(page.get_by_text("What excites 10 units most among 24 photos")).to_be_visible()
    cards = page.locator(".card")
    expect(cards).to_have_count(2)
    expect(cards.first).to_contain_text("5 units · maps of 16×16 · each activation sees 5×5 pixels · 1 dead unit")
    loaded(page, ".strip img")

    cards.first.get_by_role("link", name="conv1", exact=True).click()
    expect(page).to_have_url(f"{site.address}one/index.html#conv1")
    expect(page.locator(".grid .cell")).to_have_count(5)
    expect(page.locator(".grid .cell").nth(4)).to_have_text("conv1 unit 4 never active")
    loaded(page, ".grid img")

    page.locator(".grid .cell").nth(1).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("conv1 · unit 1")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(f"{site.address}one/index.html#conv1/2")
    expect(page.get_by_role("heading", level=1)).to_have_text("conv1 · unit 2")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", level=1)).to_have_text("conv1 · unit 0")
    page.keyboard.press("ArrowLeft")  # there is none before
    expect(page).to_have_url(f"{site.address}one/index.html#conv1/0")
    page.keyboard.press("]")
    expect(page).to_have_url(f"{site.address}one/index.html#conv2")
    page.keyboard.press("[")
    page.keyboard.press("Escape")
    expect(page.locator(".card")).to_have_count(2)
    page.go_back()
    expect(page).to_have_url(f"{site.address}one/index.html#conv1")


def test_a_unit_shows_what_the_tables_say(page, site, book):
    page.goto(f"{site.address}one/index.html#conv2/3")
    hits = [row for row in book.hits if (row["layer"], row["unit"]) == ("conv2", "3")]
    assert len(hits) == 9
    sources = page.locator(".sources li")
    expect(sources).to_have_count(9)
    images = {row["image"]: row["path"] for row in _table(book, "images.csv")}
    for number, hit in enumerate(hits):
        source = sources.nth(number)
        expect(source.locator(".path")).to_have_text(images[hit["image"]])
        expect(source).to_contain_text(f"at row {hit['row']}, column {hit['column']}")
        assert float(source.locator("b").inner_text()) == pytest.approx(float(hit["value"]), rel=5e-3)
        style = source.locator(".box").evaluate("b => [b.style.left, b.style.top, b.style.width, b.style.height]")
        left, top, right, bottom = (int(hit[edge]) for edge in ("left", "top", "right", "bottom"))
        shown = [float(value.rstrip("%")) * 32 / 100 for value in style]
        assert shown == pytest.approx([left, top, right - left, bottom - top], abs=1e-3)
    row = next(row for row in book.units if (row["layer"], row["unit"]) == ("conv2", "3"))
    facts = page.locator(".numbers dl").inner_text()
    assert f"{float(row['selectivity']):.3f}" in facts
    assert f"{float(row['active_share']):.0%} of 24 photos" in facts
    counts = [int(value) for value in list(row.values())[5:]]
    titles = page.locator(".histogram rect title").all_text_contents()
    assert sum(int(title.split(": ")[1].split()[0]) for title in titles) == sum(counts)
    expect(page.locator(".bars li").first).to_contain_text(("tench", "church", "golf ball")[_best_class(book, "conv2", 3)])


def test_tiles_are_cut_out_of_the_picture_where_they_stand(page, site, book):
    """What the browser paints for a tile is that part of the unit's picture: compared by its mean colours."""
    page.goto(f"{site.address}one/index.html#conv2/3")
    loaded(page, ".sources img")
    picture = book.picture("conv2", 3)
    entry = next(entry for entry in book.description["layers"] if entry["name"] == "conv2")
    layout = UnitLayout((entry["picture"]["height"], entry["picture"]["width"]), 9)
    for block, name in enumerate(("projections", "patches")):
        left, top, _, _ = layout.box(block)
        for place in (0, 5, 8):
            side = layout.tile[0]
            x, y = left + place % 3 * (side + 1), top + place // 3 * (side + 1)
            wanted = picture.crop((x + 4, y + 4, x + side - 4, y + side - 4)).resize((4, 4), 5)
            shown = _screenshot(page.locator(f".block.{name} .tile").nth(place))
            inset = round(shown.width * 4 / side)
            shown = shown.crop((inset, inset, shown.width - inset, shown.height - inset)).resize((4, 4), 5)
            assert np.abs(np.asarray(wanted, dtype=float) - np.asarray(shown)).max() < 25, (name, place)


def test_a_tile_leads_to_its_photo(page, site):
    page.goto(f"{site.address}one/index.html#conv2/3")
    page.locator(".block.patches button").nth(4).click()
    expect(page.locator("#source-5")).to_be_focused()


def test_a_dead_unit_says_so(page, site):
    page.goto(f"{site.address}one/index.html#conv1/4")
    expect(page.get_by_text("None of the 24 photos makes this unit active: it is dead.")).to_be_visible()


@pytest.mark.parametrize("address", ["conv2/3?sort=selectivity&show=patches", "conv1?show=projections", "?q=tench"])
def test_an_address_opens_what_it_names(page, site, address):
    page.goto(f"{site.address}one/index.html#{address}")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        {"c2": "conv2 · unit 3", "c1": "conv1"}.get(address[0] + address[4:5], "“tench”")
    )
    if "show=" in address:
        shown = address.rpartition("=")[2]
        expect(page.get_by_role("radio", name=shown.capitalize())).to_be_checked()
        hidden = page.locator(".block.projections") if shown == "patches" and "/" in address else None
        if hidden:
            expect(hidden).to_be_hidden()
            expect(page.locator(".block.patches")).to_be_visible()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("conv9", "This atlas has no layer conv9; it has conv1, conv2."),
        ("conv2/99", "This atlas shows no unit 99 in conv2; it shows 5 units of it."),
        ("%E0%A4%A", "This atlas has no layer %E0%A4%A"),
        ("constructor/__proto__", "This atlas has no layer constructor"),
    ],
)
def test_an_address_of_nothing_says_so_and_leaves_a_way_on(page, site, address, message):
    page.goto(f"{site.address}one/index.html#{address}")
    expect(page.get_by_role("alert")).to_contain_text(message)
    page.get_by_role("navigation", name="Layers").get_by_role("link", name="conv1").click()
    expect(page.locator(".grid .cell")).to_have_count(5)


def test_projections_and_patches_are_toggled_by_button_and_key(page, site):
    page.goto(f"{site.address}one/index.html#conv2")
    cell = page.locator(".cell img").first
    expect(page.get_by_role("radio", name="Both")).to_be_checked()
    page.get_by_text("Patches", exact=True).click()
    expect(page).to_have_url(f"{site.address}one/index.html#conv2?show=patches")
    expect(cell).to_have_css("object-position", "100% 0px")
    page.locator("main").focus()
    page.keyboard.press("p")
    page.keyboard.press("p")
    expect(page.get_by_role("radio", name="Projections")).to_be_checked()
    expect(cell).to_have_css("object-position", "0px 0px")
    page.locator(".cell").first.click()
    expect(page.locator(".block.patches")).to_be_hidden()


def test_a_layer_is_sorted_and_neighbours_keep_the_order(page, site, book):
    page.goto(f"{site.address}one/index.html#conv2")
    rows = [row for row in book.units if row["layer"] == "conv2"]
    strongest = {row["unit"]: 0.0 for row in rows} | {
        row["unit"]: float(row["value"]) for row in book.hits if row["layer"] == "conv2" and row["rank"] == "1"
    }
    orders = {
        "strongest first": sorted(strongest, key=lambda unit: -strongest[unit]),
        "most selective first": [r["unit"] for r in sorted(rows, key=lambda row: -float(row["selectivity"]))],
        "most often active first": [r["unit"] for r in sorted(rows, key=lambda row: -float(row["active_share"]))],
        "least often active first": [r["unit"] for r in sorted(rows, key=lambda row: float(row["active_share"]))],
    }
    for words, order in orders.items():
        page.get_by_label("Sorted by").select_option(words)
        expect(page.locator(".cell b")).to_have_text(order)
    page.get_by_label("Sorted by").select_option("strongest first")
    order = orders["strongest first"]
    expect(page.locator(".cell b")).to_have_text(order)
    page.locator(".cell").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"conv2 · unit {order[0]}")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"conv2 · unit {order[1]}")
    expect(page.get_by_text("2 of 5, strongest first")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(f'[data-unit="{order[1]}"]')).to_be_focused()  # where one came from


def test_pictures_load_as_they_come_near(page, site):
    page.set_viewport_size({"width": 300, "height": 150})
    page.goto(f"{site.address}one/index.html#conv2?show=patches")
    last = page.locator(".cell img").last
    page.wait_for_selector(".cell")
    assert last.get_attribute("src") is None
    page.mouse.wheel(0, 3000)
    expect(last).to_have_attribute("src", "conv2/0004-small.webp")
    expect(last).to_have_js_property("complete", True)


def test_search_by_number_by_unit_and_by_class(page, site, book):
    page.goto(f"{site.address}one/index.html")
    page.keyboard.press("/")
    search = page.get_by_label("Unit or class")
    expect(search).to_be_focused()
    search.fill("3")
    search.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("“3”")
    expect(page.locator(".cell b")).to_have_text(["3", "3"])

    search.fill("CONV2 1")
    search.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("conv2 · unit 1")

    driven = [
        (layer, unit)
        for layer in book.layers
        for unit in range(5)
        if _best_class(book, layer, unit) == 1 and (layer, unit) != ("conv1", 4)
    ]
    search.fill("church")
    search.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("“church”")
    expect(page.locator(".cell")).to_have_count(len(driven))
    found = {
        tuple(href.lstrip("#").split("/"))
        for href in page.locator(".cell").evaluate_all("cells => cells.map(c => c.getAttribute('href'))")
    }
    assert found == {(layer, str(unit)) for layer, unit in driven}

    search.fill("nothing of the kind")
    search.press("Enter")
    expect(page.get_by_text("Nothing here is called so.")).to_be_visible()


def test_a_file_name_is_never_markup(page, site):
    page.on("dialog", lambda dialog: pytest.fail("a name was run as a script"))
    for unit in range(5):
        page.goto(f"{site.address}one/index.html#conv2/{unit}")
        page.wait_for_selector(".sources li")
        if page.get_by_text("<img src=x onerror=alert(1)>.png").count():
            return
    pytest.fail("the photo with that name is among no unit's strongest")


def test_keys_may_come_faster_than_pages(page, site):
    page.goto(f"{site.address}one/index.html#conv1/0")
    expect(page.get_by_role("heading", level=1)).to_have_text("conv1 · unit 0")
    page.evaluate(
        """() => {
            for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"]) {
                document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
            }
        }"""
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("conv1 · unit 2")


def test_words_of_javascript_in_an_address_mean_nothing(page, site):
    page.goto(f"{site.address}one/index.html#conv2?sort=__proto__&show=constructor")
    expect(page.get_by_label("Sorted by")).to_have_value("number")
    page.goto(f"{site.address}one/index.html#?q=n03028079")  # and an id finds its class
    expect(page.get_by_text("that church drives more than any other class")).to_be_visible()


def test_dark_where_the_reader_wants_it_dark(chromium, site, watched):
    colours = {}
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(f"{site.address}one/index.html#conv2/3")
        page.wait_for_selector(".sources li")
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        context.close()
    watched.requests.append(site.address)  # that page was in another window
    assert colours == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}


@pytest.mark.parametrize("address", ["", "#conv2", "#conv2/3", "#?q=church"])
def test_a_phone_is_wide_enough(page, site, address):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{site.address}one/index.html{address}")
    page.wait_for_selector("main h1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_everything_is_reached_by_the_keyboard_alone(page, site):
    page.goto(f"{site.address}one/index.html#conv2")
    page.wait_for_selector(".cell")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.address}one/index.html#conv2")  # an address of its own would be a layer
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('cell')"):
            break
    expect(page.locator(".cell").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("conv2 · unit 0")
    page.get_by_role("button", name="Keys").press("Enter")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("ArrowRight")  # the page behind does not move
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("conv2 · unit 0")


def _table(book: Atlas, name: str) -> list[dict[str, str]]:
    return read_table(book.folder / name)


def _best_class(book: Atlas, layer: str, unit: int) -> int:
    with np.load(book.folder / "classes.npz", allow_pickle=False) as arrays:
        return int((arrays[layer][:, unit] / arrays["images"]).argmax())


def _screenshot(locator: Locator) -> Image.Image:
    return Image.open(BytesIO(locator.screenshot())).convert("RGB")
