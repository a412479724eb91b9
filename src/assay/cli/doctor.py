"""`assay doctor`: is everything there that calls need? It looks and changes nothing; mending is the reader's.

A further look into the store is a function in `STORE_CHECKS`; one that takes long gets an option of its own.
"""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, Final, Literal

import typer
from rich.markup import escape

from assay.cli.ledger import check_ledger
from assay.cli.shell import EXIT_ERROR, JSON_OPTION, Shell, seconds
from assay.config import REMOTE, Config, ProviderSettings
from assay.errors import AssayError, ConfigError, ProviderError, StorageError
from assay.types import Value

Status = Literal["ok", "warning", "failed"]
StoreCheck = Callable[[Any], "list[Finding]"]
"""Gets the open assay.app.Stores, of the schema that this Assay wants."""

_LOW_BYTES: Final = 1 << 30
_FULL_BYTES: Final = 64 << 20
_SKEW_S: Final = 60.0


class Finding(Value):
    """One thing that was looked at. `detail` says what was found and, where it is amiss, what to do."""

    name: str
    status: Status
    detail: str


STORE_CHECKS: Final[tuple[StoreCheck, ...]] = ()
"""What else is looked at in a store that is sound, each time."""


def doctor(
    context: typer.Context,
    offline: bool = typer.Option(False, "--offline", help="Leave the providers' addresses alone."),
    ledger: bool = typer.Option(
        False, "--ledger", help="Compare the ledger of spending with the spans, each key and day."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check the configuration, keys, providers, clock, disk, store and libraries. No call is paid for.

    Ends with 0 when calls can be made (warnings included), with 3 when something failed.
    """
    shell: Shell = context.obj
    findings = list(_versions())
    try:
        config = shell.config
    except ConfigError as error:
        findings.append(Finding("config", "failed", error.message))
    else:
        file = str(config.file) if config.file else "no assay.toml; the defaults are in force"
        findings.append(Finding("config", "ok", file))
        findings += _keys(config)
        findings += _weights(config)
        findings += _disk(config)
        findings += _store(config, (*STORE_CHECKS, check_ledger) if ledger else STORE_CHECKS)
        if not offline:
            findings += shell.run(lambda: _providers(config))
    _report(shell, findings, as_json=as_json)
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(EXIT_ERROR)


def _report(shell: Shell, findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        failed = any(finding.status == "failed" for finding in findings)
        shell.json({"ok": not failed, "findings": findings})
        return
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    rows = [
        [
            f"[{colours[finding.status]}]{finding.status}[/{colours[finding.status]}]",
            escape(finding.name),
            escape(finding.detail),
        ]
        for finding in findings
    ]
    shell.table({"": "left", "what": "left", "found": "left"}, rows, "Nothing was looked at.")


def _versions() -> Iterator[Finding]:
    """This Assay, its Python and SQLite, and the libraries that it needs."""
    yield Finding(
        "versions",
        "ok",
        f"assay {_version('assay') or '?'}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {sys.platform}",
    )
    present: list[str] = []
    missing: list[str] = []
    for requirement in metadata.requires("assay") or ():
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        if "extra ==" in requirement or ("sys_platform" in requirement and sys.platform == "win32"):
            continue
        version = _version(name)
        (missing if version is None else present).append(name if version is None else f"{name} {version}")
    if missing:
        advice = f"missing: {', '.join(missing)}; install Assay again"
        yield Finding("libraries", "failed", advice)
    else:
        yield Finding("libraries", "ok", ", ".join(present))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _used(config: Config) -> dict[str, ProviderSettings]:
    """The providers that a model leads to."""
    used = {model.provider for model in config.models.values()}
    return {name: provider for name, provider in config.providers.items() if name in used}


def _keys(config: Config) -> Iterator[Finding]:
    for name, provider in _used(config).items():
        if provider.api_key is None:
            continue
        try:
            config.secret(provider.api_key, where=f"[providers.{name}] api_key")
        except ConfigError as error:
            yield Finding(f"key of {name}", "failed", error.message)
        else:
            variable = provider.api_key.removeprefix("env:")
            yield Finding(f"key of {name}", "ok", f"{variable} is set")


def _weights(config: Config) -> Iterator[Finding]:
    from assay.providers.weights import find

    for name, provider in _used(config).items():
        if provider.dialect not in ("local", "local-embeddings"):
            continue
        path = config.path(provider.path) if provider.path else find(provider.dialect, config.cache_dir)
        if path is not None and path.exists():
            yield Finding(f"weights of {name}", "ok", str(path))
        elif provider.path:
            yield Finding(f"weights of {name}", "failed", f"there is no {path}; check its path")
        else:
            advice = f"not pulled; to call {name}, run 'assay models pull {provider.dialect}'"
            yield Finding(f"weights of {name}", "warning", advice)


def _disk(config: Config) -> Iterator[Finding]:
    folder = config.store_file.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("disk", "failed", f"{folder} cannot be looked at ({error.strerror})")
        return
    told = f"{_size(free)} free at {folder}"
    if free < _FULL_BYTES:
        yield Finding("disk", "failed", f"{told}; free some space, or spans will be dropped")
    elif free < _LOW_BYTES:
        yield Finding("disk", "warning", f"{told}; 'assay trace prune' and old backups are where to look")
    else:
        yield Finding("disk", "ok", told)


def _store(config: Config, checks: Sequence[StoreCheck]) -> Iterator[Finding]:
    from assay.storage.health import inspect
    from assay.storage.migrate import HEAD

    file = config.store_file
    try:
        health = inspect(file)
    except (StorageError, OSError) as error:
        yield Finding("store", "failed", str(error))
        return
    if health is None:
        yield Finding("store", "ok", f"{file} is not there yet; the first call makes it")
        return
    if health.damage:
        advice = "stop Assay and restore a backup (docs/how-to/operate.md)"
        yield Finding("store", "failed", f"{file} is damaged: {'; '.join(health.damage)}; {advice}")
        return
    yield Finding("store", "ok", f"{file} is sound, {_size(health.bytes)}")
    if health.revision == HEAD:
        yield Finding("schema", "ok", f"{HEAD}, the newest")
        yield from _inside(config, checks)
    elif health.revision is not None and health.revision > HEAD:
        advice = f"this Assay knows up to {HEAD}; install the newer Assay that wrote it"
        yield Finding("schema", "failed", f"{health.revision}: {advice}")
    else:
        told = f"{health.revision or 'none'}; the next command that opens the store brings it to {HEAD}"
        yield Finding("schema", "warning", told)


def _inside(config: Config, checks: Sequence[StoreCheck]) -> Iterator[Finding]:
    if not checks:
        return
    from assay.app import Stores

    stores = Stores(config)
    try:
        for check in checks:
            yield from check(stores)
    except AssayError as error:
        yield Finding("store", "failed", error.message)
    finally:
        stores.close()


async def _providers(config: Config) -> list[Finding]:
    """All addresses at once; several providers may share one."""
    remote = {name: provider for name, provider in _used(config).items() if provider.dialect in REMOTE}
    found = await asyncio.gather(*(_provider(name, one.base_url or "") for name, one in remote.items()))
    return [finding for findings in found for finding in findings]


async def _provider(name: str, base_url: str) -> list[Finding]:
    from assay.providers.reach import reach

    try:
        reached = await reach(base_url)
    except ProviderError as error:
        return [Finding(f"provider {name}", "failed", error.message)]
    secured = "TLS verified" if reached.tls else "no TLS"
    told = f"{reached.address} answers, {secured}, connected in {seconds(reached.connect_s)}"
    findings = [Finding(f"provider {name}", "ok", told)]
    if reached.skew_s is not None and abs(reached.skew_s) > _SKEW_S:
        way = "ahead of" if reached.skew_s > 0 else "behind"
        told = f"this clock is {abs(reached.skew_s):.0f} s {way} that of {reached.address}; set it by NTP"
        findings.append(Finding(f"clock by {name}", "warning", told))
    elif reached.skew_s is not None:
        findings.append(Finding(f"clock by {name}", "ok", f"within {_SKEW_S:g} s of {reached.address}"))
    return findings


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
