"""Settings, read once: assay.toml, and the only place that looks at the environment.

Nothing here opens a file of the store, a socket or a model; `load` returns values and everything else is
given what it needs.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from math import inf
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from assay.errors import ConfigError
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
    """How much is kept in the store, for all processes and for later; 0: nothing. The oldest makes room."""


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


class _File(Value, forbid_unknown_fields=True):
    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    trace: TraceSettings = TraceSettings()
    cache: ReplySettings = ReplySettings()
    budget: BudgetSettings = BudgetSettings()
    providers: dict[str, ProviderSettings] = {}  # noqa: RUF012
    models: dict[str, ModelSettings] = {}  # noqa: RUF012
    routes: dict[str, RouteSettings] = {}  # noqa: RUF012
    guards: dict[str, GuardSettings] = {}  # noqa: RUF012


_ONLY_AT_START: Final[dict[str, tuple[str, ...]]] = {
    "server": ("host", "port", "hosts"),
    "storage": ("url",),
    "trace": ("flush_interval_s", "queue_spans"),
}


class Config(Value):
    """Everything that was configured. `root` is the folder that relative paths start from."""

    root: Path
    file: Path | None
    cache_dir: Path
    server: ServerSettings
    storage: StorageSettings
    trace: TraceSettings
    cache: ReplySettings
    budget: BudgetSettings
    providers: dict[str, ProviderSettings]
    models: dict[str, ModelSettings]
    routes: dict[str, RouteSettings]
    guards: dict[str, GuardSettings]
    environment: Mapping[str, str]

    def secret(self, reference: str | None, *, where: str) -> str | None:
        """The value behind `env:NAME`. Raises ConfigError when the variable is not set."""
        if reference is None:
            return None
        name = reference.removeprefix("env:")
        value = self.environment.get(name)
        if not value:
            raise ConfigError(
                f"{where} refers to the environment variable {name}, which is not set; export {name}=..."
            )
        return value

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of all `env:NAME` that are set: what nobody else may see."""
        named = [provider.api_key for provider in self.providers.values() if provider.api_key]
        values = (self.environment.get(name.removeprefix("env:")) for name in named)
        return tuple(dict.fromkeys(value for value in values if value))

    def path(self, name: str) -> Path:
        """A folder or file beside assay.toml."""
        return self.root / name

    @property
    def storage_url(self) -> str:
        """The store's URL with an absolute path."""
        scheme, _, path = self.storage.url.partition(":///")
        if scheme == "sqlite" and path and path != ":memory:":
            return f"sqlite:///{self.root / Path(path).expanduser()}"
        return self.storage.url

    def check_reload(self, new: Config) -> None:
        """Raises ConfigError where `new` differs in what a running server cannot change."""
        for table, names in _ONLY_AT_START.items():
            for name in names:
                is_now = getattr(getattr(self, table), name)
                if getattr(getattr(new, table), name) != is_now:
                    raise ConfigError(
                        f"{new.file or FILE_NAME}: {table}.{name} changes with a restart only; "
                        f"it is {is_now!r} now"
                    )

    @property
    def run_folder(self) -> Path:
        """Where servers tell that they run."""
        return self.path(".assay/run")

    @property
    def store_file(self) -> Path:
        """The file of the store."""
        return Path(self.storage_url.removeprefix("sqlite:///"))


def load(
    file: Path | str | None = None, *, environment: Mapping[str, str] = os.environ, start: Path | None = None
) -> Config:
    """Reads `file`, else $ASSAY_CONFIG, else the nearest assay.toml at or above `start`, else the defaults.

    Raises ConfigError naming the file, the line where known, the key, what is wrong and what is allowed.
    """
    path = _find(file, environment, start or Path.cwd())
    parsed = _File()
    if path is not None:
        parsed = _parse(path)
    providers: dict[str, ProviderSettings] = {name: ProviderSettings(name) for name in BUILT_IN}
    models: dict[str, ModelSettings] = {name: ModelSettings(name) for name in BUILT_IN}
    return Config(
        root=path.parent if path else (start or Path.cwd()),
        file=path,
        cache_dir=_cache_dir(environment),
        server=parsed.server,
        storage=parsed.storage,
        trace=parsed.trace,
        cache=parsed.cache,
        budget=parsed.budget,
        providers=providers | parsed.providers,
        models=models | parsed.models,
        routes=parsed.routes,
        guards=parsed.guards,
        environment=dict(environment),
    )


def is_address(host: str) -> bool:
    """True for an IP address, false for a name."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True for localhost and addresses that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _find(file: Path | str | None, environment: Mapping[str, str], start: Path) -> Path | None:
    named = file or environment.get("ASSAY_CONFIG")
    if named:
        path = Path(named).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(
                f"There is no configuration file {path}; create it, or leave out --config and ASSAY_CONFIG"
            )
        return path
    for folder in (start.resolve(), *start.resolve().parents):
        candidate = folder / FILE_NAME
        if candidate.is_file():
            return candidate
    return None


def _cache_dir(environment: Mapping[str, str]) -> Path:
    if named := environment.get("ASSAY_CACHE_DIR"):
        return Path(named).expanduser()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "assay"


# --- checking a file, with the place of each mistake ---------------------------------------------


def _parse(path: Path) -> _File:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    place = _Places(path, text)
    _check_keys(raw, _File, (), place)
    parsed = msgspec.convert(raw, _File)
    _check_values(parsed, place)
    return parsed


class _Places:
    """Finds the line of a key, for error messages only."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def error(self, keys: tuple[str, ...], problem: str) -> ConfigError:
        line = self.line(keys)
        where = f"{self.path}:{line}" if line else f"{self.path}"
        return ConfigError(f"{where}: {'.'.join(keys) or 'the file'}: {problem}")

    def line(self, keys: tuple[str, ...]) -> int | None:
        table: tuple[str, ...] = ()
        best: int | None = None
        depth = 0
        for number, text in enumerate(self.lines, 1):
            stripped = text.strip()
            if stripped.startswith("["):
                table = _split_key(stripped.strip("[]").split("]")[0])
                current = table
            elif "=" in stripped and not stripped.startswith("#"):
                current = (*table, *_split_key(stripped.split("=", 1)[0]))
            else:
                continue
            shared = 0
            for ours, theirs in zip(keys, current, strict=False):
                if ours != theirs:
                    break
                shared += 1
            if shared in (len(current), len(keys)) and shared > depth:
                depth, best = shared, number
        return best


def _split_key(text: str) -> tuple[str, ...]:
    pieces = re.findall(r'"([^"]*)"|\'([^\']*)\'|([A-Za-z0-9_-]+)', text)
    return tuple(next(group for group in piece if group) if any(piece) else "" for piece in pieces)


def _check_keys(raw: Mapping[str, Any], kind: type[Value], keys: tuple[str, ...], place: _Places) -> None:
    """Unknown keys, wrong shapes and wrong values one by one, so that the message can name the full key."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, value in raw.items():
        here = (*keys, name)
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise place.error(here, f"unknown key{hint} (allowed here: {', '.join(fields)})")
        wanted = fields[name].type
        table = _table_type(wanted)
        if table is None:
            _check_type(value, wanted, here, place)
            continue
        nested, many = table
        if not isinstance(value, Mapping):
            raise place.error(here, f"expected a table, got {_toml_type(value)}")
        if not many:
            _check_keys(value, nested, here, place)
            _check_present(value, nested, here, place)
            continue
        for inner, item in value.items():
            if not isinstance(item, Mapping):
                raise place.error((*here, inner), f"expected a table, got {_toml_type(item)}")
            _check_keys(item, nested, (*here, inner), place)
            _check_present(item, nested, (*here, inner), place)


def _check_present(raw: Mapping[str, Any], kind: type[Value], keys: tuple[str, ...], place: _Places) -> None:
    required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
    if missing := [field for field in required if field not in raw]:
        raise place.error(keys, f"the key {missing[0]} is missing")


def _table_type(wanted: Any) -> tuple[type[Value], bool] | None:
    if isinstance(wanted, type) and issubclass(wanted, Value):
        return wanted, False
    args = get_args(wanted)
    if len(args) == 2 and args[1] is NoneType:
        return _table_type(args[0])
    if len(args) == 2 and isinstance(args[1], type) and issubclass(args[1], Value):
        return args[1], True
    return None


def _check_type(value: Any, wanted: Any, keys: tuple[str, ...], place: _Places) -> None:
    try:
        msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError as error:
        choices = [str(choice) for choice in get_args(wanted) if isinstance(choice, str)]
        if choices:
            raise place.error(keys, f"{value!r} is not one of {', '.join(choices)}") from error
        message = str(error).split(" - at ")[0]
        raise place.error(keys, f"{message[0].lower()}{message[1:]}") from error


def _toml_type(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "an integer", float: "a float", list: "an array"}
    return names.get(type(value), type(value).__name__)


def _check_values(parsed: _File, place: _Places) -> None:
    if not 0 <= parsed.server.port <= 65535:
        raise place.error(("server", "port"), f"{parsed.server.port} is not a port (0 to 65535)")
    for name in parsed.server.hosts:
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", name):
            raise place.error(("server", "hosts"), f"{name!r} is not a name such as assay.example.com")
    if not 0 <= parsed.server.grace_s < inf:
        raise place.error(("server", "grace_s"), "must be at least 0 seconds")
    if parsed.server.max_body_bytes < 1:
        raise place.error(("server", "max_body_bytes"), "must be at least 1")
    _check_replies(parsed, place)
    _check_budget(parsed, place)
    _check_trace(parsed.trace, place)
    scheme = parsed.storage.url.partition(":")[0]
    path = parsed.storage.url.removeprefix("sqlite:///")
    if scheme != "sqlite" or path in ("", ":memory:", parsed.storage.url):
        raise place.error(("storage", "url"), f"{parsed.storage.url!r} is not of the form sqlite:///PATH")
    for name, provider in parsed.providers.items():
        _check_provider(("providers", name), provider, place)
    known = {*BUILT_IN, *parsed.providers}
    for name, model in parsed.models.items():
        if model.provider not in known:
            allowed = ", ".join(sorted(known))
            raise place.error(
                ("models", name, "provider"),
                f"there is no provider {model.provider!r} (there are: {allowed})",
            )
        _check_times(("models", name), model, place)
        settings = parsed.providers.get(model.provider)
        in_process = model.provider in BUILT_IN or (settings is not None and settings.dialect in BUILT_IN)
        _check_limits(("models", name, "limits"), model.limits, in_process, place)
        _check_cache(("models", name, "cache"), model.cache, place)

    for name, route in parsed.routes.items():
        _check_route(("routes", name), route, {*BUILT_IN, *parsed.models}, place)
    _check_guards(parsed, place)


def _check_trace(trace: TraceSettings, place: _Places) -> None:
    if not 0 < trace.flush_interval_s <= 60:
        raise place.error(("trace", "flush_interval_s"), "must be above 0 and at most 60 seconds")
    if trace.queue_spans < 1:
        raise place.error(("trace", "queue_spans"), "must be at least 1")
    if trace.keep_days is not None and trace.keep_days < 1:
        raise place.error(("trace", "keep_days"), "must be at least 1; leave it out to keep spans for good")


def _check_budget(parsed: _File, place: _Places) -> None:
    """What calls are counted as, in [budget] and of each model."""
    budget = parsed.budget
    if not 1 <= budget.bytes_per_token <= 8:
        raise place.error(("budget", "bytes_per_token"), "must be from 1 to 8")
    if budget.max_tokens_out < 1:
        raise place.error(("budget", "max_tokens_out"), "must be at least 1")
    both = (budget.unknown_usd_per_mtok_in, budget.unknown_usd_per_mtok_out)
    if (both[0] is None) != (both[1] is None):
        raise place.error(
            ("budget",), "set both unknown_usd_per_mtok_in and unknown_usd_per_mtok_out, or neither"
        )
    priced: list[tuple[tuple[str, ...], tuple[float | None, float | None]]] = [(("budget",), both)]
    for name, model in parsed.models.items():
        if model.max_tokens_out is not None and model.max_tokens_out < 1:
            raise place.error(("models", name, "max_tokens_out"), "must be at least 1")
        priced.append((("models", name, "assumed_price"), model.assumed_price or (None, None)))
    for keys, prices in priced:
        if any(price is not None and not 0 <= price < inf for price in prices):
            raise place.error(keys, "a price must be at least 0 dollars for a million tokens")


def _check_guards(parsed: _File, place: _Places) -> None:
    models = {*BUILT_IN, *parsed.models}
    callable_names = {*models, *parsed.routes}
    for name, guard in parsed.guards.items():
        _check_guard(("guards", name), guard, callable_names, place)
    for table, named in (("models", parsed.models), ("routes", parsed.routes)):
        for name, settings in named.items():
            for guard_name in settings.guards:
                if guard_name not in parsed.guards:
                    there = ", ".join(parsed.guards) or "none"
                    problem = f"there is no guard {guard_name!r} (there are: {there}); add it under [guards]"
                    raise place.error((table, name, "guards"), problem)
            shadow = settings.shadow
            if shadow is None:
                continue
            if shadow.model not in callable_names or shadow.model == name:
                problem = f"{shadow.model!r} is not another model or route"
                raise place.error((table, name, "shadow", "model"), problem)
            if not 0 < shadow.share <= 1:
                raise place.error((table, name, "shadow", "share"), "must be above 0 and at most 1")
    _check_judges(parsed, place)


def _check_judges(parsed: _File, place: _Places) -> None:
    """A judge that is itself judged might ask itself for ever."""
    judges = {name for name, guard in parsed.guards.items() if guard.rule == "judge"}
    judged = {name for name, model in parsed.models.items() if judges & {*model.guards}}
    judged |= {
        name for name, route in parsed.routes.items() if judges & {*route.guards} or judged & {*route.models}
    }
    for name in judges:
        if parsed.guards[name].model in judged:
            raise place.error(
                ("guards", name, "model"), f"{parsed.guards[name].model!r} is itself guarded by a judge"
            )


def _check_guard(keys: tuple[str, ...], guard: GuardSettings, models: set[str], place: _Places) -> None:
    for name, rules in _GUARD_KEYS.items():
        if getattr(guard, name) not in (None, (), {}) and guard.rule not in rules:
            raise place.error((*keys, name), f"is for the rule {' or '.join(rules)}, not {guard.rule}")
    if not guard.sides:
        raise place.error((*keys, "on"), f"{guard.rule} cannot look at {guard.on}; leave it out")
    if guard.action == "redact" and guard.rule not in ("secrets", "pii", "deny", "custom"):
        raise place.error((*keys, "action"), f"{guard.rule} finds no places to redact; block or flag")
    needed = _GUARD_NEEDS.get(guard.rule, ())
    if needed and all(getattr(guard, name) in (None, ()) for name in needed):
        raise place.error(keys, f"the rule {guard.rule} needs {' or '.join(needed)}")
    if guard.rule == "judge":
        if not guard.rubric or not guard.rubric.strip():
            raise place.error((*keys, "rubric"), "must say what a text must do to pass")
        if guard.model not in models:
            raise place.error((*keys, "model"), f"there is no model {guard.model!r}")
    for name in ("max_chars", "max_tokens", "max_messages", "timeout_s"):
        value = getattr(guard, name)
        if value is not None and not 0 < value < inf:
            raise place.error((*keys, name), "must be above 0")
    if guard.threshold is not None and not 0 < guard.threshold <= 1:
        raise place.error((*keys, "threshold"), "must be above 0 and at most 1")


_GUARD_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "kinds": ("secrets", "pii"),
    "words": ("deny",),
    "patterns": ("deny",),
    "threshold": ("injection",),
    "max_chars": ("length",),
    "max_tokens": ("length",),
    "max_messages": ("length",),
    "schema": ("schema",),
    "model": ("judge",),
    "rubric": ("judge",),
    "timeout_s": ("judge",),
    "use": ("custom",),
    "options": ("custom",),
}
_GUARD_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "deny": ("words", "patterns"),
    "length": ("max_chars", "max_tokens", "max_messages"),
    "judge": ("model",),
    "custom": ("use",),
}


def _check_times(keys: tuple[str, ...], of: ModelSettings | RouteSettings, place: _Places) -> None:
    for name in ("deadline_s", "first_token_s", "between_tokens_s"):
        seconds = getattr(of, name)
        if seconds is not None and not 0 < seconds < inf:
            raise place.error((*keys, name), "must be above 0 seconds")


def _check_replies(parsed: _File, place: _Places) -> None:
    for name in ("memory_bytes", "store_bytes"):
        if getattr(parsed.cache, name) < 0:
            raise place.error(("cache", name), "must be at least 0")
    models = {*BUILT_IN, *parsed.models}
    for table, named in (("models", parsed.models), ("routes", parsed.routes)):
        for name, settings in named.items():
            if settings.cache is not None and settings.cache.semantic is not None:
                keys = (table, name, "cache", "semantic")
                _check_semantic(keys, settings.cache.semantic, models, place)
                if not parsed.cache.store_bytes:
                    raise place.error(keys, "needs the store; raise store_bytes under [cache]")


def _check_semantic(
    keys: tuple[str, ...], semantic: SemanticSettings, models: set[str], place: _Places
) -> None:
    if not 0 < semantic.threshold <= 1:
        raise place.error((*keys, "threshold"), "must be above 0 and at most 1")
    if semantic.model not in models:
        raise place.error((*keys, "model"), f"there is no model {semantic.model!r}; add it under [models]")


def _check_cache(keys: tuple[str, ...], cache: CacheSettings | None, place: _Places) -> None:
    if cache is not None and not 0 < cache.ttl_s < inf:
        raise place.error((*keys, "ttl_s"), "must be above 0 seconds")


def _check_limits(keys: tuple[str, ...], limits: Limits, in_process: bool, place: _Places) -> None:
    for name in Limits.__struct_fields__:
        value = getattr(limits, name)
        if value is not None and value < 1:
            raise place.error((*keys, name), "must be at least 1")
    if limits.at_once is not None and in_process:
        raise place.error(
            (*keys, "at_once"),
            "is for models over HTTP; of one in this process further calls wait: set slots of its provider",
        )


def _check_route(keys: tuple[str, ...], route: RouteSettings, models: set[str], place: _Places) -> None:
    if keys[1] in models:
        raise place.error(keys, f"there is a model {keys[1]!r} already; give the route another name")
    if not route.models:
        raise place.error((*keys, "try"), "must name at least one model")
    for model in route.models:
        if model not in models:
            near = difflib.get_close_matches(model, models, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise place.error((*keys, "try"), f"there is no model {model!r}; {hint}add it under [models]")
    if len(set(route.models)) < len(route.models):
        raise place.error((*keys, "try"), "names a model twice; use retries for further tries at one model")
    if not 0 <= route.retries <= 10:
        raise place.error((*keys, "retries"), "must be from 0 to 10")
    _check_times(keys, route, place)
    _check_cache((*keys, "cache"), route.cache, place)
    if route.weights and route.balance != "weighted":
        raise place.error((*keys, "weights"), 'needs balance = "weighted"')
    if route.balance == "weighted" and len(route.weights) != len(route.models):
        raise place.error(
            (*keys, "weights"), f"must be {len(route.models)} numbers, one for each model of try"
        )
    if any(not 0 <= weight < inf for weight in route.weights) or (route.weights and not sum(route.weights)):
        raise place.error((*keys, "weights"), "must be numbers of at least 0, one of them above it")


def _check_provider(keys: tuple[str, ...], provider: ProviderSettings, place: _Places) -> None:
    if provider.api_key is not None and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", provider.api_key):
        raise place.error(
            (*keys, "api_key"),
            'secrets are named, not written: use "env:NAME" and export NAME (what stands here is not shown)',
        )
    if provider.dialect in REMOTE:
        if provider.base_url is None:
            example = _BASE_URLS[provider.dialect]
            raise place.error(keys, f'base_url is missing, for example "{example}"')
        url = urlsplit(provider.base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise place.error(
                (*keys, "base_url"), f"{provider.base_url!r} is not an http:// or https:// address"
            )
        if url.username or url.password:
            raise place.error((*keys, "base_url"), "must not hold credentials; use api_key")
        if url.scheme == "http" and provider.api_key and not is_loopback(url.hostname):
            raise place.error((*keys, "base_url"), "would send the api_key unencrypted; use https://")
    for name, dialects in _ONLY_FOR.items():
        if getattr(provider, name) not in (None, ()) and provider.dialect not in dialects:
            raise place.error(
                (*keys, name), f"is for the dialect {' or '.join(dialects)}, not {provider.dialect}"
            )
    for name in ("context_tokens", "slots", "threads", "max_tokens"):
        value = getattr(provider, name)
        if value is not None and value < 1:
            raise place.error((*keys, name), "must be at least 1")


_BASE_URLS: dict[str, str] = {
    "openai": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "compatible": "http://127.0.0.1:11434/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}

_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "base_url": tuple(_BASE_URLS),
    "api_key": tuple(_BASE_URLS),
    "prices": tuple(_BASE_URLS),
    "max_tokens": ("anthropic",),
    "path": ("local", "local-embeddings"),
    "context_tokens": ("local",),
    "slots": ("local",),
    "threads": ("local", "local-embeddings"),
    "replies": ("scripted",),
}
