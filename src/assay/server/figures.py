"""The figures of several workers, put together: each leaves its own in a file that the others read.

A worker that died has its counts in the sums still, so that they never fall; what it had under way is gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from assay.server.metrics import is_gauge
from assay.storage.serving import replace_file
from assay.trace import Sample

EVERY_S: Final = 1.0
_decode = msgspec.json.Decoder(list[Sample]).decode


class Figures:
    """Those of one worker among others, all in one folder."""

    def __init__(self, folder: Path, own: Callable[[], list[Sample]]) -> None:
        folder.mkdir(exist_ok=True, mode=0o700)
        self._folder = folder
        self._own = own
        self._file = folder / f"{os.getpid()}.json"

    def write(self) -> None:
        """Leaves this worker's for the others."""
        replace_file(self._file, msgspec.json.encode(self._own()))

    def others(self) -> list[Sample]:
        """What the other workers left last, at most `EVERY_S` ago."""
        found: list[Sample] = []
        for file in self._folder.glob("*.json"):
            if file == self._file:
                continue
            with suppress(FileNotFoundError, msgspec.DecodeError):
                samples = _decode(file.read_bytes())
                lives = _lives(int(file.stem))
                found += [one for one in samples if lives or not is_gauge(one.name)]
        return found

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Writes while the block lasts, and at its end."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.write()

    async def _keep(self) -> None:
        while True:
            self.write()
            await asyncio.sleep(EVERY_S)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
