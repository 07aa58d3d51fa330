"""The page in real Chromium: a file in, an answer out, by keyboard, in the dark, on a phone."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from support.service_fakes import make_png

SCREENSHOT = Path(__file__).parents[3] / "build" / "page.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="the page's test needs Chromium"
)


@pytest.fixture
def page(app, serve_app):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
        opened = context.new_page()
        opened.failures = []
        opened.on("pageerror", lambda error: opened.failures.append(str(error)))
        opened.on(
            "console",
            lambda m: m.type == "error" and "403" not in m.text and opened.failures.append(m.text),
        )
        opened.goto(f"http://127.0.0.1:{serve_app(app).port}/")
        yield opened
        browser.close()


def test_the_page_answers_a_file_and_says_why_a_url_is_refused(page):
    assert page.locator(".notice").inner_text().startswith("Not a medical device.")
    file = {"name": "<b>.png", "mimeType": "image/png", "buffer": make_png(200)}
    page.set_input_files("#file", file)
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#word").inner_text().lower() == "fracture"
    assert page.locator("#probability").inner_text() == "0.78"
    assert page.locator("#warnings li").all_inner_texts() == ["a model of the tests"]
    look_at(page)
    assert page.evaluate("document.getElementById('slice').width") == 64
    page.focus("#opacity")
    page.keyboard.press("Home")
    assert page.evaluate("document.getElementById('heat').style.opacity") == "0"
    page.fill("#url", "http://127.0.0.1/a.png")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "public address" in page.locator("#problem-detail").inner_text()
    assert page.locator(".notice").is_visible()
    # No wider than the phone: nothing has to be scrolled sideways.
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width == 390
    assert page.failures == []


def look_at(page):
    """Leave a screenshot in `build/page.png` for people; the drawn slice must show in it."""
    SCREENSHOT.parent.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOT)
    box = page.locator("#slice").bounding_box()
    corners = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    with Image.open(SCREENSHOT) as shot:
        assert shot.size == (390, 844)
        # Of one shade everywhere, were the slice or its map not drawn.
        assert len(shot.convert("L").crop(corners).getcolors()) > 8


def test_no_answer_stands_beside_another_slice(page, predictor):
    slices = [{"name": "s", "mimeType": "image/png", "buffer": make_png(v)} for v in (200, 20)]
    page.set_input_files("#file", slices[0])
    page.wait_for_selector("#result:not([hidden])")
    # From here on the service is slow, and the page must not show the old answer meanwhile.
    predictor.hold.clear()
    page.set_input_files("#file", slices[1])
    page.wait_for_selector("#busy:not([hidden])")
    assert not page.locator("#result").is_visible()
    predictor.hold.set()
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#word").inner_text() == "No fracture seen on this slice"
    page.fill("#url", "http://127.0.0.1/a.png")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert not page.locator("#layers").is_visible()


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (
            "synthetic",
            "Demo model, trained on synthetic images. Its answers say nothing about a patient.",
        ),
        ("real", ""),
        ("unknown", "The training images of this model are not recorded."),
    ],
)
def test_what_the_model_learned_from_stands_above_the_answer(page, predictor, domain, said):
    predictor.domain = domain
    file = {"name": "s", "mimeType": "image/png", "buffer": make_png(20)}
    page.set_input_files("#file", file)
    page.wait_for_selector("#result:not([hidden])")
    note, word = page.locator("#domain"), page.locator("#word")
    assert note.inner_text() == said and note.is_visible() == bool(said)
    named = "training images not recorded" if domain == "unknown" else f"{domain} images"
    assert page.locator("#model").inner_text().endswith(f" · {named}")
    if said:
        assert note.bounding_box()["y"] < word.bounding_box()["y"]
    # No finding is no praise: neither large nor green.
    size = float(word.evaluate("e => getComputedStyle(e).fontSize").removesuffix("px"))
    red, green, blue = word.evaluate("e => getComputedStyle(e).color.match(/\\d+/g).map(Number)")
    assert size <= 30 and green <= max(red, blue)


def test_the_page_and_its_parts_are_our_own(client):
    html = client.get("/")
    assert html.status_code == 200
    assert "script-src 'self'" in html.headers["Content-Security-Policy"]
    assert "unsafe" not in html.headers["Content-Security-Policy"]
    for name in ("page.css", "page.js", "icon.svg"):
        assert f'"page/{name}"' in html.text
        part = client.get(f"/page/{name}")
        assert part.status_code == 200
        assert b"://" not in part.data.replace(b"http://www.w3.org/2000/svg", b"")
    assert client.get("/page/index.html").status_code == 404
    assert client.get("/page/..%2fapp.py").status_code == 404
