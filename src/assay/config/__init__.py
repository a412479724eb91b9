"""Settings, read once: assay.toml, and the only place that looks at the environment.

Nothing here opens a file of the store, a socket or a model; `load` returns values and everything else is
given what it needs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from assay.config.addresses import is_address, is_loopback
from assay.config.checks import check_values
from assay.config.places import Places, check_keys
from assay.config.settings import (
    BUILT_IN,
    FILE_NAME,
    REMOTE,
    BudgetSettings,
    CacheSettings,
    File,
    GuardSettings,
    ModelSettings,
    ProviderDialect,
    ProviderSettings,
    ReplySettings,
    RouteSettings,
    SemanticSettings,
    ServerSettings,
    ShadowSettings,
    StorageSettings,
    TraceSettings,
)
from assay.errors import ConfigError
from assay.types import Value

__all__ = [
    "BUILT_IN",
    "FILE_NAME",
    "REMOTE",
    "BudgetSettings",
    "CacheSettings",
    "Config",
    "GuardSettings",
    "ModelSettings",
    "ProviderDialect",
    "ProviderSettings",
    "ReplySettings",
    "RouteSettings",
    "SemanticSettings",
    "ServerSettings",
    "ShadowSettings",
    "StorageSettings",
    "TraceSettings",
    "is_address",
    "is_loopback",
    "load",
]

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
    parsed = File()
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


def _parse(path: Path) -> File:
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
    place = Places(path, text)
    check_keys(raw, File, (), place)
    parsed = msgspec.convert(raw, File)
    check_values(parsed, place)
    return parsed
