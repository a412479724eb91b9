"""Several processes on one port: the parent that starts them, watches them and ends them. Calls are theirs.

    outcome = Workers(4, say=print, reload=lambda: None).run()
    if isinstance(outcome, Worker): ...      # this is one of them, right after the fork
    else: ...                                # this is the parent, and all of them have ended: its exit status

The parent has no event loop, no thread and no connection, so that forking again is safe at any time. It keeps
every socket open: what waits to be accepted by a worker that died is served by the one that follows it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from assay.errors import ConfigError
from assay.types import Value

RESTARTS: Final = 5
"""How many deaths within `WITHIN_S` are mended; one more ends everything."""
WITHIN_S: Final = 60.0
FOLLOW_S: Final = 10.0
"""How long the parent waits for its workers to reload."""
READY: Final = b"1"
RELOADED: Final = b"r"
_SIGNALS: Final = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Worker(Value):
    """`number` counts from 0, up to one below `count`; `first` is False for one that replaces another.

    `ready` is a file descriptor to write READY to when calls are taken, and RELOADED each time that another
    configuration is in force or was refused; `life` is one that can be read from
    when the parent is gone.
    """

    number: int
    first: bool
    ready: int
    life: int
    count: int = 1


class _Child:
    def __init__(self, number: int, heard: int) -> None:
        self.number = number
        self._heard = heard
        self._said = b""

    def followed(self, times: int, until: float) -> int:
        """How often it has reloaded, once that is `times`, or it is `until` (monotonic), or it has ended."""
        while (count := self._said.count(RELOADED)) < times:
            ready, _, _ = select.select([self._heard], [], [], max(0.0, until - time.monotonic()))
            said = os.read(self._heard, 64) if ready else b""
            if not said:
                break
            self._said += said
        return count

    def reloads(self) -> int:
        """How often it has reloaded by now."""
        return self.followed(sys.maxsize, time.monotonic())

    def was_ready(self) -> bool:
        """Whether it took calls; asked once, after its end."""
        self.reloads()
        os.close(self._heard)
        return READY in self._said


class Workers:
    """`say` tells people what happened.

    `reload` is called on SIGHUP. Where it gives something to call, SIGHUP is passed on to the workers, and
    that is called when they have all followed.
    """

    def __init__(
        self,
        count: int,
        *,
        say: Callable[[str], object],
        reload: Callable[[], Callable[[], object] | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._say = say
        self._reload = reload
        self._clock = clock
        self._children: dict[int, _Child] = {}
        self._deaths: list[float] = []
        self._ending = False
        self._status = 0
        self._life = os.pipe()

    def run(self) -> Worker | int:
        """Returns in each worker as it begins, and in the parent when all have ended."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        worker: Worker | None = None
        for number in range(self._count):
            if worker := self._start(number, first=True):
                break
        while worker is None and self._children:
            worker = self._handle(signal.sigwait(_SIGNALS))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if worker is not None:
            return worker
        return self._status

    def _start(self, number: int, *, first: bool) -> Worker | None:
        heard, ready = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(ready)
            self._children[pid] = _Child(number, heard)
            return None
        # Ctrl-C goes to the parent alone, which hands it on once.
        os.setpgid(0, 0)
        os.close(heard)
        os.close(self._life[1])
        return Worker(number, first, ready, self._life[0], self._count)

    def _handle(self, number: int) -> Worker | None:
        match number:
            case signal.SIGCHLD:
                return self._reap()
            case signal.SIGHUP:
                if not self._ending and (done := self._reload()) is not None:
                    self._pass_on()
                    done()
            case _:
                # A second one, too, is handed on: it ends them at once.
                self._end(0)
        return None

    def _pass_on(self) -> None:
        before = {pid: child.reloads() for pid, child in self._children.items()}
        self._tell(signal.SIGHUP)
        until = time.monotonic() + FOLLOW_S
        for pid, child in self._children.items():
            if child.followed(before[pid] + 1, until) <= before[pid]:
                self._say(f"worker {child.number} has not reloaded: it is busy, or not ready yet")

    def _end(self, status: int) -> None:
        self._ending = True
        self._status = self._status or status
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> Worker | None:
        """Takes leave of those that ended. Gives a worker where this is the one that follows."""
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            child = self._children.pop(pid)
            was_ready = child.was_ready()
            if self._ending:
                continue
            told = os.waitstatus_to_exitcode(status)
            how = f"signal {-told}" if told < 0 else f"status {told}"
            now = self._clock()
            self._deaths = [at for at in self._deaths if now - at < WITHIN_S] + [now]
            if not was_ready:
                self._say(f"worker {child.number} ended with {how} before it could take calls")
                self._end(3)
            elif len(self._deaths) > RESTARTS:
                self._say(
                    f"worker {child.number} ended with {how}, the {len(self._deaths)}th of late: stopping"
                )
                self._end(3)
            else:
                self._say(f"worker {child.number} ended with {how}; another one takes its place")
                if worker := self._start(child.number, first=False):
                    return worker
        return None


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """A socket for each of `count` workers, all of them on one port, taking turns where the kernel can do so.

    Raises ConfigError where the port is taken.
    """
    first = _bound(host, port, shared=False)
    if count == 1:
        return [first]
    if sys.platform != "linux":
        # Elsewhere sockets that share a port do not share its connections: all accept from one.
        return [first] * count
    port = first.getsockname()[1]
    first.close()
    return [_bound(host, port, shared=True) for _ in range(count)]


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        address = (host.strip("[]"), port)
        return socket.create_server(address, family=family, backlog=2048, reuse_port=shared)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port} ({error.strerror}); choose another port with --port, "
            f"or stop what listens there"
        ) from error


def close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
