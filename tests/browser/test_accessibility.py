"""axe-core (npm) looks at every page, in both colour schemes."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from deconvnet.data import find_images


@pytest.fixture(scope="session")
def axe() -> str:
    """Its program; skips the test where it is not installed."""
    file = os.environ.get("DECONVNET_AXE")
    if not file:
        pytest.skip("DECONVNET_AXE does not name axe-core's axe.min.js (npm install axe-core)")
    return Path(file).read_text(encoding="utf-8")


def check(page: Page, axe: str) -> None:
    """Fails for what axe-core finds, whatever it thinks of its weight."""
    page.evaluate(axe)  # not as a script of the page, which its content security policy forbids
    violations = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    messages = [
        f"{rule['impact']} {rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in violations
        for node in rule["nodes"]
    ]
    assert not messages, "\n".join(messages)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", "#conv2?sort=selectivity", "#conv2/3", "#conv1/4", "#?q=church", "#conv9"])
def test_pages_of_an_atlas(page, atlases, axe, scheme, address):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{(atlases / 'one').as_uri()}/index.html{address}")
    page.wait_for_selector("main h1")
    check(page, axe)


def test_the_help(page, atlases, axe):
    page.goto(f"{(atlases / 'one').as_uri()}/index.html")
    page.get_by_role("button", name="Keys").click()
    check(page, axe)


def test_two_atlases(page, server, axe):
    page.goto(f"{server}/atlas/one/compare.html?with=other")
    expect(page.frame_locator("iframe").nth(1).get_by_role("heading", level=1)).to_be_visible()
    check(page, axe)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_live_page(page, server, photos, axe, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(server)
    check(page, axe)
    page.set_input_files("#file", find_images(photos).file(5))
    expect(page.locator("#layers section")).to_have_count(2)
    page.locator("#stage").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#change")).to_contain_text("without")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#sweep-status")).to_contain_text("Done")
    check(page, axe)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report(page, axe, report, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto((report / "index.html").as_uri())
    check(page, axe)
