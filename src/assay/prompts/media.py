"""The part that a `{{media}}` tag stands for: a picture, sound or file. It fetches nothing."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from assay.types import Audio, File, Image, Inline, Link, Part

SCHEMES: Final = ("https", "http", "data", "gs")
_DATA_URL: Final = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;(?!base64,)[^;,]*)*(?P<base64>;base64)?,(?P<data>.*)",
    re.DOTALL | re.IGNORECASE,
)


def media_part(url: str, content_type: str | None) -> Part:
    """Image, Audio or File, by the content type (for a data URL, its own); without any, an Image.

    Raises ValueError that says what is wrong with the URL.

    >>> media_part("https://example.com/a.png", None)
    Image(source=Link(url='https://example.com/a.png', media_type=None), detail=None, cache=None, extra=None)
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"{url[:60]!r} does not begin with https:, http:, data: or gs:")
    source = _inline(url, content_type) if scheme == "data" else Link(url, content_type)
    match (source.media_type or "image/").lower().partition("/")[0]:
        case "image":
            return Image(source)
        case "audio":
            return Audio(source)
        case _:
            return File(source)


def _inline(url: str, content_type: str | None) -> Inline:
    read = _DATA_URL.fullmatch(url)
    if read is None:
        raise ValueError("not a data URL; one looks like data:image/png;base64,iVBO...")
    data = unquote_to_bytes(read["data"])
    if read["base64"]:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as exc:
            raise ValueError(f"a data URL with invalid base64: {exc}") from exc
    return Inline(content_type or read["type"] or "text/plain", data)
