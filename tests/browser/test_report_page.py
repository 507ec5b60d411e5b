"""The page of a report in a browser: nothing from elsewhere, fits a phone, and prints a part to a sheet or more."""

import re

import pytest
from playwright.sync_api import expect

from deconvnet.report.paper_claims import PARTS


@pytest.fixture
def opened(page, report, watched):
    page.goto((report / "index.html").as_uri())
    yield page
    watched.check("file://")


def test_pictures_appear_as_one_comes_to_them(opened):
    for image in opened.locator("main img").all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 100


def test_contents_lead_to_the_parts(opened):
    opened.get_by_role("link", name="Invariance", exact=True).click()
    expect(opened.get_by_role("heading", level=2, name="Invariance")).to_be_in_viewport()
    assert opened.url.endswith("#fig-5")


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_it_fits(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_sentences_unfold(opened):
    folded = opened.locator("#fig-5 details").first
    expect(folded.locator("summary")).to_be_visible()
    expect(folded.locator("li").first).to_be_hidden()
    folded.locator("summary").click()
    expect(folded.locator("li").first).to_be_visible()


def test_it_prints_each_part_on_sheets_of_its_own(opened):
    for image in opened.locator("main img").all():
        image.scroll_into_view_if_needed()
    printed = opened.pdf(format="A4")
    assert len(re.findall(rb"/Type /Page\b", printed)) >= len(PARTS)
