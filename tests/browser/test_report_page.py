"""The page of a report in a browser: nothing from elsewhere, fits a phone, and prints each section on a sheet or more."""

import re

import pytest
from playwright.sync_api import expect

from deconvnet.report.paper_claims import SECTIONS


@pytest.fixture
def report_page(page, report, watched):
    page.goto((report / "index.html").as_uri())
    yield page
    watched.check("file://")


def test_pictures_appear_as_one_comes_to_them(report_page):
    for image in report_page.locator("main img").all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 100


def test_contents_lead_to_the_sections(report_page):
    report_page.get_by_role("link", name="Invariance", exact=True).click()
    expect(report_page.get_by_role("heading", level=2, name="Invariance")).to_be_in_viewport()
    assert report_page.url.endswith("#fig-5")


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_it_fits(report_page, width):
    report_page.set_viewport_size({"width": width, "height": 800})
    assert report_page.evaluate("document.documentElement.scrollWidth") <= width


def test_sentences_unfold(report_page):
    folded = report_page.locator("#fig-5 details").first
    expect(folded.locator("summary")).to_be_visible()
    expect(folded.locator("li").first).to_be_hidden()
    folded.locator("summary").click()
    expect(folded.locator("li").first).to_be_visible()


def test_it_prints_each_section_on_new_sheets(report_page):
    for image in report_page.locator("main img").all():
        image.scroll_into_view_if_needed()
    printed = report_page.pdf(format="A4")
    assert len(re.findall(rb"/Type /Page\b", printed)) >= len(SECTIONS)
