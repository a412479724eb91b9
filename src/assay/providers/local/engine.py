"""llama.cpp through xllamacpp: opening a model file, and the one place that knows the foreign library.

Its server object comes with an HTTP listener that cannot be turned off. It is put on a socket in a private
folder, which is removed as soon as the model is loaded: nothing can connect to it, from no account.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from assay.errors import AssayError, ProviderError, ProviderUnavailable, RequestError

BATCH_TOKENS: Final = 128
"""How much of a prompt is read at a time. A call can be cancelled in between, and others' tokens come."""

MAX_THREADS: Final = 8

MAX_SOCKET_PATH: Final = 103
"""Bytes; the smallest limit among Linux (107) and macOS (103)."""

_MAGIC: Final = b"GGUF"
_READ_BYTES: Final = 1 << 20
_PULL: Final = "run 'assay models pull local', or set path under [providers.local] to a GGUF file"

_NO_WEIGHTS: Final = f"The local model's weights are not there; {_PULL}"
_NO_LIBRARY: Final = "The local model needs the package xllamacpp; run: pip install 'assay[local]'"


class Engine(Protocol):
    """A loaded model. Calls from several threads are decoded together, up to the slots it was opened with."""

    def handle_chat_completions(self, body: str, callback: Callable[[str], bool]) -> None:
        """Blocks until the reply is complete. `callback` gets each chunk; True from it cancels.

        Body and chunks are JSON texts.
        """
        ...

    def handle_completions(self, asked: dict[str, Any]) -> Any:
        """Blocks, and gives the whole reply to `prompt`, as decoded JSON."""
        ...


def missing(path: Path | None) -> ProviderUnavailable | None:
    """What `open_engine` would lack at once: the library, or a file."""
    if importlib.util.find_spec("xllamacpp") is None:
        return _unavailable(_NO_LIBRARY)
    if path is None:
        return _unavailable(_NO_WEIGHTS)
    return None if path.is_file() else _unavailable(f"There is no model file {path}; {_PULL}")


def open_engine(path: Path | None, context_tokens: int, slots: int, threads: int) -> Engine:
    """Loads the GGUF file at `path`; `context_tokens` are divided among the `slots`.

    Blocking: 0.3 s for a model of 100 MB, during which no other Python thread runs (the library loads under
    the interpreter's lock). Raises ProviderUnavailable, not retryable, saying what to do.
    """
    if path is None:
        raise _unavailable(_NO_WEIGHTS)
    _read_through(path)
    xllamacpp = _library()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_tokens
    params.n_parallel = slots
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 1
    params.cache_ram_mib = 0
    # On a CPU it is no faster, and a reply then depends more on what else is decoded beside it.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.fit_params = params.warmup = params.ui = False
    params.verbosity = -1
    with _closed_to_others(params):
        try:
            engine = xllamacpp.Server(params)
            # One token: the weights are touched, and the library's loop is known to run. To drop a server
            # whose loop has not begun hangs.
            engine.handle_completions({"prompt": " ", "max_tokens": 1})
        except (RuntimeError, ValueError, MemoryError) as error:
            raise _unavailable(
                f"The model file {path} cannot be loaded: it is damaged, or of a kind that this llama.cpp "
                f"does not know; run 'assay models pull local --verify', or set path under "
                f"[providers.local] to another GGUF file (llama.cpp said: {error})"
            ) from error
    return engine  # type: ignore[no-any-return]


def translate(error: Exception, provider: str) -> AssayError:
    """What an engine's call raised, as one of Assay's errors. Invalid arguments come as ValueError."""
    if isinstance(error, ValueError):
        return RequestError(f"llama.cpp does not take this request: {error}")
    return ProviderError(f"llama.cpp failed: {error}", provider=provider, retryable=False)


def default_threads() -> int:
    """Half of the cores, at most MAX_THREADS.

    llama.cpp's threads wait for each other by spinning: one more thread than there are free cores makes it
    slower by tens of times, one less by a third (docs/decisions/0003-local-model.md).
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_THREADS, usable // 2))


def _library() -> Any:
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise _unavailable(_NO_LIBRARY) from error
    except ImportError as error:
        raise _unavailable(
            f"xllamacpp is installed and cannot be loaded: {error}; where it names libgomp, install the "
            "system's OpenMP library (Debian, Ubuntu: apt install libgomp1)"
        ) from error
    return xllamacpp


def _read_through(path: Path) -> None:
    """Brings the file into memory while other threads run: the loading itself, which lets none, is short."""
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise _unavailable(f"{path} is not a GGUF file; {_PULL}")
            while file.read(_READ_BYTES):
                pass
    except FileNotFoundError as error:
        raise _unavailable(f"There is no model file {path}; {_PULL}") from error
    except OSError as error:
        raise _unavailable(f"The model file {path} cannot be read ({error.strerror}); {_PULL}") from error


@contextmanager
def _closed_to_others(params: Any) -> Iterator[None]:
    """A socket in a folder that only this user may enter, gone after the block; a key in any case.

    Where there are no such sockets (Windows) it is a port of this machine, and the key is all that protects.
    """
    params.api_keys = [secrets.token_hex(32)]
    params.cors_origins = ""
    params.cors_origins_explicit = True
    params.cors_credentials = False
    params.endpoint_slots = False
    if not hasattr(socket, "AF_UNIX"):
        params.hostnames = ["127.0.0.1"]
        yield
        return
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        address = f"{folder}/s.sock"
        if len(os.fsencode(address)) > MAX_SOCKET_PATH:
            raise _unavailable(f"The folder for temporary files, {folder}, is too long a path; set TMPDIR")
        params.hostnames = [address]
        yield


def _unavailable(message: str) -> ProviderUnavailable:
    return ProviderUnavailable(message, retryable=False)
