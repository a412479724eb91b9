"""What the values of assay.toml have to be, and how they have to fit together. Shapes: .places."""

from __future__ import annotations

import difflib
import re
from math import inf
from typing import Final
from urllib.parse import urlsplit

from assay.config.addresses import is_loopback
from assay.config.places import Places
from assay.config.settings import (
    BUILT_IN,
    REMOTE,
    CacheSettings,
    File,
    GuardSettings,
    ModelSettings,
    ProviderSettings,
    RouteSettings,
    SemanticSettings,
    TraceSettings,
)
from assay.types.limits import Limits


def check_values(parsed: File, place: Places) -> None:
    """Raises ConfigError that names the place."""
    _check_server(parsed, place)
    _check_replies(parsed, place)
    _check_budget(parsed, place)
    _check_trace(parsed.trace, place)
    for name, provider in parsed.providers.items():
        _check_provider(("providers", name), provider, place)
    _check_models(parsed, place)
    for name, route in parsed.routes.items():
        _check_route(("routes", name), route, {*BUILT_IN, *parsed.models}, place)
    _check_guards(parsed, place)


def _check_server(parsed: File, place: Places) -> None:
    """Where it listens, and where it keeps things."""
    if not 0 <= parsed.server.port <= 65535:
        raise place.error(("server", "port"), f"{parsed.server.port} is not a port (0 to 65535)")
    for name in parsed.server.hosts:
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", name):
            raise place.error(("server", "hosts"), f"{name!r} is not a name such as assay.example.com")
    if not 0 <= parsed.server.grace_s < inf:
        raise place.error(("server", "grace_s"), "must be at least 0 seconds")
    if parsed.server.max_body_bytes < 1:
        raise place.error(("server", "max_body_bytes"), "must be at least 1")
    scheme = parsed.storage.url.partition(":")[0]
    path = parsed.storage.url.removeprefix("sqlite:///")
    if scheme != "sqlite" or path in ("", ":memory:", parsed.storage.url):
        raise place.error(("storage", "url"), f"{parsed.storage.url!r} is not of the form sqlite:///PATH")


def _check_models(parsed: File, place: Places) -> None:
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


def _check_trace(trace: TraceSettings, place: Places) -> None:
    if not 0 < trace.flush_interval_s <= 60:
        raise place.error(("trace", "flush_interval_s"), "must be above 0 and at most 60 seconds")
    if trace.queue_spans < 1:
        raise place.error(("trace", "queue_spans"), "must be at least 1")
    if trace.keep_days is not None and trace.keep_days < 1:
        raise place.error(("trace", "keep_days"), "must be at least 1; leave it out to keep spans for good")


def _check_budget(parsed: File, place: Places) -> None:
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


def _check_guards(parsed: File, place: Places) -> None:
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


def _check_judges(parsed: File, place: Places) -> None:
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


def _check_guard(keys: tuple[str, ...], guard: GuardSettings, models: set[str], place: Places) -> None:
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


def _check_times(keys: tuple[str, ...], of: ModelSettings | RouteSettings, place: Places) -> None:
    for name in ("deadline_s", "first_token_s", "between_tokens_s"):
        seconds = getattr(of, name)
        if seconds is not None and not 0 < seconds < inf:
            raise place.error((*keys, name), "must be above 0 seconds")


def _check_replies(parsed: File, place: Places) -> None:
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
                if not parsed.trace.capture_content:
                    raise place.error(keys, "keeps what was asked, which [trace] capture_content forbids")


def _check_semantic(
    keys: tuple[str, ...], semantic: SemanticSettings, models: set[str], place: Places
) -> None:
    if not 0 < semantic.threshold <= 1:
        raise place.error((*keys, "threshold"), "must be above 0 and at most 1")
    if semantic.model not in models:
        raise place.error((*keys, "model"), f"there is no model {semantic.model!r}; add it under [models]")


def _check_cache(keys: tuple[str, ...], cache: CacheSettings | None, place: Places) -> None:
    if cache is not None and not 0 < cache.ttl_s < inf:
        raise place.error((*keys, "ttl_s"), "must be above 0 seconds")


def _check_limits(keys: tuple[str, ...], limits: Limits, in_process: bool, place: Places) -> None:
    for name in Limits.__struct_fields__:
        value = getattr(limits, name)
        if value is not None and value < 1:
            raise place.error((*keys, name), "must be at least 1")
    if limits.at_once is not None and in_process:
        raise place.error(
            (*keys, "at_once"),
            "is for models over HTTP; of one in this process further calls wait: set slots of its provider",
        )


def _check_route(keys: tuple[str, ...], route: RouteSettings, models: set[str], place: Places) -> None:
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


def _check_provider(keys: tuple[str, ...], provider: ProviderSettings, place: Places) -> None:
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
