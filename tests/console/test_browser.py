"""The console in headless Chromium, served by `assay up`: every page, wide and narrow, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEWS = [(1280, "light"), (1280, "dark"), (375, "light"), (375, "dark")]
PAGES = {
    "overview": "/",
    "traces": "/traces",
    "tree": "/traces/{agent}",
    "long": "/traces/{long}",
    "hostile": "/traces/{hostile}",
    "parts": "/traces/{parts}",
    "failed": "/traces/{failed}",
    "experiments": "/experiments",
    "experiment": "/experiments/{candidate}",
    "hostile-experiment": "/experiments/{same}",
    "unfinished": "/experiments/{unfinished}",
    "choose": "/compare",
    "decision": "/compare?a={baseline}&b={candidate}&margin=0.05",
    "undecided": "/compare?a={baseline}&b={same}",
    "refused": "/compare?a={baseline}&b={baseline}",
    "prompts": "/prompts",
    "prompt": "/prompts/help/answer",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is not there; apt-get install chromium, or deselect with -m 'not browser'")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def served(serve_session, filled) -> str:
    return serve_session(root=filled.root).url


class Visit:
    """A window that remembers everything that went wrong in it."""

    def __init__(self, browser: Browser, url: str, width: int, scheme: str, **options: object) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
        )
        self.page: Page = self.context.new_page()
        self.url = url
        self.problems: list[str] = []
        self.page.on("console", lambda said: self._note(said.type in {"error", "warning"}, said.text))
        self.page.on("pageerror", lambda error: self._note(True, str(error)))
        # What a visitor leaves behind by going on is aborted; everything else that fails is ours.
        self.page.on(
            "requestfailed", lambda request: self._note(request.failure != "net::ERR_ABORTED", request.url)
        )
        self.page.on(
            "response", lambda answer: self._note(answer.status >= 400, f"{answer.status} {answer.url}")
        )
        self.page.on(
            "request", lambda request: self._note(not request.url.startswith((url, "data:")), request.url)
        )

    def _note(self, wrong: bool, what: str) -> None:
        if wrong:
            self.problems.append(what)

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page


@pytest.fixture
def visit(browser: Browser, served: str) -> Iterator[object]:
    visits: list[Visit] = []

    def begin(width: int = 1280, scheme: str = "light", **options: object) -> Visit:
        visits.append(Visit(browser, served, width, scheme, **options))
        return visits[-1]

    yield begin
    for one in visits:
        one.context.close()
        assert one.problems == []


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_page_is_whole(visit, filled, width: int, scheme: str) -> None:
    window = visit(width, scheme)
    for name, path in PAGES.items():
        page = window.go(path.format(**vars(filled)))
        assert "Assay" in page.title(), name
        assert page.title() != "owned"
        assert page.locator("h1").count() == 1, name
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
            f"{name} scrolls sideways"
        )
        assert page.locator("img[src=x]").count() == 0
        assert window.problems == [], name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(visit, filled, scheme: str) -> None:
    """WCAG AA: a contrast of 4.5 to 1, for every text on these pages."""
    window = visit(1280, scheme)
    for name in (
        "overview",
        "traces",
        "tree",
        "failed",
        "experiment",
        "unfinished",
        "decision",
        "refused",
        "prompt",
    ):
        page = window.go(PAGES[name].format(**vars(filled)))
        assert page.evaluate(_FAINT) == [], name


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_picture_of_a_decision_is_there_and_in_the_pages_colours(
    visit, filled, width: int, scheme: str
) -> None:
    page = visit(width, scheme).go(PAGES["decision"].format(**vars(filled)))
    shown = page.locator(".chart svg:visible")
    assert shown.count() == 1
    box, frame = shown.bounding_box(), page.locator(".chart").bounding_box()
    assert box is not None and frame is not None
    assert box["width"] > 250 and box["height"] > 100
    assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
    drawn = shown.locator("[stroke='var(--good)']").first.evaluate("one => getComputedStyle(one).stroke")
    wanted = {"light": "rgb(20, 113, 63)", "dark": "rgb(111, 214, 160)"}
    assert drawn == wanted[scheme]
    size = shown.locator("text:visible").first.evaluate("one => one.getBoundingClientRect().height")
    assert size >= 11


def test_the_tree_opens_and_closes_by_keyboard(visit, filled) -> None:
    page = visit().go(PAGES["tree"].format(**vars(filled)))
    child = page.get_by_role("link", name="tool find_order")
    expect(child).to_be_visible()
    summary = page.locator(".tree summary").first
    summary.focus()
    page.keyboard.press("Enter")
    expect(child).to_be_hidden()
    page.keyboard.press("Space")
    expect(child).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "tool find_order":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#span-name")).to_contain_text("tool find_order")


def test_a_clicked_span_is_shown_beside_the_tree_and_back_goes_back(visit, filled) -> None:
    page = visit().go(PAGES["tree"].format(**vars(filled)))
    first = page.locator("#span-name").inner_text()
    page.locator(".tree .bar").last.click(force=True)  # the whole row is the link
    expect(page.locator("#span-name")).to_contain_text("chat self-hosted")
    expect(page).to_have_url(re.compile(r"/spans/[0-9a-f]{16}$"))
    expect(page.locator(".row.current")).to_have_count(1)
    expect(page.get_by_role("status")).to_have_text("chat self-hosted is shown")
    page.get_by_role("button", name="copy").first.wait_for()
    page.reload()
    expect(page.locator("#span-name")).to_contain_text("chat self-hosted")
    page.go_back()
    expect(page.locator("#span-name")).to_have_text(first)


def test_everything_works_without_the_script(visit, filled) -> None:
    page = visit(java_script_enabled=False).go(PAGES["tree"].format(**vars(filled)))
    page.get_by_role("link", name="chat self-hosted").click()
    expect(page.locator("#span-name")).to_contain_text("chat self-hosted")
    page.locator(".tree summary").first.click(position={"x": 18, "y": 15})
    expect(page.get_by_role("link", name="tool find_order")).to_be_hidden()


def test_all_of_the_tree_opens_and_closes_at_once(visit, filled) -> None:
    page = visit().go(PAGES["long"].format(**vars(filled)))
    assert page.locator("[data-span]:visible").count() < 250
    page.get_by_role("button", name="Open all").click()
    assert page.locator("[data-span]:visible").count() == 400
    page.get_by_role("button", name="Close all").click()
    assert page.locator("[data-span]:visible").count() == 1


def test_a_long_text_unfolds(visit, filled) -> None:
    page = visit(375).go(PAGES["parts"].format(**vars(filled)))
    page.get_by_text("Show all 2,100 characters").click()
    expect(page.get_by_text("Show less")).to_be_visible()
    assert page.locator(".fold[open] > .text").inner_text().count("Answer in") == 60


def test_from_an_experiment_to_a_decision(visit, filled) -> None:
    page = visit().go(PAGES["experiment"].format(**vars(filled)))
    page.get_by_label("Is it better than").select_option(filled.baseline)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=2).first).to_contain_text("is better than")
    page.get_by_role("link", name="Swap A and B").click()
    expect(page.get_by_role("heading", level=2).first).to_contain_text("is worse than")


def test_times_are_told_in_the_readers_zone(visit, filled) -> None:
    page = visit(locale="en-GB", timezone_id="Asia/Tokyo").go("/traces")
    title = page.locator("time").first.get_attribute("title")
    assert title is not None and re.search(r"GMT\+9|JST", title)


# Texts whose contrast with the background behind them is below 4.5, as [text, contrast].
_FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((value, at) => value * top[3] + under[at] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.push(rgba(getComputedStyle(one).backgroundColor));
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const light = (rgb) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("svg, select, .hidden")) continue;
    const back = behind(element);
    const front = over(rgba(getComputedStyle(element).color), back);
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) faint.push([text.slice(0, 40), contrast]);
  }
  return faint;
}"""
