"""A whole reply as a Response object. Its items are .output's concern, streams .stream's.

What OpenAI requires and may be null is null; what the call asked for is repeated, with OpenAI's defaults for
what it did not ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from assay.providers.openai_responses.reply import TOLD
from assay.providers.openai_responses.vocabulary import DIALECT, finish_to, usage_to
from assay.server.dialect import Written
from assay.server.openai_responses.output import Body, Ids, items_of
from assay.server.openai_responses.parse import NOTHING_ASKED, Options
from assay.types import Extra, Finish, Refusal, Response, Usage

ENCODE = msgspec.json.Encoder().encode


def write(response: Response, options: Options | None) -> Written:
    """Raises UnsupportedFeature for a part that the API has no place for."""
    body, dropped = response_body(response, options or Options())
    return Written(ENCODE(body), dropped)


def write_count(response: Response, _options: Options | None) -> Written:
    tokens = response.usage.tokens_in if response.usage is not None else 0
    return Written(ENCODE({"object": "response.input_tokens", "input_tokens": tokens}))


def response_body(response: Response, options: Options) -> tuple[Body, tuple[str, ...]]:
    """The Response object, and the paths of what it has no place for."""
    dropped: list[str] = []
    choice = response.choices[0]
    head = Head(response.id, response.model, response.created_s, options)
    output = items_of(choice, Ids(response.id), dropped)
    refused = any(isinstance(part, Refusal) for part in choice.message.parts)
    body = head.finished(choice.finish, output, response.usage, response.extra, refused=refused)
    return body, tuple(dropped)


class Head:
    """What a Response object says from its beginning to its end."""

    def __init__(self, response_id: str, model: str, created_s: int, options: Options) -> None:
        self.id = response_id
        self._model = model
        self._created_s = created_s
        self._echo = options.echo or NOTHING_ASKED

    def body(self, status: str, output: Sequence[Body] = (), **fields: Any) -> Body:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created_s,
            "status": status,
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": list(output),
            "usage": None,
            **self._echo,
            **fields,
        }

    def finished(
        self,
        finish: Finish,
        output: Sequence[Body],
        usage: Usage | None,
        extra: Extra | None,
        *,
        refused: bool,
    ) -> Body:
        status, reason = finish_to(finish, refused=refused)
        return self.body(
            status,
            output,
            incomplete_details=None if reason is None else {"reason": reason},
            usage=None if usage is None else usage_to(usage),
            **_own(extra),
        )


def _own(extra: Extra | None) -> Body:
    """What an OpenAI upstream said of how it answered; both of its APIs name the service tier alike."""
    if extra is None:
        return {}
    known = TOLD if extra.dialect == DIALECT else {"service_tier"} if extra.dialect == "openai" else ()
    return {name: value for name, value in extra.fields.items() if name in known}
