"""What a serving process does beside calls: deleting the spans that [trace] keep_days has expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from anyio import to_thread

from assay.app import App
from assay.errors import StorageError
from assay.trace import days_ago, prune

EVERY_S: Final = 3600.0
log = logging.getLogger("assay.trace")


@asynccontextmanager
async def upkeep(
    app: App, *, alone: bool = True, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> AsyncIterator[None]:
    """Works while the block lasts, at once and then every hour, if no other process of this server does."""
    if not alone:
        yield
        return
    task = asyncio.create_task(_work(app, sleep))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _work(app: App, sleep: Callable[[float], Awaitable[object]]) -> None:
    while True:
        # Read each time: a reload may have changed it.
        days = app.config.trace.keep_days
        if days is not None:
            try:
                pruned = await to_thread.run_sync(prune, app.store, days_ago(days))
            except StorageError as error:
                log.warning("old spans could not be deleted, which is tried again in an hour: %s", error)
            else:
                if pruned.spans:
                    log.info("deleted %d spans older than %d days", pruned.spans, days)
        await sleep(EVERY_S)
