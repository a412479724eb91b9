"""What assay.toml may hold: a Value for each table, each field with its words for the reference page."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from assay.types import Value
from assay.types.limits import Limits

FILE_NAME = "assay.toml"
ProviderDialect: TypeAlias = Literal[
    "openai", "openai-responses", "compatible", "anthropic", "gemini", "local", "local-embeddings", "scripted"
]

BUILT_IN: Final[tuple[Literal["local", "local-embeddings"], ...]] = ("local", "local-embeddings")
"""Providers, and models, that are there without being configured: they run in this process."""
REMOTE: Final = frozenset({"openai", "openai-responses", "compatible", "anthropic", "gemini"})
"""Dialects that are spoken over HTTP."""


class ServerSettings(Value, forbid_unknown_fields=True):
    """Where `assay up` listens, and how much it takes in one request."""

    host: str = "127.0.0.1"
    """The address to listen on. One that other machines can reach is refused as long as there are no keys."""
    port: int = 8700
    """0 to 65535; 0 takes any free port."""
    hosts: tuple[str, ...] = ()
    """Names, without a port, by which callers may know this server; loopback's always do, and addresses."""
    grace_s: float = 10.0
    """How long calls in flight may take to finish when the server is told to stop, in seconds."""
    max_body_bytes: int = 20 * 1024 * 1024
    """The largest request body; a larger one is answered with 413."""


class StorageSettings(Value, forbid_unknown_fields=True):
    """Where everything is kept."""

    url: str = "sqlite:///.assay/assay.db"
    """sqlite:///PATH; a relative path starts at the folder of assay.toml."""


class TraceSettings(Value, forbid_unknown_fields=True):
    """How calls are recorded."""

    flush_interval_s: float = 0.2
    """How long a span may wait before it is written, and so the most that a kill -9 can lose; at most 60."""
    queue_spans: int = 10_000
    """How many spans may wait in memory while the disk is slow or full; further ones are dropped, counted."""
    capture_content: bool = True
    """Whether messages are stored; without them, spans keep tokens, times and cost."""
    keep_days: int | None = None
    """How long `assay up` keeps spans, and the messages that only they refer to; for good if left out."""
    redact_secrets: bool = True
    """Whether keys (of the providers, of Assay, and what looks like one) are taken out of what is stored."""


class ProviderSettings(Value, forbid_unknown_fields=True):
    """Who serves models, under a name of your choice. `local` is there without being configured."""

    dialect: ProviderDialect
    """How it is spoken to. openai is OpenAI itself, by chat completions, and by its Responses API for callers
    of that; openai-responses by the latter alone; compatible is any other server with OpenAI's chat
    completions (vLLM, Ollama, llama.cpp and many more)."""
    base_url: str | None = None
    """The address that the paths of the API follow, for example https://api.openai.com/v1."""
    api_key: str | None = None
    """env:NAME, the environment variable that holds the key; the key itself is refused here."""
    prices: str | None = None
    """A price list of genai-prices, where the address alone does not tell it, or "free"."""
    max_tokens: int | None = None
    """What Anthropic's API is told where the caller names no limit, which it insists on; 4096 if left out."""
    path: str | None = None
    """A GGUF file, or the folder of an embedding model; a relative path starts at the folder of assay.toml.
    Left out: the pulled weights."""
    context_tokens: int | None = None
    """The context window in all, shared out among the slots; 8192 if left out, which gives each call 2048."""
    slots: int | None = None
    """How many calls run at once, 4 if left out; further ones wait."""
    threads: int | None = None
    """Threads that compute; half of the cores if left out. More are faster only where nothing else runs."""
    replies: tuple[str, ...] = ()
    """What a scripted model answers, one after the other; the last one is repeated."""


class SemanticSettings(Value, forbid_unknown_fields=True):
    """A question that is very like one of before gets its reply. Left out: only equal ones do."""

    threshold: float
    """How alike, above 0 to 1: the cosine of the embeddings. 'assay cache tune' measures and proposes one."""
    model: str = "local-embeddings"
    """The model that makes the embeddings, by its name here."""


class CacheSettings(Value, forbid_unknown_fields=True):
    """Equal calls to this name are answered once. Left out: each call is made."""

    ttl_s: float = 3600.0
    """How long a reply may be given again, in seconds."""
    semantic: SemanticSettings | None = None


class ReplySettings(Value, forbid_unknown_fields=True):
    """Where the replies live that may be given again, for all names that have a cache."""

    memory_bytes: int = 64 * 1024 * 1024
    """How much each process holds in memory; what was used least of late makes room."""
    store_bytes: int = 512 * 1024 * 1024
    """How much is kept in the store, for all processes and for later; 0, or capture_content = false: nothing.
    The oldest makes room."""


class GuardSettings(Value, forbid_unknown_fields=True):
    """A rule on what is said to a model or on what it says; models and routes name it under `guards`."""

    rule: Literal["secrets", "pii", "deny", "injection", "length", "schema", "judge", "custom"]
    """What it looks for: keys and tokens; personal data; words of yours; signs of prompt injection (which is
    a heuristic); too much at once; JSON that breaks a schema; what a model judges; a package's own."""
    on: Literal["input", "output", "both"] = "both"
    """Requests, replies, or both; injection looks at requests alone, schema at replies."""
    action: Literal["block", "redact", "flag"] = "block"
    """Refuse with a content-filter error, put [kind] in its place, or only tell the span and count."""
    kinds: tuple[str, ...] = ()
    """For secrets and pii: which kinds; all if left out, but ip only where it is named."""
    words: tuple[str, ...] = ()
    """For deny: whole words or phrases, in any case."""
    patterns: tuple[str, ...] = ()
    """For deny: regular expressions whose repetitions are bounded, each matching at most 256 characters."""
    threshold: float | None = None
    """For injection: the score from which on it objects, above 0 to 1; 0.7 if left out."""
    max_chars: int | None = None
    """For length: characters of a request, or of a reply."""
    max_tokens: int | None = None
    """For length: tokens, estimated as a fourth of the bytes."""
    max_messages: int | None = None
    """For length: messages of a request."""
    schema: str | None = None
    """For schema: a file with a JSON Schema; the one that the caller asks for if left out."""
    model: str | None = None
    """For judge: the model that judges, by its name here."""
    rubric: str | None = None
    """For judge: what must be true for a text to pass."""
    on_error: Literal["block", "pass"] = "block"
    """For judge: what becomes of a text when the judge gives no verdict."""
    timeout_s: float | None = None
    """For judge: how long its verdict may take, in seconds; 30 if left out."""
    use: str | None = None
    """For custom: the name under which an installed package offers its guard."""
    options: dict[str, str] = {}  # noqa: RUF012
    """For custom: what the guard is given."""

    @property
    def sides(self) -> tuple[Literal["input", "output"], ...]:
        """Where it stands: the sides it is put on and can look at."""
        able = _SIDES.get(self.rule, ("input", "output"))
        return tuple(side for side in able if self.on in (side, "both"))


_SIDES: Final[dict[str, tuple[Literal["input", "output"], ...]]] = {
    "injection": ("input",),
    "schema": ("output",),
}


class ShadowSettings(Value, forbid_unknown_fields=True):
    """A share of the calls to this name goes to another model, too, after the reply. Left out: none."""

    model: str
    """The model or route that gets them."""
    share: float = 0.1
    """Which share of the calls, above 0 to 1."""


class ModelSettings(Value, forbid_unknown_fields=True):
    """A name that callers use, and where it leads. `local` is there without being configured."""

    provider: str
    """A name under [providers]."""
    model: str | None = None
    """The model's name upstream; the same name if left out."""
    deadline_s: float | None = None
    """The longest that a whole call may take, in seconds; 600 if left out. In a route it bounds each try."""
    first_token_s: float | None = None
    """The longest that a stream may take to say something, in seconds."""
    between_tokens_s: float | None = None
    """The longest that a stream which has begun to say something may be silent, in seconds."""
    assumed_price: tuple[float, float] | None = None
    """US dollars for a million tokens read, and written, where no price list has the model: an estimate."""
    max_tokens_out: int | None = None
    """The tokens of a reply whose caller names no limit, as budgets reserve them; see [budget]."""
    cache: CacheSettings | None = None
    limits: Limits = Limits()
    """How much may be asked of it; in a route, what is too much goes to the next model."""
    guards: tuple[str, ...] = ()
    """Names under [guards], which hold for every route to this model, too."""
    shadow: ShadowSettings | None = None


class RouteSettings(Value, forbid_unknown_fields=True):
    """A name that callers use for several models: where one fails, the next answers."""

    models: tuple[str, ...] = msgspec.field(name="try")
    """Names of models, in the order in which they are tried."""
    balance: Literal["order", "weighted", "latency"] = "order"
    """Which is tried first: the first, one drawn by weights, or the one that began soonest of late."""
    weights: tuple[float, ...] = ()
    """For weighted: a share for each model, in their order. Calls of one x-assay-sticky stay together."""
    retries: int = 1
    """Further tries at each model where its provider is away, busy or broken, after a short wait; 0 to 10."""
    deadline_s: float | None = None
    """The longest that a call may take, all tries together, in seconds; 600 if left out."""
    first_token_s: float | None = None
    """As of a model, for every try of this route; its model's own if left out."""
    between_tokens_s: float | None = None
    """As of a model, for every try of this route; its model's own if left out."""
    cache: CacheSettings | None = None
    guards: tuple[str, ...] = ()
    """Names under [guards], besides those of its models."""
    shadow: ShadowSettings | None = None


class BudgetSettings(Value, forbid_unknown_fields=True):
    """How a call is counted before it is made, where its key or team has a budget (`assay key budget`)."""

    bytes_per_token: float = 1.0
    """How many bytes of a request are taken for a token. With 1 a text never costs more than was reserved."""
    max_tokens_out: int = 16_384
    """The tokens of a reply whose caller names no limit; a model's own max_tokens_out goes before."""
    unknown_usd_per_mtok_in: float | None = None
    """US dollars for a million tokens read by a model that no price is known for; refused if left out."""
    unknown_usd_per_mtok_out: float | None = None
    """The same for tokens written; both or neither."""


class File(Value, forbid_unknown_fields=True):
    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    trace: TraceSettings = TraceSettings()
    cache: ReplySettings = ReplySettings()
    budget: BudgetSettings = BudgetSettings()
    providers: dict[str, ProviderSettings] = {}  # noqa: RUF012
    models: dict[str, ModelSettings] = {}  # noqa: RUF012
    routes: dict[str, RouteSettings] = {}  # noqa: RUF012
    guards: dict[str, GuardSettings] = {}  # noqa: RUF012
