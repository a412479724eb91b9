"""A Request as the body of llama.cpp's chat completions. What would be ignored there is refused here. No I/O.

Left to llama.cpp where the request says nothing: temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, a random
seed. Messages go through the model's own chat template. A last message of the assistant is continued.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.local.form import Form
from assay.providers.local.messages import rendered
from assay.providers.translation import Drops
from assay.types import Extra, Request, Sampling, replace

Body: TypeAlias = dict[str, Any]

MAX_TOKENS: Final = 512
"""The most tokens of a reply when the request does not say how many it may have."""

_RANGES: Final[dict[str, tuple[float, float]]] = {
    "max_tokens": (1, 2**31 - 1),
    "temperature": (0, 2**31),
    "top_p": (0, 1),
    "top_k": (0, 2**31 - 1),
    "seed": (0, 2**32 - 2),  # 2**32 - 1 means: draw one
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "top_logprobs": (0, 20),
    "min_p": (0, 1),
    "repeat_penalty": (0.1, 10),
}
_OWN_FIELDS: Final = ("min_p", "repeat_penalty")
"""Fields beyond the canonical ones that llama.cpp takes from `Request.extra`."""


def encode(request: Request, form: Form, drops: Drops) -> str:
    """The body, as JSON; it always asks for a stream, with usage and with progress while the prompt is read.

    Raises UnsupportedFeature for what this model cannot do, RequestError for values out of range; both name
    the field.
    """
    _refuse(request)
    told = form.calling.told if form.calling else None
    body: Body = {
        "messages": rendered(request.messages, told, drops),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "max_tokens": MAX_TOKENS,
    }
    _add_sampling(body, request.sampling)
    drops.enter("")
    left_out = {
        "user": request.user is not None,
        "metadata": request.metadata is not None,
        "service_tier": request.service_tier not in {None, "auto", "default"},
    }
    for field in filter(left_out.get, left_out):
        drops.add(field)
    if request.extra is not None:
        _add_own(body, request.extra, drops)
    if (grammar := form.grammar) is not None:
        body["grammar"] = grammar
    try:
        return msgspec.json.encode(body).decode()
    except (TypeError, ValueError) as error:
        raise RequestError(f"The request cannot be written as JSON: {error}", param="messages") from error


def _refuse(request: Request) -> None:
    thinking = request.thinking
    refused = {
        "modalities": not set(request.modalities) <= {"text"},
        "audio": request.audio is not None,
        "reasoning_effort": thinking is not None
        and (bool(thinking.enabled) or thinking.effort not in {None, "none"} or bool(thinking.budget_tokens)),
        "n": request.choices != 1,
    }
    for field, asked in refused.items():
        if asked:
            raise _unsupported(field, field)


def _add_sampling(body: Body, sampling: Sampling) -> None:
    for field in ("max_tokens", "temperature", "top_p", "top_k", "seed"):
        _add(body, field, getattr(sampling, field))
    for field in ("frequency_penalty", "presence_penalty"):
        _add(body, field, getattr(sampling, field))
    if sampling.seed is not None:
        body["cache_prompt"] = False  # what is read again in other pieces differs in its last bits
    if sampling.stop:
        if "" in sampling.stop:
            raise RequestError("stop holds an empty text, which would stop at once; remove it", param="stop")
        body["stop"] = list(sampling.stop)
        body["verbose"] = True  # the last chunk then says which of them it was
    if sampling.logit_bias:
        body["logit_bias"] = _logit_bias(sampling.logit_bias)
    if sampling.top_logprobs is not None:
        _add(body, "top_logprobs", sampling.top_logprobs)
        body["logprobs"] = True
        body["top_logprobs"] = max(1, sampling.top_logprobs)  # 0 would give no log probabilities at all


def _add(body: Body, field: str, value: Any) -> None:
    if value is None:
        return
    low, high = _RANGES[field]
    if not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"{field} is {value!r}; it must be from {low:g} to {high:g}", param=field)
    body[field] = value


def _logit_bias(biases: dict[str, float]) -> list[list[float]]:
    for token, bias in biases.items():
        if not token.isdecimal() or not -100 <= bias <= 100:
            raise RequestError(
                f"logit_bias {token!r}: {bias!r} must be the number of a token with a bias from -100 to 100",
                param="logit_bias",
            )
    return [[int(token), float(bias)] for token, bias in biases.items()]


def _add_own(body: Body, extra: Extra, drops: Drops) -> None:
    for field in _OWN_FIELDS:
        _add(body, field, extra.fields.get(field))
    others = {field: value for field, value in extra.fields.items() if field not in _OWN_FIELDS}
    drops.take({}, replace(extra, fields=others), "")


def _unsupported(what: str, param: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"The local model does not support {what}; leave it out or choose another model", param=param
    )
