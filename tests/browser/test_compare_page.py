"""Two atlases side by side, linked, in a real browser."""

import pytest
from playwright.sync_api import expect


def test_two_atlases_side_by_side_follow_each_other(page, site):
    page.goto(f"{site.address}one/compare.html?with=other")
    left, right = (page.frame_locator("iframe").nth(number) for number in (0, 1))
    left.get_by_role("navigation").get_by_role("link", name="conv2").click()
    expect(right.get_by_role("heading", level=1)).to_have_text("conv2")
    right.get_by_label("Sorted by").select_option("strongest first")
    expect(left.get_by_label("Sorted by")).to_have_value("strength")

    left.locator(".cell").first.click()
    expect(left.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")
    expect(right.get_by_label("Sorted by")).to_have_value("shared")
    shared = right.locator(".caption").all_text_contents()
    counts = [int(text.split()[3]) if len(text.split()) > 3 else 0 for text in shared]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0
    right.locator(".cell").first.click()  # both units stay
    expect(right.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")
    expect(left.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")

    address = page.url
    assert "#conv2/" in address
    page.goto("about:blank")
    page.goto(address)
    expect(left.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")
    expect(right.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")

    right.get_by_role("navigation").get_by_role("link", name="conv3").click()  # which the left one lacks
    expect(right.get_by_role("heading", level=1)).to_have_text("conv3")
    expect(left.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")
    page.get_by_label("linked").uncheck()
    right.get_by_role("navigation").get_by_role("link", name="conv1").click()
    expect(right.get_by_role("heading", level=1)).to_have_text("conv1")
    expect(left.get_by_role("heading", level=1)).to_contain_text("conv2 · unit")


def test_linked_atlases_keep_their_units_and_go_back_step_by_step(page, site):
    page.goto(f"{site.address}one/compare.html?with=other")
    left, right = (page.frame_locator("iframe").nth(number) for number in (0, 1))
    for layer in ("conv1", "conv2"):
        left.get_by_role("navigation").get_by_role("link", name=layer).click()
        expect(right.get_by_role("heading", level=1)).to_have_text(layer)
    left.locator('[data-unit="1"]').click()
    expect(right.get_by_label("Sorted by")).to_have_value("shared")
    for unit in (2, 3):
        left.locator("main").press("ArrowRight")
        expect(left.get_by_role("heading", level=1)).to_have_text(f"conv2 · unit {unit}")
        page.wait_for_timeout(200)  # for an answer that would take it away again
        expect(left.get_by_role("heading", level=1)).to_have_text(f"conv2 · unit {unit}")
    for there in ("conv2 · unit 2", "conv2 · unit 1", "conv2", "conv1"):
        page.go_back()
        expect(left.get_by_role("heading", level=1)).to_have_text(there)
    expect(right.get_by_role("heading", level=1)).to_have_text("conv1")


def test_the_other_atlas_is_chosen_on_the_page(page, site):
    page.goto(f"{site.address}one/compare.html")
    page.get_by_label("beside").fill("other")
    page.get_by_role("button", name="Show").click()
    expect(page.frame_locator("iframe").nth(1).get_by_role("heading", level=1)).to_have_text("other (random)")


def test_an_atlas_that_is_not_there_to_compare_with(page, atlases):
    page.goto(f"{(atlases / 'one').as_uri()}/compare.html?with=a folder, not there")
    expect(page.get_by_text("There is no atlas in the folder a folder, not there beside this one")).to_be_visible()


@pytest.mark.parametrize("name", ["https://example.org", "..", "a/../../b", "//example.org/x"])
def test_only_a_folder_beside_can_be_compared_with(page, site, name):
    page.goto(f"{site.address}one/compare.html?with={name}")
    expect(page.get_by_text(f"{name} is not the name of a folder beside this atlas.")).to_be_visible()
    assert page.locator("iframe").count() == 0
