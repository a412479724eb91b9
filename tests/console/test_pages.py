"""The pages, read as a browser gets them: what they say, what they link to, what they escape."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from assay.console import console
from assay.trace import Span, new_span_id, new_trace_id

XSS = "<script>document.title='owned'</script>"
_VOID = {"meta", "link", "input", "img", "br", "hr", "rect", "path", "circle"}


class Page(HTMLParser):
    """A page's text, elements and links; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._pieces: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID and tag != "option":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag == "option":
            return
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self._pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._pieces).replace("\xa0", " ").split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for attributes in self.all("a")]


def get(pages: TestClient, path: str, status: int = 200) -> Page:
    answer = pages.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


def every_page(filled) -> list[str]:
    return [
        "/",
        "/traces",
        *(
            f"/traces/{one}"
            for one in (filled.agent, filled.long, filled.hostile, filled.parts, filled.failed)
        ),
        "/experiments",
        *(
            f"/experiments/{one}"
            for one in (filled.baseline, filled.candidate, filled.same, filled.unfinished)
        ),
        "/compare",
        f"/compare?a={filled.baseline}&b={filled.candidate}",
        f"/compare?a={filled.baseline}&b={filled.same}",
        f"/compare?a={filled.baseline}&b={filled.baseline}",
        "/prompts",
        "/prompts/help/answer",
        "/prompts/hostile",
        "/nowhere",
    ]


def test_no_page_carries_a_script_or_style_of_its_own(pages: TestClient, filled) -> None:
    for path in every_page(filled):
        answer = pages.get(path)
        page = Page(answer.text)
        assert [script["src"].partition("?")[0] for script in page.all("script")] == ["/static/console.js"]
        assert not page.all("style")
        assert XSS not in answer.text
        for tag, attributes in page.elements:
            assert "style" not in attributes, (path, tag)
            assert not [name for name in attributes if name.startswith("on")], (path, tag, attributes)
            for name in ("href", "src", "action"):
                assert re.match(r"/|#|data:image/png;base64,|$", attributes.get(name, "")), (path, attributes)


def test_every_answer_forbids_what_pages_do_not_need(pages: TestClient, filled) -> None:
    for path in ("/", "/static/console.css", "/nowhere", f"/traces/{filled.agent}"):
        headers = pages.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_every_link_leads_somewhere(pages: TestClient, filled) -> None:
    seen: set[str] = set()
    for path in every_page(filled):
        answer = pages.get(path)
        for link in Page(answer.text).links:
            # The hostile trace names a prompt that does not exist.
            if (
                not link.startswith("#")
                and link not in seen
                and "/prompts/%3C" not in link
                and len(seen) < 400
            ):
                seen.add(link)
                assert pages.get(link).status_code == 200, (path, link)
    assert len(seen) > 60


def test_hostile_texts_are_shown_as_they_are(pages: TestClient, filled) -> None:
    page = get(pages, f"/traces/{filled.hostile}")
    assert page.text.count(XSS) >= 6
    assert XSS in get(pages, "/traces").text
    assert XSS in get(pages, "/prompts/hostile").text
    assert XSS in get(pages, f"/experiments/{filled.same}").text


def test_the_overview_shows_the_newest_of_everything(pages: TestClient, filled) -> None:
    page = get(pages, "/")
    assert f"/traces/{filled.agent}" in page.links
    assert f"/experiments/{filled.candidate}" in page.links
    assert "/prompts/help/answer" in page.links
    assert "spans stored" in page.text


def test_empty_pages_say_what_to_run(empty_pages: TestClient) -> None:
    assert 'assay call local "What is an assay?"' in get(empty_pages, "/").text
    assert "http://testserver/v1" in get(empty_pages, "/").text
    assert "assay call local" in get(empty_pages, "/traces").text
    assert "assay eval run" in get(empty_pages, "/experiments").text
    assert "assay eval run" in get(empty_pages, "/compare").text
    assert "prompts/answer.prompt" in get(empty_pages, "/prompts").text


# --- traces --------------------------------------------------------------------------------------


def test_costs_are_exact_estimated_or_unknown_and_never_guessed(pages: TestClient, filled) -> None:
    page = get(pages, f"/traces/{filled.agent}")
    assert "≈ $0.0114" in page.text
    assert "+ 1 unknown" in page.text
    failed = get(pages, f"/traces/{filled.failed}")
    assert "unknown" in failed.text
    assert "$0" not in failed.text
    assert "the call did not complete" in failed.text


def test_a_failure_is_told_with_its_type_and_message(pages: TestClient, filled) -> None:
    text = get(pages, f"/traces/{filled.failed}").text
    assert "provider_timeout" in text
    assert "did not answer within 30 s" in text


def test_the_tree_holds_every_span_with_its_time(pages: TestClient, filled) -> None:
    page = get(pages, f"/traces/{filled.agent}")
    spans = [link for link in page.all("a") if "data-span" in link]
    assert len(spans) == len(page.all("rect")) == 6
    assert page.all("rect")[0] == {"x": "0.0%", "width": "100.0%", "height": "100%", "rx": "2"}
    bar = page.all("rect")[2]
    assert (float(bar["x"][:-1]), float(bar["width"][:-1])) == pytest.approx((34.524, 34.524), abs=0.01)
    assert "query orders in the warehouse that has a long name of its own" in page.text


def test_a_long_trace_comes_in_pieces_that_hold_each_span_once(pages: TestClient, filled) -> None:
    seen: list[str] = []
    path: str | None = f"/traces/{filled.long}"
    while path:
        page = get(pages, path)
        spans = [link["data-span"] for link in page.all("a") if "data-span" in link]
        assert len(spans) <= 402
        seen += [span for span in spans if span not in seen]
        later = re.findall(rf'href="(/traces/{filled.long}\?at=\d+)">Later', pages.get(path).text)
        path = unescape(later[0]) if later else None
    assert len(seen) == 901
    assert pages.get(f"/traces/{filled.long}?at=5000").headers["location"] == f"/traces/{filled.long}"


def test_a_span_far_down_is_on_the_piece_that_its_page_shows(pages: TestClient, filled) -> None:
    page = get(pages, f"/traces/{filled.long}?at=800")
    span = [link["data-span"] for link in page.all("a") if "data-span" in link][-1]
    shown = get(pages, f"/spans/{span}")
    assert [
        link["data-span"] for link in shown.all("a") if link.get("aria-current") and "data-span" in link
    ] == [span]


def test_a_spans_panel_comes_alone_for_the_script(pages: TestClient, filled) -> None:
    span = next(
        link["data-span"] for link in get(pages, f"/traces/{filled.agent}").all("a") if "data-span" in link
    )
    panel = pages.get(f"/spans/{span}?part=panel").text
    assert "<html" not in panel
    assert "Attributes" in Page(panel).text


def test_every_kind_of_part_is_shown(pages: TestClient, filled) -> None:
    page = get(pages, f"/traces/{filled.parts}")
    assert [image["src"][:22] for image in page.all("img")] == ["data:image/png;base64,"]
    for said in (
        "Show all 2,100 characters",
        "The picture is small.",
        "calls locate",
        '{"what": "pixel", "n": [1, 2]}',
        "result of locate",
        "file manual.pdf: javascript:alert(1)",
        "a part in the words of gemini",
        "picture: https://example.com/a.png",
        "gen_ai.usage.cache_read.input_tokens",
    ):
        assert said in page.text
    assert not [link for link in page.links if "javascript" in link or "example.com" in link]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=error", {"agent", "chat", "experiment"}),
        ("purpose=eval", {"experiment"}),
        ("model=self-hosted", {"agent"}),
        ("prompt=help/answer", {"experiment"}),
        ("model=none-such", set()),
    ],
)
def test_traces_are_filtered(pages: TestClient, filled, query: str, names: set[str]) -> None:
    html = pages.get(f"/traces?{query}").text
    found = {name.split()[0] for name in re.findall(r'<a href="/traces/[0-9a-f]{32}">([^<]+)</a>', html)}
    assert found <= names if query == "status=error" else found == names
    if not names:
        assert "No trace fits" in html


def test_traces_are_paged_without_gap_or_repeat(opener, tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text("")
    ids = [new_trace_id() for _ in range(120)]
    with opener(tmp_path) as app:
        for second, trace_id in enumerate(ids):
            app.writer.record(Span(trace_id, new_span_id(), "work", "step", second, second + 1))
        app.flush()
        pages, path, seen = TestClient(console(app)), "/traces", []
        while path:
            html = pages.get(path).text
            seen += re.findall(r'href="/traces/([0-9a-f]{32})"', html)
            older = re.search(r'href="([^"]+)">Older', html)
            path = unescape(older[1]) if older else None
    assert seen == ids[::-1]


# --- experiments ---------------------------------------------------------------------------------


def test_the_list_tells_finished_from_unfinished(pages: TestClient) -> None:
    text = get(pages, "/experiments").text
    assert "unfinished 9 of 64" in text
    assert "finished 128" in text
    assert "unscored" in text


def test_an_experiment_shows_examples_with_scores_cost_and_trace(pages: TestClient, filled) -> None:
    page = get(pages, f"/experiments/{filled.candidate}")
    rows = page.all("tr")
    assert len(rows) == 51
    assert "1 to 50 of 64" in page.text
    assert "In case 1 about delivery, how many days do I have?" in page.text
    assert "It is 8 days." in page.text
    assert len([link for link in page.links if link.startswith("/spans/")]) == 50
    second = get(pages, f"/experiments/{filled.candidate}?start=50")
    assert len(second.all("tr")) == 15


def test_only_what_failed(pages: TestClient, filled) -> None:
    errors = get(pages, f"/experiments/{filled.baseline}?show=errors")
    assert len(errors.all("tr")) == 2
    assert "provider_unavailable The provider is overloaded" in errors.text
    failed = get(pages, f"/experiments/{filled.candidate}?show=failed")
    assert "tone 0.35" in failed.text


def test_the_means_are_those_of_the_decision(pages: TestClient, filled) -> None:
    experiment = get(pages, f"/experiments/{filled.candidate}").text
    decision = get(pages, f"/compare?a={filled.baseline}&b={filled.candidate}").text
    mean = re.search(r"includes (0\.\d+ 0\.\d+ to 0\.\d+)", experiment)
    assert mean is not None
    assert f"includes {mean[1]}" in decision


def test_an_unfinished_experiment_says_how_to_go_on(pages: TestClient, filled) -> None:
    page = get(pages, f"/experiments/{filled.unfinished}")
    assert "Run the same command again" in page.text
    assert page.all("progress")[0]["value"] == "9"
    assert not [form for form in page.all("form") if form["action"] == "/compare"]


def test_a_finished_experiment_offers_the_others_to_compare_with(pages: TestClient, filled) -> None:
    page = get(pages, f"/experiments/{filled.candidate}")
    offered = {option["value"] for option in page.all("option")} - {""}
    assert offered == {filled.baseline, filled.same}


# --- decisions -----------------------------------------------------------------------------------


def test_a_decision_says_its_verdict_in_words_numbers_and_a_picture(
    pages: TestClient, filled, opener
) -> None:
    page = get(pages, f"/compare?a={filled.baseline}&b={filled.candidate}&margin=0.05")
    assert "is better than" in page.text
    assert re.search(r"Effect, B − A \+0\.344 \+0\.2\d to \+0\.4\d", page.text)
    assert "64 in 6 clusters" in page.text
    assert "lies above 0" in page.text
    assert len(page.all("svg")) == 3  # the brand's, and the picture for wide and for narrow windows
    html = pages.get(f"/compare?a={filled.baseline}&b={filled.candidate}").text
    assert 'stroke="var(--good)"' in html
    assert "vega" not in html.lower().replace("application/vega", "")
    assert "Got better 22" in page.text


def test_the_changed_examples_stand_side_by_side(pages: TestClient, filled) -> None:
    page = get(pages, f"/compare?a={filled.baseline}&b={filled.candidate}&show=better")
    assert len(page.all("article")) == 22
    assert page.text.count("It is 8 days.") == 1
    swapped = get(pages, f"/compare?a={filled.candidate}&b={filled.baseline}&show=better")
    assert "is worse than" in swapped.text
    assert "No example changed that way" in swapped.text


def test_equal_experiments_give_no_changed_examples(pages: TestClient, filled) -> None:
    text = get(pages, f"/compare?a={filled.baseline}&b={filled.same}").text
    assert "Not enough data" in text
    equivalent = get(pages, f"/compare?a={filled.baseline}&b={filled.same}&margin=0.9").text
    assert "are equivalent on includes, within 0.9" in equivalent


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("a={baseline}&b={baseline}", "same experiment"),
        ("a={unfinished}&b={candidate}", "is not finished"),
        ("a={baseline}&b={candidate}&scorer=none", "none"),
    ],
)
def test_what_cannot_be_compared_says_why_and_keeps_the_choice(
    pages: TestClient, filled, query: str, says: str
) -> None:
    page = get(pages, "/compare?" + query.format(**vars(filled)))
    assert "These two cannot be compared" in page.text
    assert says in page.text
    assert len(page.all("select")) >= 2


def test_a_score_can_be_chosen(pages: TestClient, filled) -> None:
    page = get(pages, f"/compare?a={filled.baseline}&b={filled.candidate}&scorer=tone")
    assert "on tone" in page.text
    assert "Left out of the numbers" in page.text
    assert [option for option in page.all("option") if "selected" in option][-1] is not None


# --- prompts -------------------------------------------------------------------------------------


def test_a_prompt_shows_versions_labels_source_and_what_changed(pages: TestClient, filled) -> None:
    page = get(pages, "/prompts/help/answer")
    assert "production" in page.text
    assert "the first that works" in page.text
    assert "{{policy}}" in page.text
    added = pages.get("/prompts/help/answer").text
    assert '<span class="added">+{{policy}}' in added
    first = next(link for link in page.links if "version=81f86a48a727" in link)
    older = get(pages, first)
    assert "This is the first version." in older.text
    against = get(pages, f"{first}&against=latest")
    assert "-{{policy}}" in against.text


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/nowhere", 404, "There is no page /nowhere"),
        ("/traces/abcdef0123", 404, "'assay trace list' shows the newest"),
        ("/spans/abcdef0123", 404, "There is no span"),
        ("/traces/xyz", 400, "4 or more"),
        ("/experiments/none", 404, "There is no experiment 'none'"),
        ("/compare?a=none&b=none", 404, "There is no experiment"),
        ("/prompts/none", 404, "there is no prompt 'none'"),
        ("/prompts/help/answer?version=ffff", 404, "no version"),
        ("/traces?before_ns=x", 400, "before_ns"),
        ("/traces?status=<script>", 400, "it can be ok, error"),
        ("/compare?a=x&b=y&margin=-1", 400, "margin"),
        ("/static/none.css", 404, "There is no page"),
        ("/static/../render.py", 404, "There is no page"),
    ],
)
def test_what_is_not_there_says_what_to_do(pages: TestClient, path: str, status: int, says: str) -> None:
    page = get(pages, path, status)
    assert says in page.text
    assert "/traces" in page.links


def test_pages_only_answer_to_reading(pages: TestClient) -> None:
    assert pages.post("/traces").status_code == 405
    assert pages.head("/traces").status_code == 200


def test_a_store_that_fails_is_a_page_with_advice(opener, tmp_path: Path) -> None:
    (tmp_path / "assay.toml").write_text("")
    with opener(tmp_path) as app:
        pages = TestClient(console(app))
        with app.store.write() as connection:
            connection.exec_driver_sql("DROP TABLE spans")
        page = get(pages, "/traces", 503)
    assert "The store does not answer" in page.text
    assert "no such table" in page.text


def test_without_the_extra_the_console_says_what_to_install() -> None:
    script = """
        import sys
        for name in ("jinja2", "vl_convert"):
            sys.modules[name] = None
        from assay.console import console
        from assay.errors import ConfigError
        try:
            console(None)
        except ConfigError as error:
            print(error.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert "pip install 'assay[console]'" in done.stdout


def test_a_console_that_nobody_looks_at_loads_no_statistics() -> None:
    script = "import sys, assay.console.site; print('numpy' in sys.modules or 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_runs_on_the_event_loop(opener, empty_root: Path) -> None:
    """Starlette runs plain functions in threads; a coroutine function would hold up every call to a model."""
    with opener(empty_root) as app:
        site = console(app)
    starlette = site.__closure__[0].cell_contents  # type: ignore[attr-defined]
    endpoints = [route.endpoint for route in starlette.routes if hasattr(route, "endpoint")]
    assert len(endpoints) >= 8
    assert not [one for one in endpoints if inspect.iscoroutinefunction(one)]


def test_a_running_experiment_is_read_again_by_the_script(opener, filled) -> None:
    with opener(filled.root) as app:
        lease = app.runs.acquire(filled.unfinished)
        try:
            page = get(TestClient(console(app)), f"/experiments/{filled.unfinished}")
        finally:
            lease.release()
    assert "running" in page.text
    assert [element for _, element in page.elements if "data-live" in element]
