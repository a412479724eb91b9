"""Datasets: frozen cases with an identity by content. Files live in assay.evals.jsonl, versions in .store.

An example's id and a dataset's digest depend on what they say, never on the order of keys in a file or on
when they were stored: equal content has equal ids on every machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec.structs import force_setattr

from assay.errors import DatasetError
from assay.types import JSON, Value

MAX_DEPTH: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_canonical = msgspec.json.Encoder(order="sorted").encode


class Example(Value, dict=True, gc=True):
    """One case: what goes in, what should come out, what else is known, and what it belongs to.

    `cluster` groups examples that are not independent of each other (one document, one user, one topic);
    comparisons take that into account. Raises DatasetError for what JSON cannot carry.
    """

    input: JSON
    expected: JSON = None
    metadata: dict[str, JSON] = {}  # noqa: RUF012
    cluster: str | None = None

    def __post_init__(self) -> None:
        for field in ("input", "expected", "metadata"):
            force_setattr(self, field, plain(getattr(self, field), field))
        if not isinstance(self.metadata, dict):
            raise DatasetError(
                f"metadata must be an object with names and values, not {kind_of(self.metadata)}"
            )
        cluster: object = self.cluster
        if cluster is not None and (not isinstance(cluster, str) or not cluster):
            raise DatasetError(f"cluster must be a text such as a topic, or left out, not {cluster!r}")

    @cached_property
    def id(self) -> str:
        """32 hex digits of its content."""
        return blake2b(_canonical(self), digest_size=16).hexdigest()


class Dataset(Value, dict=True, gc=True):
    """Examples in order, under a name. At least one, all different."""

    name: str
    examples: tuple[Example, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DatasetError(
                f"{self.name!r} cannot be a dataset's name; use letters, digits, '.', '_', '-' and '/'"
            )
        if not self.examples:
            raise DatasetError(f"The dataset {self.name} has no examples; add at least one")
        first: dict[str, int] = {}
        for number, example in enumerate(self.examples, 1):
            if (earlier := first.setdefault(example.id, number)) != number:
                raise DatasetError(
                    f"Examples {earlier} and {number} of {self.name} are the same; remove one, since "
                    "counting a case twice makes a result look surer than it is"
                )

    @cached_property
    def digest(self) -> str:
        """32 hex digits of the content: the ids of its examples, in order."""
        return blake2b("".join(example.id for example in self.examples).encode(), digest_size=16).hexdigest()

    @property
    def ref(self) -> str:
        """`name@version`, as commands and experiments refer to it."""
        return f"{self.name}@{self.digest[:12]}"

    def __len__(self) -> int:
        return len(self.examples)


class DatasetDiff(Value):
    """From one version to another: `changed` holds pairs (before, after) of examples with the same input."""

    added: tuple[Example, ...]
    removed: tuple[Example, ...]
    changed: tuple[tuple[Example, Example], ...]
    unchanged: int


def diff(before: Dataset, after: Dataset) -> DatasetDiff:
    """What changed, in the order of the files. Moving an example is no change.

    >>> a = Dataset("d", (Example("1+1", "2"), Example("2+2", "5")))
    >>> b = Dataset("d", (Example("2+2", "4"), Example("1+1", "2"), Example("3+3", "6")))
    >>> change = diff(a, b)
    >>> [example.expected for pair in change.changed for example in pair], len(change.added), change.unchanged
    (['5', '4'], 1, 1)
    """
    old, new = ({example.id: example for example in version.examples} for version in (before, after))
    gone: dict[bytes, list[Example]] = {}
    for example in before.examples:
        if example.id not in new:
            gone.setdefault(_canonical(example.input), []).append(example)
    added, changed = [], []
    for example in after.examples:
        if example.id in old:
            continue
        partners = gone.get(_canonical(example.input))
        if partners:
            changed.append((partners.pop(0), example))
        else:
            added.append(example)
    left = {example.id for examples in gone.values() for example in examples}
    return DatasetDiff(
        added=tuple(added),
        removed=tuple(example for example in before.examples if example.id in left),
        changed=tuple(changed),
        unchanged=len(old.keys() & new.keys()),
    )


def example_from_call(
    input: JSON,  # noqa: A002  (the example's own word)
    output: str,
    *,
    trace_id: str,
    span_id: str,
    metadata: Mapping[str, JSON] | None = None,
    cluster: str | None = None,
) -> Example:
    """A recorded call as an example that expects what was answered; edit `expected` where it was wrong.

    The ids of its trace and span go into the metadata, so that one can go back to what really happened.
    """
    return Example(input, output, {**(metadata or {}), "trace_id": trace_id, "span_id": span_id}, cluster)


def plain(value: object, at: str, depth: int = 0) -> JSON:
    """A copy of `value` in JSON's own types. Raises DatasetError that names the place, as in `input.a.0`."""
    match value:
        case None | bool() | int():
            return value
        case str():
            if not _is_unicode(value):
                raise DatasetError(f"{at} holds half of a surrogate pair, which is not valid Unicode")
            return str(value)
        case float():
            if not math.isfinite(value):
                raise DatasetError(f"{at} is {value}, which JSON cannot carry; give a finite number or null")
            return value
        case _ if depth >= MAX_DEPTH:
            raise DatasetError(f"{at[:60]}... nests more than {MAX_DEPTH} deep; flatten it")
        case Mapping():
            return {_key(key, at): plain(item, f"{at}.{key}", depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, f"{at}.{place}", depth + 1) for place, item in enumerate(value)]
        case _:
            raise DatasetError(
                f"{at} is {kind_of(value)}; give text, a number, true, false, null, a list or an object"
            )


def kind_of(value: object) -> str:
    """What a value is, in JSON's words, for messages."""
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    names |= {dict: "an object", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _key(key: object, at: str) -> str:
    if not isinstance(key, str) or not _is_unicode(key):
        raise DatasetError(f"{at} has the key {key!r}; keys must be text")
    return key


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def make_dataset(name: str, examples: Iterable[Example | Mapping[str, JSON]]) -> Dataset:
    """A dataset from examples, or from mappings with their fields.

    >>> make_dataset("sums", [{"input": "1+1", "expected": "2"}]).examples[0].expected
    '2'
    """
    return Dataset(name, tuple(one if isinstance(one, Example) else Example(**one) for one in examples))
