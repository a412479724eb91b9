"""The head of a request: what is written, and what is refused because it could be read as something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.providers.http1.failures import Http1Error, InvalidUrl, Unsendable
from assay.providers.http1.request import Origin, head

URL = "https://api.example.com/v1/chat?x=1"


def lines(url: str, *headers: tuple[str, str], method: str = "POST") -> list[str]:
    return head(method, url, headers).start.decode().split("\r\n")


def test_a_head() -> None:
    made = head("POST", URL, (("Authorization", "Bearer k"), ("X-Tag", "a"), ("X-Tag", "b")))
    assert made.origin == Origin(True, "api.example.com", 443)
    assert made.written(b"{}") == (
        b"POST /v1/chat?x=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: assay\r\nAccept: */*\r\n"
        b"Accept-Encoding: identity\r\nAuthorization: Bearer k\r\nX-Tag: a\r\nX-Tag: b\r\n"
        b"Content-Length: 2\r\n\r\n"
    )


def test_what_the_caller_says_replaces_what_is_said_by_itself() -> None:
    said = lines(URL, ("user-agent", "mine"), ("ACCEPT", "text/plain"), ("Host", "other"))
    assert {"user-agent: mine", "ACCEPT: text/plain", "Host: other"} < set(said)
    assert len([line for line in said if line.lower().startswith(("user-agent", "accept:", "host"))]) == 3


@pytest.mark.parametrize(
    ("method", "body", "told"), [("POST", b"", True), ("GET", b"", False), ("GET", b"x", True)]
)
def test_a_length_is_told_where_a_body_may_be(method: str, body: bytes, told: bool) -> None:
    assert (b"Content-Length: %d" % len(body) in head(method, URL, ()).written(body)) is told


@pytest.mark.parametrize(
    ("url", "origin", "host", "target"),
    [
        ("http://h", Origin(False, "h", 80), "h", "/"),
        ("http://h?q", Origin(False, "h", 80), "h", "/?q"),
        ("http://h:80/a", Origin(False, "h", 80), "h", "/a"),
        ("http://h:443/a", Origin(False, "h", 443), "h:443", "/a"),
        ("HTTPS://H:8443/A#part", Origin(True, "h", 8443), "h:8443", "/A"),
        ("http://[::1]:8080/", Origin(False, "::1", 8080), "[::1]:8080", "/"),
        ("http://[fe80::1%eth0]/", Origin(False, "fe80::1%eth0", 80), "[fe80::1]", "/"),
        (
            "http://bücher.example/é x?ü",
            Origin(False, "xn--bcher-kva.example", 80),
            None,
            "/%C3%A9%20x?%C3%BC",
        ),
        ("http://h/a%2Fb:c?k=%20", Origin(False, "h", 80), "h", "/a%2Fb:c?k=%20"),
        ("http://my_host./", Origin(False, "my_host.", 80), "my_host.", "/"),
    ],
)
def test_urls(url: str, origin: Origin, host: str | None, target: str) -> None:
    assert head("POST", url, ()).origin == origin
    said = lines(url)
    assert said[:2] == [f"POST {target} HTTP/1.1", f"Host: {host or origin.host}"]


def test_credentials_in_a_url_are_sent_as_such_unless_there_are_others() -> None:
    assert "Authorization: Basic dTpwQHc=" in lines("http://u:p%40w@h/")
    with pytest.raises(Unsendable, match="credentials"):
        lines("http://u:p@h/", ("authorization", "Bearer k"))


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "h/v1",
            "//h/",
            "ftp://h/",
            "http://",
            "http:///a",
            "http://:80/",
            "http://[::zz/",
            "http://[1]/",
        ),
        *(
            "http://h:99999/",
            "http://h:x/",
            "http://a..b/",
            "http://h\r\n/",
            "http://h/\r\nX: 1",
            "http://h/\0",
        ),
        *("http://a b/", "http://h\\@x/", "http://" + "a" * 64 + "/", "http://h%0d/"),
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidUrl):
        head("POST", url, ())


@pytest.mark.parametrize(
    "header",
    [
        *(("X", "a\r\nb: c"), ("X", "a\n"), ("X", "\0"), ("X", "\x7f"), ("X", "\ud800")),
        *(("", "a"), ("X y", "a"), ("X:", "a"), ("X\r\n", "a"), ("Ü", "a")),
        *(("Content-Length", "1"), ("transfer-encoding", "chunked"), ("Connection", "close")),
    ],
)
def test_a_header_that_could_change_the_request_is_refused_and_not_quoted(header: tuple[str, str]) -> None:
    with pytest.raises(Unsendable) as caught:
        head("POST", URL, (header,))
    assert header[1] not in str(caught.value) or len(header[1]) < 8


@pytest.mark.parametrize("method", ["", "P T", "GET\r\n", "CONNECT"])
def test_a_method_that_is_none(method: str) -> None:
    with pytest.raises(Unsendable):
        head(method, URL, ())


@given(st.text(), st.text(), st.text())
def test_nothing_adds_a_line(rest: str, name: str, value: str) -> None:
    try:
        made = head("POST", f"http://h/{rest}", ((name, value),))
    except Http1Error:
        return
    replaced = name.lower() in {"host", "user-agent", "accept", "accept-encoding"}
    raw = made.start
    assert raw.count(b"\r\n") == (6 - replaced) == raw.count(b"\n") == raw.count(b"\r")
    assert raw.startswith(b"POST /")
    assert raw.split(b"\r\n")[0].count(b" ") == 2
