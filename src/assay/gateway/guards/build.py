"""From the configuration's words to guards at their posts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, assert_never

import msgspec

from assay.config import Config, GuardSettings
from assay.errors import ConfigError
from assay.gateway.guards import deny, patterns
from assay.gateway.guards.guard import Guard, Injection, Judged, Length, Patterns, Posted, Posts, Shaped
from assay.gateway.guards.injection import THRESHOLD
from assay.gateway.guards.judge import TIMEOUT_S, Judge
from assay.gateway.guards.shape import Lengths, Schema
from assay.types import Handler

GROUP: Final = "assay.guards"
"""The entry points under which a package offers guards: each a function from options to a Guard."""


def configured(config: Config) -> Posts:
    """Raises ConfigError, when called, for a guard that cannot be made.

    A route is guarded by its own guards and by those of all models that it leads to.
    """

    def made(call: Handler) -> Mapping[str, tuple[Posted, ...]]:
        posts = {name: _posted(name, settings, config, call) for name, settings in config.guards.items()}
        named = {name: model.guards for name, model in config.models.items()}
        for name, route in config.routes.items():
            named[name] = tuple(
                dict.fromkeys((*route.guards, *(guard for model in route.models for guard in named[model])))
            )
        return {name: tuple(posts[guard] for guard in guards) for name, guards in named.items() if guards}

    return made


def _posted(name: str, settings: GuardSettings, config: Config, call: Handler) -> Posted:
    try:
        guard = _guard(settings, config, call)
    except ConfigError as error:
        where = config.file or "assay.toml"
        raise ConfigError(f"{where}: guards.{name}: {error.message}") from error
    return Posted(name, guard, frozenset(settings.sides), settings.action)


def _guard(settings: GuardSettings, config: Config, call: Handler) -> Guard:
    match settings.rule:
        case "secrets":
            return Patterns(patterns.secrets(_kinds(settings, patterns.SECRET_KINDS)))
        case "pii":
            return Patterns(patterns.personal(_kinds(settings, patterns.PERSONAL_KINDS)))
        case "deny":
            return Patterns((*deny.words(settings.words), *deny.patterns(settings.patterns)))
        case "injection":
            return Injection(THRESHOLD if settings.threshold is None else settings.threshold)
        case "length":
            return Length(Lengths(settings.max_chars, settings.max_tokens, settings.max_messages))
        case "schema":
            return Shaped(Schema(None if settings.schema is None else _read(config.path(settings.schema))))
        case "judge":
            assert settings.model is not None  # checked by assay.config
            assert settings.rubric is not None
            closed, timeout_s = settings.on_error == "block", settings.timeout_s or TIMEOUT_S
            return Judged(Judge(settings.model, settings.rubric, call, closed=closed, timeout_s=timeout_s))
        case "custom":
            assert settings.use is not None
            return _custom(settings.use, settings.options)
        case _:
            assert_never(settings.rule)


def _kinds(settings: GuardSettings, known: tuple[str, ...]) -> tuple[str, ...]:
    for kind in settings.kinds:
        if kind not in known:
            raise ConfigError(f"kinds: {kind!r} is not one of {', '.join(known)}")
    return settings.kinds


def _read(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ConfigError(f"schema: {file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"schema: {file} is not a JSON object: {error}") from error


def _custom(name: str, options: Mapping[str, str]) -> Guard:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        there = f"there are: {', '.join(sorted(found))}" if found else "none is installed"
        raise ConfigError(f"use: no package offers the guard {name!r} as an entry point of {GROUP} ({there})")
    guard: Guard = found[name].load()(options)
    return guard
