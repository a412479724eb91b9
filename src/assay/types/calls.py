"""One call to a model: the Request, the Response, Usage in disjoint token classes, and Cost.

The stream between the two lives in assay.types.events; how a Cost is computed lives in assay.prices.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

from assay.types.content import JSON, CacheMark, Extra, Message, ToolCall, Value
from assay.types.notes import Notes

# --- what is asked -------------------------------------------------------------------------------


class Sampling(Value):
    """How tokens are drawn. An absent value (None) is left to the provider, never sent as null."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    top_logprobs: int | None = None
    """None: no log probabilities; 0: of the chosen tokens; n: of the n likeliest at each place too."""


class FunctionTool(Value, tag="function"):
    """A tool that the caller runs; `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, JSON] | None = None
    strict: bool | None = None
    cache: CacheMark | None = None
    extra: Extra | None = None


class CustomTool(Value, tag="custom"):
    """A tool whose input is free text, perhaps held by a grammar."""

    name: str
    description: str | None = None
    format: JSON = None


class HostedTool(Value, tag="hosted"):
    """A tool that the provider runs (web search, code execution), in its dialect's own words."""

    dialect: str
    body: JSON


ToolSpec: TypeAlias = FunctionTool | CustomTool | HostedTool


class ToolChoice(Value):
    """auto: may call; none: must not; required: must call one; named: must call one of `names`."""

    mode: Literal["auto", "none", "required", "named"]
    names: tuple[str, ...] = ()
    extra: Extra | None = None


class TextOutput(Value, tag="text"):
    """Free text, the default."""


class JsonOutput(Value, tag="json"):
    """Any JSON value."""


class SchemaOutput(Value, tag="schema"):
    """JSON that keeps to a JSON Schema."""

    schema: dict[str, JSON]
    name: str = "output"
    description: str | None = None
    strict: bool | None = None


Output: TypeAlias = TextOutput | JsonOutput | SchemaOutput


class Thinking(Value):
    """How much the model may reason: by effort, by a budget of tokens, or off."""

    enabled: bool | None = None
    effort: str | None = None
    budget_tokens: int | None = None
    summary: str | None = None
    include_text: bool | None = None


class Context(Value):
    """Where a call comes from and how it is to be treated. Never sent upstream.

    `repeat` sets apart calls that are alike on purpose (the repeats of an experiment): it is part of every
    cache key. `deadline_s` is the time allowed for the whole call, in seconds. `prompt` is `name@version`
    and `variables` what it was rendered with, where the messages came from a prompt. `keep` is set where the
    caller may come back to the reply by its id: what is to be stored beside it; `response_id` is that
    id where the upstream's own bytes, and with them its id, do not reach the caller. `sticky` is what a
    weighted route keeps together: calls with the same one go to the same model. `cache` is what the caller
    wants of it, where there is one: `refresh` asks the model again and keeps the new reply.
    `notes` are what the policies inside of the one that records tell it.
    """

    trace_id: str | None = None
    parent_span_id: str | None = None
    deadline_s: float | None = None
    purpose: str = "call"
    repeat: int = 0
    prompt: str | None = None
    variables: dict[str, JSON] | None = None
    key_id: str | None = None
    keep: dict[str, JSON] | None = None
    response_id: str | None = None
    sticky: str | None = None
    cache: Literal["on", "off", "refresh"] = "on"
    tags: dict[str, str] = {}  # noqa: RUF012  (msgspec copies it for each value)
    notes: Notes | None = None


Operation: TypeAlias = Literal["chat", "embeddings", "count_tokens"]
"""What is asked of the model. All three go the same way, through the same policies."""


class WireCall(Value):
    """The call as its caller wrote it, for an upstream that speaks the caller's dialect.

    `headers` are those that the dialect's upstream shall see too (names in lower case). `request` is what
    `body` was parsed to: once a policy has changed anything but model and context, the body is no longer what
    shall be sent (see `Request.verbatim`). `problem` is what is wrong with the body by the dialect as Assay
    knows it: an upstream that takes the bytes as they are may know better, any other raises it.
    """

    dialect: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    request: Request | None = None
    problem: Exception | None = None


class Request(Value):
    """One call to a model, in no dialect.

    Raises nothing by itself: what a provider cannot carry is its `UnsupportedFeature`.

    In a call for `embeddings` each message is one input, whose vector has the place of the message; parts
    that are not Text may be refused. `dimensions` is the length of the vectors, where one may choose it.
    """

    model: str
    messages: tuple[Message, ...]
    operation: Operation = "chat"
    dimensions: int | None = None
    sampling: Sampling = Sampling()
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: Output = TextOutput()
    modalities: tuple[str, ...] = ()
    audio: dict[str, JSON] | None = None
    thinking: Thinking | None = None
    choices: int = 1
    stream: bool = False
    service_tier: str | None = None
    user: str | None = None
    metadata: dict[str, JSON] | None = None
    extra: Extra | None = None
    context: Context = Context()
    wire: WireCall | None = None

    @property
    def verbatim(self) -> WireCall | None:
        """The caller's own bytes, while they still say what this request says."""
        wire = self.wire
        if wire is None or wire.request is None:
            return None
        same = all(getattr(self, name) is getattr(wire.request, name) for name in _SAID)
        return wire if same else None


_SAID = tuple(set(Request.__struct_fields__) - {"model", "context", "wire"})


# --- what comes back -----------------------------------------------------------------------------


class Usage(Value):
    """Tokens in disjoint classes: each token is counted in exactly one of them.

    `input` is text read afresh; `reasoning` is not part of `output`. `estimated` says that they were
    counted here because the upstream did not report them.
    """

    input: int = 0
    input_audio: int = 0
    input_image: int = 0
    cache_read: int = 0
    cache_read_audio: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    output_audio: int = 0
    output_image: int = 0
    estimated: bool = False

    @property
    def tokens_in(self) -> int:
        cached = self.cache_read + self.cache_read_audio + self.cache_write + self.cache_write_1h
        return self.input + self.input_audio + self.input_image + cached

    @property
    def tokens_out(self) -> int:
        return self.output + self.reasoning + self.output_audio + self.output_image

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


class Cost(Value):
    """US dollars of one call. `usd` is None exactly when `kind` is unknown: unknown is never 0."""

    kind: Literal["exact", "estimated", "unknown"]
    usd: Decimal | None = None
    source: str = ""
    """The price list and its version, or why the cost is unknown."""


FinishReason: TypeAlias = Literal[
    "stop",
    "length",
    "stop_sequence",
    "tool_calls",
    "content_filter",
    "refusal",
    "pause",
    "context_exceeded",
    "malformed_tool_call",
    "other",
]


class Finish(Value):
    """Why the model stopped; `raw` is the provider's own word for it."""

    reason: FinishReason
    raw: str | None = None
    stop_sequence: str | None = None


class TokenLogprob(Value):
    """A token, its natural-log probability, and the likeliest others at its place."""

    token: str
    logprob: float
    data: bytes | None = None
    top: tuple[TokenLogprob, ...] = ()


class Choice(Value):
    """One of the replies that were asked for."""

    message: Message
    finish: Finish
    logprobs: tuple[TokenLogprob, ...] = ()


class Cached(Value):
    """What a cache did for a reply: found it, or one that was under way; missed it; or was told to stay off.

    `age_s` is how long ago a found one was made; `similarity` how like its question was, where another one
    was asked.
    """

    state: Literal["hit", "miss", "off"]
    age_s: float = 0.0
    similarity: float | None = None


class Response(Value):
    """A whole reply. `choices` has one entry unless `Request.choices` asked for more.

    The reply to a call for embeddings has `vectors`, one an input, and no choices; that to a call for
    count_tokens has `usage` alone. `dropped` names what the upstream's dialect could not carry of the request
    and what the answer does not depend on, as paths: `messages[0].cache`. `cached` is None where there is no
    cache.
    """

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    cost: Cost | None = None
    created_s: int = 0
    provider: str = ""
    extra: Extra | None = None
    vectors: tuple[tuple[float, ...], ...] = ()
    dropped: tuple[str, ...] = ()
    cached: Cached | None = None

    @property
    def message(self) -> Message:
        return self.choices[0].message

    @property
    def text(self) -> str:
        """The first choice's text: "" when it has none (a tool call, a refusal)."""
        return self.message.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.message.parts if isinstance(part, ToolCall))
