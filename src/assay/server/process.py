"""One serving process, from its first signal to its last span. Which processes there are: .workers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from assay.app import App, open_app
from assay.config import Config
from assay.errors import ConfigError
from assay.server import logs
from assay.server.app import Server
from assay.server.asgi import ASGIApp
from assay.server.figures import Figures
from assay.server.joined import Http
from assay.server.upkeep import upkeep
from assay.server.workers import READY, Worker
from assay.trace import Redactor

LAST_S: Final = 2.0
"""How long calls that are cut off may take to note their ends."""
log = logging.getLogger("assay.server")


class _Uvicorn(uvicorn.Server):
    """Signals are ours: uvicorn would raise them again at its end, when the spans are still to be stored."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Process:
    """Serves `config` on `listener` until SIGTERM or SIGINT.

    The first signal lets calls in flight finish, `grace_s` at most, while no new connection is taken; a
    second one ends them at once. On SIGHUP `reread` gives the configuration anew, and `told` hears what came
    of it.
    """

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        *,
        reread: Callable[[], Config],
        told: Callable[[str | None], object],
        worker: Worker | None = None,
        figures: Path | None = None,
    ) -> None:
        self._config = config
        self._listener = listener
        self._reread = reread
        self._told = told
        self._worker = worker
        self._figures = figures
        self._signals = 0
        self._app: App | None = None
        self._server: _Uvicorn | None = None

    async def run(self, begun: Callable[[App], ASGIApp | None]) -> None:
        """`begun` is called when everything is open, and gives the pages beside the API."""
        self._listen_to_signals()
        async with AsyncExitStack() as stack:
            app = self._app = await stack.enter_async_context(open_app(self._config))
            if self._worker is not None:
                # Connections are spread evenly over the workers, and so are the limits.
                app.meters.share = self._worker.count
            server = Server(app, pages=begun(app))
            # What is loaded by now stays: the collector need not look at it again for each new object.
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 50, 50)
            first = self._worker is None or self._worker.number == 0
            await stack.enter_async_context(upkeep(app, alone=first))
            if logs.calls.isEnabledFor(logging.INFO):
                app.listeners.append(logs.note)
            if self._figures is not None:
                figures = Figures(self._figures, server.samples)
                server.others = figures.others
                await stack.enter_async_context(figures.kept())
            # A signal that came while everything was opened ends it before it begins.
            if not self._signals:
                await self._serve(server)

    async def _serve(self, server: Server) -> None:
        settings = uvicorn.Config(
            server,
            http=Http,
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=self._config.server.grace_s,  # type: ignore[arg-type]
        )
        self._server = _Uvicorn(settings)
        if self._worker is not None:
            os.write(self._worker.ready, READY)
        await self._server.serve(sockets=[self._listener])
        left = set(self._server.server_state.tasks)
        if left:
            log.warning("%d calls were cut off", len(left))
            # It would show each of them as a defect.
            logging.getLogger("uvicorn.error").disabled = True
            for task in left:
                task.cancel()
            # Their spans, too, are stored.
            await asyncio.wait(left, timeout=LAST_S)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self._worker is not None:
            loop.add_reader(self._worker.life, self._orphaned)

    def _orphaned(self) -> None:
        """The parent is gone without a word."""
        assert self._worker is not None
        asyncio.get_running_loop().remove_reader(self._worker.life)
        log.error("the parent of this worker is gone: it stops, too")
        self._stop()

    def _stop(self) -> None:
        self._signals += 1
        if self._server is not None:
            self._server.force_exit = self._server.should_exit
            self._server.should_exit = True

    def _reload(self) -> None:
        if self._app is None:
            return
        try:
            config = self._reread()
            self._app.reload(config)
        except ConfigError as error:
            log.error("the configuration is not taken, and the one before stays in force: %s", error.message)
            self._told(error.message)
        else:
            log.info("the configuration was read again, from %s", config.file or "the defaults")
            logs.hide(Redactor(config.secrets))
            self._told(None)
