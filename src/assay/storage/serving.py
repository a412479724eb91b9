"""Which servers run with a configuration, and what they told last: files in .assay/run, for `assay reload`.

<pid>.lock    held by the server while it lives, so that another process with its number is not taken for it
<pid>.json    its address, how often it was told to reload, and what came of the last time
<pid>/        figures of its workers, which each of them may read
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from assay.errors import StorageError
from assay.types import Value


class Serving(Value):
    """A running server. `problem` is why its last reload was refused, if it was."""

    pid: int
    url: str
    reloads: int = 0
    problem: str | None = None


class Notice:
    """What a server tells of itself."""

    def __init__(self, folder: Path, said: Serving) -> None:
        self.figures = folder / str(said.pid)
        self._file = folder / f"{said.pid}.json"
        self._said = said
        self._write()

    def reloaded(self, problem: str | None) -> None:
        said = self._said
        self._said = Serving(said.pid, said.url, said.reloads + 1, problem)
        self._write()

    def _write(self) -> None:
        replace_file(self._file, msgspec.json.encode(self._said))


@contextmanager
def serving(folder: Path, url: str) -> Iterator[Notice]:
    """This process is a server as long as the block lasts. Raises StorageError where it cannot write."""
    pid = os.getpid()
    lock = folder / f"{pid}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        running(folder)
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror}); check its permissions and that there is room"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Notice(folder, Serving(pid, url))
    finally:
        # Not in its workers, which leave the block too.
        if os.getpid() == pid:
            _forget(lock)
        os.close(descriptor)


def running(folder: Path) -> list[Serving]:
    """The servers that live; what dead ones left behind is removed."""
    found = []
    for lock in sorted(folder.glob("*.lock")):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(FileNotFoundError, msgspec.DecodeError):
                found.append(msgspec.json.decode(lock.with_suffix(".json").read_bytes(), type=Serving))
        else:
            _forget(lock)
        finally:
            os.close(descriptor)
    return found


def replace_file(file: Path, data: bytes) -> None:
    """In one step: who reads sees the old or the new."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(file)


def _forget(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    for file in (lock.with_suffix(".json"), lock):
        with suppress(FileNotFoundError):
            file.unlink()
