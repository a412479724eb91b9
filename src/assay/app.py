"""The application: the one place that wires configuration, store, providers and gateway together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

from anyio import to_thread

from assay.config import (
    REMOTE,
    BudgetSettings,
    CacheSettings,
    Config,
    ModelSettings,
    ProviderSettings,
    RouteSettings,
    ShadowSettings,
    load,
)
from assay.errors import BadResponse, DatasetError, RequestError
from assay.evals.calling import ask
from assay.evals.dataset import Dataset
from assay.evals.jsonl import SUFFIX, read_dataset
from assay.evals.store import DatasetStore
from assay.gateway import DEFAULT_DEADLINE_S, Healths, Meters, Route, Target, gateway
from assay.gateway.cache import Cache, CacheRules, SemanticRules, tenant_of
from assay.gateway.ceiling import Counting
from assay.gateway.guards.build import configured
from assay.gateway.guards.guard import Tally
from assay.gateway.replies import Replies, Shelf
from assay.gateway.shadow import ShadowOf, Shadows
from assay.gateway.spending import Ledger, Purses
from assay.gateway.upstreams import Opened, Upstreams
from assay.keys import Keyring, KeyStore
from assay.prices import Listed, Pricing, assumed, free, listed, look_up
from assay.prompts import PromptTemplate
from assay.prompts.store import PromptStore, Synced
from assay.providers.base import Upstream
from assay.providers.local.model import CONTEXT_TOKENS, SLOTS
from assay.providers.local_embeddings.model import MAX_TOKENS
from assay.providers.transport import Transport
from assay.runs.log import RunLog
from assay.storage import Store
from assay.trace import Metrics, Redactor, Span, SpanWriter, Tracer, TraceStore
from assay.types import (
    JSON,
    Event,
    Handler,
    Message,
    Output,
    Request,
    Response,
    Sampling,
    TextOutput,
    Usage,
    Value,
    replace,
    user,
)

PROMPTS: Final = "prompts"
DATASETS: Final = "datasets"
ANTHROPIC_MAX_TOKENS: Final = 4096
"""What Anthropic's API is told where neither caller nor settings name a limit."""


class Stores:
    """Everything that is kept on disk. Opening it needs no model and no network."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store.open(config.storage_url)
        self.traces = TraceStore(self.store)
        self.prompts = PromptStore(self.store)
        self.datasets = DatasetStore(self.store)
        self.runs = RunLog(self.store)
        self.keys = KeyStore(self.store)
        self.ledger = Ledger(self.store)
        self.replies = Shelf(self.store, max_bytes=config.cache.store_bytes)

    def prompt(self, ref: str) -> PromptTemplate:
        """A prompt by `name`, `name@label` or `name@version`, with the files in prompts/ taken in first."""
        self.sync_prompts()
        return self.prompts.get(ref)

    def sync_prompts(self) -> tuple[Synced, ...]:
        """Takes the files in prompts/ into the store; nothing changes when they are there already."""
        folder = self.config.path(PROMPTS)
        return self.prompts.sync(folder) if folder.is_dir() else ()

    def dataset(self, reference: str) -> Dataset:
        """A dataset by the path of a .jsonl file, by its name in datasets/, or from the store."""
        if reference.endswith(SUFFIX):
            return read_dataset(Path(reference))
        file = self.dataset_file(reference)
        return read_dataset(file, reference) if file.is_file() else self.datasets.get(reference)

    def dataset_file(self, name: str) -> Path:
        """Where the dataset of that name is, or would be, as a file. Raises DatasetError for a bad name."""
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise DatasetError(
                f"{name!r} leads out of {DATASETS}/; name a dataset, or give a path that ends in {SUFFIX}"
            )
        return self.config.path(DATASETS) / f"{name}{SUFFIX}"

    def close(self) -> None:
        self.store.close()


class ModelInfo(Value):
    """A model that callers may name. `problem` says why it cannot be called now.

    `carries` are the kinds of content that the provider's API takes; whether the model understands them is
    the provider's to say. Prices are US dollars for a million tokens at the base rate, None where unknown.
    """

    name: str
    provider: str
    dialect: str
    model: str
    problem: str | None = None
    context_tokens: int | None = None
    carries: tuple[str, ...] = ()
    usd_per_mtok_in: Decimal | None = None
    usd_per_mtok_out: Decimal | None = None


class App:
    """Assay in process. Open it with `assay.open()`; everything that calls a model goes through `handler`."""

    def __init__(
        self,
        stores: Stores,
        writer: SpanWriter,
        upstreams: Upstreams,
        keyring: Keyring,
        purses: Purses,
        cache: Cache,
        shadows: Shadows,
    ) -> None:
        self.stores = stores
        self.store = stores.store
        self.traces = stores.traces
        self.prompts = stores.prompts
        self.datasets = stores.datasets
        self.runs = stores.runs
        self.keys = stores.keys
        self.keyring = keyring
        self.purses = purses
        self.cache = cache
        self.writer = writer
        # What a process knows by now outlives what it is told anew: see `reload`.
        self.healths = Healths()
        self.meters = Meters(self.healths.clock)
        self.metrics = Metrics()
        self.guards = Tally()
        self.shadows = shadows
        self.listeners: list[Callable[[Span], object]] = []
        self.tracer = Tracer(self._record)
        self._upstreams = upstreams
        self._settle(stores.config)

    def _record(self, span: Span) -> None:
        self.metrics.observe(span)
        for listener in self.listeners:
            listener(span)
        self.purses.note(span)
        self.writer.record(span)

    def _settle(self, config: Config) -> None:
        """Puts a configuration in force, in one step, or raises and does not."""
        found = self._upstreams.of(config)
        routes, models = _wired(config, found)
        handler = gateway(
            routes,
            self.tracer,
            capture_content=config.trace.capture_content,
            healths=self.healths,
            meters=self.meters,
            keyring=self.keyring,
            purses=self.purses,
            counting=_counting(config),
            cache=self.cache,
            posts=configured(config),
            tally=self.guards,
            shadows=self.shadows,
        )
        self._upstreams.keep(found)
        self.metrics.models = frozenset(routes)
        self.writer.redact = Redactor(config.secrets) if config.trace.redact_secrets else None
        self.config: Config = config
        self.routes: dict[str, Route] = routes
        self.models: list[ModelInfo] = models
        self.handler: Handler = handler

    def reload(self, config: Config) -> None:
        """Puts another configuration in force. Calls under way end on the old one.

        Providers whose settings are as they were keep their connections and their loaded models; circuits,
        limits and caches keep what they know. Raises ConfigError, and changes nothing, for what needs a
        restart.
        """
        self.config.check_reload(config)
        self._settle(config)

    async def call(
        self,
        model: str,
        messages: str | Iterable[Message],
        *,
        sampling: Sampling = Sampling(),
        output: Output = TextOutput(),
    ) -> Response:
        """One call, answered whole. `messages` may be one user message's text.

        Raises RequestError for what the caller can mend, ProviderError for the upstream's failures.
        """
        said = (user(messages),) if isinstance(messages, str) else tuple(messages)
        return await self.respond(Request(model, said, sampling=sampling, output=output))

    async def run_prompt(
        self, ref: str, variables: dict[str, JSON] | None = None, *, model: str | None = None
    ) -> Response:
        """One call with a prompt of the store: `name`, `name@label` or `name@version`.

        The label is looked up at each call, so moving it moves the callers. The span keeps prompt, version
        and variables. Raises NotFound for an unknown prompt, PromptError for variables that it cannot take.
        """
        prompt = await to_thread.run_sync(self.prompts.get, ref)
        return await self.respond(prompt.request(variables, model=model))

    async def embed(
        self, model: str, inputs: str | Iterable[str], *, dimensions: int | None = None
    ) -> tuple[tuple[float, ...], ...]:
        """The vectors of the texts, in their order. `dimensions` is their length, where one may choose it.

        Raises as `call`; UnsupportedFeature for a model that gives no vectors.
        """
        texts = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        if not texts:
            raise RequestError("There is nothing to embed; give at least one text", param="inputs")
        said = tuple(user(text) for text in texts)
        request = Request(model, said, operation="embeddings", dimensions=dimensions)
        return (await self.respond(request)).vectors

    async def count_tokens(self, model: str, messages: str | Iterable[Message]) -> int:
        """How many tokens the model would read, as its provider counts them. Raises as `call`."""
        said = (user(messages),) if isinstance(messages, str) else tuple(messages)
        usage = (await self.respond(Request(model, said, operation="count_tokens"))).usage
        if usage is None:
            raise BadResponse(f"{model} did not say how many tokens it counted")
        return usage.tokens_in

    async def respond(self, request: Request) -> Response:
        """The whole reply to `request`."""
        return await ask(self.handler, request)

    def stream(self, request: Request) -> AsyncIterator[Event]:
        """The reply as it comes; read it inside `assay.types.closing`."""
        return self.handler(request)

    def flush(self) -> None:
        """Returns when every span recorded so far is stored."""
        self.writer.flush()


@asynccontextmanager
async def open_app(config: Config | Path | str | None = None) -> AsyncIterator[App]:
    """Opens everything, and closes it on the way out, with all spans stored.

    `config` is a Config, the path of an assay.toml, or None for the nearest one (see assay.config.load).
    """
    settings = config if isinstance(config, Config) else load(config)
    async with AsyncExitStack() as stack:
        stores = Stores(settings)
        stack.callback(stores.close)
        writer = SpanWriter(
            stores.store,
            flush_interval_s=settings.trace.flush_interval_s,
            queue_spans=settings.trace.queue_spans,
        )
        stack.callback(writer.close)
        keyring = Keyring(stores.keys)
        stack.callback(keyring.close)
        purses = Purses(stores.ledger)
        stack.callback(purses.close)
        # Where what is said is not to be recorded, replies are not either.
        kept = settings.cache.store_bytes and settings.trace.capture_content
        shelf = stores.replies if kept else None
        replies = Replies(shelf, max_bytes=settings.cache.memory_bytes)
        stack.callback(replies.close)
        cache = Cache(replies, tenant_of(keyring.find))
        transport = await stack.enter_async_context(Transport())
        upstreams = Upstreams(transport)
        stack.push_async_callback(upstreams.aclose)
        shadows = Shadows()
        stack.push_async_callback(shadows.aclose)
        yield App(stores, writer, upstreams, keyring, purses, cache, shadows)


def _wired(settings: Config, upstreams: Mapping[str, Opened]) -> tuple[dict[str, Route], list[ModelInfo]]:
    """The routes of a configuration by the names that callers use, and what there is to know of them."""
    routes: dict[str, Route] = {}
    models: list[ModelInfo] = []
    for name, model in settings.models.items():
        provider = settings.providers[model.provider]
        upstream = upstreams[model.provider].upstream
        upstream_model = model.model or name
        pricing = _counted(_pricing(provider), upstream_model, model, settings.budget)
        target = Target(
            name,
            upstream,
            upstream_model,
            pricing,
            model.deadline_s,
            model.first_token_s,
            model.between_tokens_s,
            model.limits,
        )
        routes[name] = Route(
            name, (target,), cache=_cache_rules(model.cache), shadow=_shadow_of(model.shadow)
        )
        models.append(_info(name, model.provider, upstream_model, provider, upstream))
    for name, settled in settings.routes.items():
        targets = tuple(_of_route(routes[model].targets[0], settled) for model in settled.models)
        routes[name] = Route(
            name,
            targets,
            settled.balance,
            settled.weights,
            settled.retries,
            settled.deadline_s or DEFAULT_DEADLINE_S,
            _cache_rules(settled.cache),
            _shadow_of(settled.shadow),
        )
        models.append(_route_info(name, settled, {info.name: info for info in models}))
    return routes, models


def _counted(pricing: Pricing, model: str, settings: ModelSettings, budget: BudgetSettings) -> Pricing:
    """The pricing, with what assay.toml says of a model that no price is known for."""
    prices = settings.assumed_price
    if prices is None and budget.unknown_usd_per_mtok_in is not None:
        prices = budget.unknown_usd_per_mtok_in, budget.unknown_usd_per_mtok_out or 0.0
    if prices is None or pricing(model, Usage(input=1, output=1)).usd is not None:
        return pricing
    return assumed(pricing, *(Decimal(str(price)) for price in prices))


def _counting(config: Config) -> Counting:
    """What calls are taken for before they are made."""
    caps = {}
    for name, model in config.models.items():
        provider = config.providers[model.provider]
        # Anthropic's API is always told a limit.
        sent = provider.max_tokens or ANTHROPIC_MAX_TOKENS if provider.dialect == "anthropic" else None
        if (cap := model.max_tokens_out or sent) is not None:
            caps[name] = cap
    return Counting(config.budget.bytes_per_token, config.budget.max_tokens_out, caps)


def _cache_rules(settings: CacheSettings | None) -> CacheRules | None:
    if settings is None:
        return None
    alike = settings.semantic
    return CacheRules(settings.ttl_s, None if alike is None else SemanticRules(alike.threshold, alike.model))


def _shadow_of(settings: ShadowSettings | None) -> ShadowOf | None:
    return None if settings is None else ShadowOf(settings.model, settings.share)


def _of_route(target: Target, settled: RouteSettings) -> Target:
    """The target with the route's own limits of time, where it has any."""
    return replace(
        target,
        first_token_s=settled.first_token_s or target.first_token_s,
        between_tokens_s=settled.between_tokens_s or target.between_tokens_s,
    )


_CARRIES: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("text", "image", "audio", "file"),
    "openai-responses": ("text", "image", "file"),
    "compatible": ("text", "image", "audio", "file"),
    "anthropic": ("text", "image", "file"),
    "gemini": ("text", "image", "audio", "video", "file"),
}


def _info(name: str, provider: str, model: str, settings: ProviderSettings, upstream: Upstream) -> ModelInfo:
    if settings.dialect == "local":
        slots = settings.slots or SLOTS
        listed_as = Listed((settings.context_tokens or CONTEXT_TOKENS) // slots, Decimal(0), Decimal(0))
    elif settings.dialect == "local-embeddings":
        listed_as = Listed(MAX_TOKENS, Decimal(0), Decimal(0))
    elif settings.dialect not in REMOTE or settings.prices == "free":
        listed_as = Listed(None, Decimal(0), Decimal(0))
    else:
        listed_as = look_up(model, settings.prices, url=None if settings.prices else settings.base_url)
    return ModelInfo(
        name,
        provider,
        settings.dialect,
        model,
        upstream.problem.message if upstream.problem else None,
        listed_as.context_tokens,
        _CARRIES.get(settings.dialect, ("text",)),
        listed_as.usd_per_mtok_in,
        listed_as.usd_per_mtok_out,
    )


def _route_info(name: str, settled: RouteSettings, known: dict[str, ModelInfo]) -> ModelInfo:
    """A route among the models: it can be called while one of its models can."""
    problems = [known[model].problem for model in settled.models]
    return ModelInfo(
        name,
        "route",
        "route",
        " > ".join(settled.models) if settled.balance == "order" else ", ".join(settled.models),
        problems[0] if all(problems) else None,
        carries=tuple(dict.fromkeys(kind for model in settled.models for kind in known[model].carries)),
    )


def _pricing(settings: ProviderSettings) -> Pricing:
    if settings.dialect not in REMOTE:
        return free("runs in this process")
    if settings.prices == "free":
        return free("declared free in assay.toml")
    if settings.prices is not None:
        return listed(settings.prices)
    return listed(url=settings.base_url)
