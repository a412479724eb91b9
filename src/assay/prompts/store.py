"""The prompt store: immutable versions by content, labels that move and can be moved back, differences.

A prompt is referred to by `name` (its label `latest`), `name@label` or `name@` with four or more digits of
a version. Files move `latest` and the labels of their variants when a folder is synced; all other labels,
`production` above all, are moved by people, so that editing a file deploys nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from assay.errors import NotFound, PromptError, RequestError
from assay.prompts.dotprompt import SUFFIX, VERSION_DIGITS, PromptTemplate, load_prompt, parse_prompt
from assay.prompts.source import did_you_mean, listed
from assay.prompts.tables import prompt_labels, prompt_versions
from assay.storage import Store
from assay.types import Value

LATEST: Final = "latest"
PRODUCTION: Final = "production"

_MIN_PREFIX: Final = 4
_HASH: Final = re.compile(rf"[0-9a-f]{{{_MIN_PREFIX},64}}", re.IGNORECASE)
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UNDO: Final = "undo"
_SHOWN: Final = 8


class Version(Value):
    """One immutable state of a prompt, and the labels that stand on it now."""

    name: str
    digest: str
    created_ns: int
    labels: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The first 12 hex digits of `digest`."""
        return self.digest[:VERSION_DIGITS]

    @property
    def ref(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


class PromptSummary(Value):
    """One prompt in a list: how many versions it has, when the newest came, where its labels stand."""

    name: str
    versions: int
    newest_ns: int
    labels: dict[str, str]
    """Label to version (12 hex digits)."""


class Move(Value):
    """One step of a label: it went to `version` (12 hex digits), and why."""

    name: str
    label: str
    version: str
    moved_ns: int
    reason: str


class Synced(Value):
    """What became of one file: `version` is where `label` stands now, `before` where it stood."""

    file: str
    name: str
    label: str
    version: str
    before: str | None

    @property
    def moved(self) -> bool:
        return self.version != self.before


class PromptStore:
    """Versions and labels in a Store. Calls block.

    Raises NotFound for what is not there, RequestError for a reference or label that cannot be,
    PromptError for files and StorageError if the store cannot do its part.
    """

    def __init__(self, store: Store, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._clock_ns = clock_ns

    # --- reading

    def get(self, ref: str) -> PromptTemplate:
        """The prompt at `name`, `name@label` or `name@version`, ready to render."""
        with self._store.read() as connection:
            name, digest = _resolve(connection, ref)
            source = _source(connection, name, digest)
        return parse_prompt(source, name=name, file=f"{name}@{digest[:VERSION_DIGITS]}")

    def version(self, ref: str) -> Version:
        """Which version `ref` means now."""
        with self._store.read() as connection:
            name, digest = _resolve(connection, ref)
            return _version(connection, name, digest)

    def list(self) -> tuple[PromptSummary, ...]:
        """All prompts, by name."""
        query = (
            sa.select(
                prompt_versions.c.name,
                sa.func.count().label("versions"),
                sa.func.max(prompt_versions.c.created_ns).label("newest_ns"),
            )
            .group_by(prompt_versions.c.name)
            .order_by(prompt_versions.c.name)
        )
        with self._store.read() as connection:
            stands = _stands(connection)
            return tuple(
                PromptSummary(
                    row.name,
                    row.versions,
                    row.newest_ns,
                    {label: digest[:VERSION_DIGITS] for label, digest in stands.get(row.name, {}).items()},
                )
                for row in connection.execute(query)
            )

    def versions(self, name: str) -> tuple[Version, ...]:
        """All versions of a prompt, the newest first."""
        with self._store.read() as connection:
            _check_name(connection, name)
            return _versions(connection, name)

    def moves(self, name: str, label: str | None = None) -> tuple[Move, ...]:
        """Every move of a prompt's labels (or of one), the newest first."""
        with self._store.read() as connection:
            _check_name(connection, name)
            moves = _moves(connection, name, label)
            if label is not None and not moves:
                raise _no_label(name, label, _labels(connection, name))
            return moves

    def diff(self, old: str, new: str) -> str:
        """What changed from one reference to another, as a unified diff; "" when nothing did."""
        with self._store.read() as connection:
            (old_name, old_digest), (new_name, new_digest) = (_resolve(connection, ref) for ref in (old, new))
            before = _source(connection, old_name, old_digest)
            after = _source(connection, new_name, new_digest)
        lines = unified_diff(
            _lines(before),
            _lines(after),
            f"{old_name}@{old_digest[:VERSION_DIGITS]}",
            f"{new_name}@{new_digest[:VERSION_DIGITS]}",
        )
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
        )

    # --- writing

    def add(self, prompt: PromptTemplate) -> Version:
        """Keep a version; moves no label. Adding what is there already changes nothing."""
        with self._store.write() as connection:
            self._insert(connection, prompt)
            return _version(connection, prompt.name, prompt.digest)

    def sync(self, folder: Path) -> tuple[Synced, ...]:
        """Bring the `.prompt` files below `folder` into the store, all or none, and move their labels.

        `name.prompt` moves `latest`, `name.variant.prompt` moves the label `variant`. A second sync of the
        same files changes nothing; a file that is gone leaves its versions and labels as they are.
        Raises PromptError that lists what is wrong with every file.
        """
        files = _read_folder(folder)
        with self._store.read() as connection:
            done = _synced(files, _stands(connection))
        if not any(one.moved for one in done):
            return done
        with self._store.write() as connection:
            done = _synced(files, _stands(connection))
            for one, (file, prompt) in zip(done, files, strict=True):
                if one.moved:
                    self._insert(connection, prompt)
                    self._move(connection, one.name, one.label, prompt.digest, f"file {file}")
        return done

    def set_label(self, ref: str, label: str, *, reason: str = "") -> Move:
        """Put `label` on the version that `ref` means now. Without effect if it stands there already."""
        problem = _label_problem(label)
        if label == LATEST:
            problem = f"the label '{LATEST}' follows the file; change the file, or choose another label"
        if problem:
            raise RequestError(problem, param="label")
        if reason == _UNDO:
            raise RequestError(
                f"the reason '{_UNDO}' stands for undone moves; say it otherwise", param="reason"
            )
        with self._store.write() as connection:
            name, digest = _resolve(connection, ref)
            if _labels(connection, name).get(label) != digest:
                self._move(connection, name, label, digest, reason)
            return _moves(connection, name, label)[0]

    def undo_label(self, name: str, label: str) -> Move:
        """Take back the last move of `label` that was not taken back yet. The history keeps both moves."""
        if label == LATEST:
            raise RequestError(f"the label '{LATEST}' follows the file; change the file back", param="label")
        query = (
            sa.select(prompt_labels.c.digest, prompt_labels.c.reason)
            .where(prompt_labels.c.name == name, prompt_labels.c.label == label)
            .order_by(prompt_labels.c.seq)
        )
        with self._store.write() as connection:
            _check_name(connection, name)
            standing: list[str] = []
            for row in connection.execute(query):
                if row.reason == _UNDO:
                    standing.pop()
                else:
                    standing.append(row.digest)
            if not standing:
                raise _no_label(name, label, _labels(connection, name))
            if len(standing) == 1:
                problem = f"the label {label!r} of {name!r} stands on its first version"
                raise RequestError(f"{problem}; there is no move to take back", param="label")
            self._move(connection, name, label, standing[-2], _UNDO)
            return _moves(connection, name, label)[0]

    def _insert(self, connection: sa.Connection, prompt: PromptTemplate) -> None:
        key = (prompt_versions.c.name == prompt.name, prompt_versions.c.digest == prompt.digest)
        if connection.scalar(sa.select(sa.literal(1)).where(*key).select_from(prompt_versions)) is None:
            values = {"name": prompt.name, "digest": prompt.digest, "source": prompt.source}
            connection.execute(sa.insert(prompt_versions), {**values, "created_ns": self._clock_ns()})

    def _move(self, connection: sa.Connection, name: str, label: str, digest: str, reason: str) -> None:
        values = {"name": name, "label": label, "digest": digest, "reason": reason}
        connection.execute(sa.insert(prompt_labels), {**values, "moved_ns": self._clock_ns()})


# --- files ---------------------------------------------------------------------------------------


def _read_folder(folder: Path) -> list[tuple[str, PromptTemplate]]:
    if not folder.is_dir():
        raise PromptError(
            f"{folder}: there is no such folder; make it, or name the one that holds your prompts"
        )
    files: list[tuple[str, PromptTemplate]] = []
    problems: list[str] = []
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts[:-1]) or not path.is_file():
            continue
        try:
            prompt = load_prompt(path, folder)
            if prompt.variant and (problem := _variant_problem(prompt.variant)):
                raise PromptError(f"{path}: {problem}")  # noqa: TRY301  (one list of problems for all files)
            files.append((relative.as_posix(), prompt))
        except PromptError as exc:
            problems.append(exc.message)
    if problems:
        raise PromptError("\n".join(problems))
    return files


def _synced(
    files: Iterable[tuple[str, PromptTemplate]], stands: Mapping[str, Mapping[str, str]]
) -> tuple[Synced, ...]:
    """What a sync makes of the files, where the labels stand so."""
    done: list[Synced] = []
    for file, prompt in files:
        label = prompt.variant or LATEST
        before = stands.get(prompt.name, {}).get(label)
        done.append(Synced(file, prompt.name, label, prompt.version, before and before[:VERSION_DIGITS]))
    return tuple(done)


def _variant_problem(variant: str) -> str | None:
    if variant in (LATEST, PRODUCTION):
        return (
            f"a variant cannot be called {variant!r}: '{LATEST}' is the file without a variant, and"
            f" '{PRODUCTION}' is moved with 'assay prompt label' alone; rename the file"
        )
    return _label_problem(variant)


def _label_problem(label: str) -> str | None:
    if not _LABEL.fullmatch(label):
        return f"the label {label!r} may have up to 64 letters, digits, '-' and '_'"
    if _HASH.fullmatch(label):
        return f"the label {label!r} looks like a version ({_MIN_PREFIX} or more hex digits); choose another"
    return None


# --- queries -------------------------------------------------------------------------------------


def _resolve(connection: sa.Connection, ref: str) -> tuple[str, str]:
    """Name and digest that `ref` means."""
    name, at, rest = ref.partition("@")
    _check_name(connection, name)
    stands = _labels(connection, name)
    if not at:
        if LATEST not in stands:
            raise _no_label(name, LATEST, stands)
        return name, stands[LATEST]
    if rest in stands:
        return name, stands[rest]
    if not _HASH.fullmatch(rest):
        raise _no_label(name, rest, stands)
    query = sa.select(prompt_versions.c.digest).where(
        prompt_versions.c.name == name, prompt_versions.c.digest.startswith(rest.lower())
    )
    found = sorted(connection.scalars(query))
    if len(found) == 1:
        return name, found[0]
    if not found:
        versions = _names(version.version for version in _versions(connection, name))
        raise NotFound(f"{name!r} has no version {rest!r}; its newest are {versions}", param="prompt")
    raise RequestError(
        f"{ref!r} may be {_names(found)}; write more of its digits", param="prompt", code="ambiguous_version"
    )


def _check_name(connection: sa.Connection, name: str) -> None:
    names = connection.scalars(sa.select(prompt_versions.c.name).distinct().order_by(prompt_versions.c.name))
    known = list(names)
    if name not in known:
        raise NotFound(
            f"there is no prompt {name!r}{did_you_mean(name, known)} There are: {_names(known)};"
            f" to add one, put {name or 'name'}{SUFFIX} into the prompts folder",
            param="prompt",
        )


def _no_label(name: str, label: str, stands: Mapping[str, str]) -> NotFound:
    hint = did_you_mean(label, stands)
    return NotFound(
        f"{name!r} has no label {label!r}{hint} It has {_names(stands)}; a version is written with"
        f" {_MIN_PREFIX} or more hex digits",
        param="prompt",
    )


def _names(names: Iterable[str]) -> str:
    """Names for a message, not more than can be read."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return listed(every[:_SHOWN]) + more


def _stands(connection: sa.Connection) -> dict[str, dict[str, str]]:
    """Where all labels stand: name to label to digest, the labels in order of their names."""
    newest = sa.select(sa.func.max(prompt_labels.c.seq)).group_by(prompt_labels.c.name, prompt_labels.c.label)
    query = sa.select(prompt_labels).where(prompt_labels.c.seq.in_(newest)).order_by(prompt_labels.c.label)
    stands: dict[str, dict[str, str]] = {}
    for row in connection.execute(query):
        stands.setdefault(row.name, {})[row.label] = row.digest
    return stands


def _labels(connection: sa.Connection, name: str) -> dict[str, str]:
    """Where the labels of one prompt stand: label to digest, in order of their last moves."""
    query = (
        sa.select(prompt_labels.c.label, prompt_labels.c.digest)
        .where(prompt_labels.c.name == name)
        .order_by(prompt_labels.c.seq)
    )
    return {row.label: row.digest for row in connection.execute(query)}


def _moves(connection: sa.Connection, name: str, label: str | None = None) -> tuple[Move, ...]:
    """The newest first."""
    query = sa.select(prompt_labels).where(prompt_labels.c.name == name).order_by(prompt_labels.c.seq.desc())
    if label is not None:
        query = query.where(prompt_labels.c.label == label)
    return tuple(
        Move(row.name, row.label, row.digest[:VERSION_DIGITS], row.moved_ns, row.reason)
        for row in connection.execute(query)
    )


def _versions(connection: sa.Connection, name: str) -> tuple[Version, ...]:
    """The newest first, each with its labels."""
    labels: dict[str, list[str]] = {}
    for label, digest in sorted(_labels(connection, name).items()):
        labels.setdefault(digest, []).append(label)
    query = (
        sa.select(prompt_versions)
        .where(prompt_versions.c.name == name)
        .order_by(prompt_versions.c.created_ns.desc(), prompt_versions.c.digest)
    )
    return tuple(
        Version(row.name, row.digest, row.created_ns, tuple(labels.get(row.digest, ())))
        for row in connection.execute(query)
    )


def _version(connection: sa.Connection, name: str, digest: str) -> Version:
    return next(version for version in _versions(connection, name) if version.digest == digest)


def _source(connection: sa.Connection, name: str, digest: str) -> str:
    query = sa.select(prompt_versions.c.source).where(
        prompt_versions.c.name == name, prompt_versions.c.digest == digest
    )
    return str(connection.execute(query).scalar_one())


def _lines(text: str) -> list[str]:
    """Lines with their line feeds; no other character ends a line."""
    return [line for line in re.split(r"(?<=\n)", text) if line]
