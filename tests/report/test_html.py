"""The page: what it shows, of whom, and that nothing on it can do harm."""

import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

from PIL import Image

from deconvnet.report.paper_claims import NOT_REPRODUCED, SECTIONS


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.addresses, self.images, self.ids, self.tags, self.attributes = [], [], set(), [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        self.attributes |= set(values)
        self.ids |= {values["id"]} if "id" in values else set()
        if tag == "img":
            self.images.append(values)
        self.addresses += [values[name] for name in ("href", "src") if name in values]


def test_all_addresses_lead_to_what_is_there(report):
    page = _Page((report / "index.html").read_text())
    assert len(page.images) >= 2 + 2 * 2 + 2 + 3 + 2 + 2 + 2
    for address in page.addresses:
        file, _, anchor = address.partition("#")
        assert (report / unquote(file)).is_file() if file else anchor in page.ids, address


def test_pictures_have_their_true_size_and_say_what_they_are(report):
    for image in _Page((report / "index.html").read_text()).images:
        with Image.open(report / unquote(image["src"])) as file_image:
            assert file_image.size == (int(image["width"]), int(image["height"]))
        assert re.match(r"(Section 2.1|Fig. \d|Table 1, Fig. 8|Not in the paper): .+, (one|other) \(random\)", image["alt"])
        assert image["loading"] == "lazy"


def test_each_section_has_the_papers_claim_command_network_and_state(report):
    text = (report / "index.html").read_text()
    record = json.loads((report / "report.json").read_text())
    for section in SECTIONS:
        html = re.search(rf'<section id="{section.id}".*?</section>', text, re.S).group()
        assert section.claim.replace("'", "&#39;") in html
        keys = [key for key in record["steps"] if key.startswith(f"{section.id}/")]
        assert html.count('class="command"') == len(keys)
        for key in keys:
            assert record["steps"][key]["command"].replace(">", "&gt;") in html
    for full_name in ("one (random)", "other (random)"):
        assert text.count(f"<h3>{full_name}</h3>") >= 5
    for reason in NOT_REPRODUCED:
        assert reason in text
    assert re.search(r"#fig-4\">.*?not run", text, re.S)


def test_the_two_atlases_of_fig_2_open_side_by_side(report):
    assert '"alexnet"' in (report / "fig-2" / "zfnet" / "pages" / "atlas.js").read_text()


def test_names_of_photos_and_folders_cannot_run_anything(reproduce, arguments, input_folder, tmp_path):
    photos = tmp_path / "<script>alert(1)</script>".replace("/", "_")
    shutil.copytree(input_folder / "photos" / "val", photos)
    first = sorted(photos.rglob("*.png"))[0]
    first.rename(first.with_name('<b onclick="alert(1)">`b`  \udcff.png'))
    out = tmp_path / "a 'report' #1"
    assert reproduce(photos, *arguments[1:5], "--out", out, "--only", "look", "--seed", 3) == 0
    assert reproduce(photos, *arguments[1:5], "--out", out, "--only", "fig-3", "--seed", 3) == 0
    page = _Page((out / "index.html").read_text())
    assert "script" not in page.tags
    assert "onclick" not in page.attributes
    assert all((out / unquote(address)).is_file() for address in page.addresses if not address.startswith("#"))
