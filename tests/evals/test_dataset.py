"""Datasets: identity by content, files that come back as they were, and mistakes that are named."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import DatasetError
from assay.evals import (
    Dataset,
    DatasetStore,
    Example,
    diff,
    example_from_call,
    make_dataset,
    parse_dataset,
    read_dataset,
    write_dataset,
)
from assay.storage import Store

texts = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
examples = st.builds(
    Example,
    values,
    values,
    st.dictionaries(texts, values, max_size=3),
    st.none() | texts.filter(bool),
)
datasets = st.lists(examples, min_size=1, max_size=6, unique_by=lambda one: one.id).map(
    lambda found: Dataset("some", tuple(found))
)


def shuffled(value: object) -> object:
    """The same JSON with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(one) for one in value] if isinstance(value, list) else value


@given(datasets)
def test_a_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset
) -> None:
    path = tmp_path_factory.mktemp("data") / "some.jsonl"
    write_dataset(path, dataset.examples)
    again = read_dataset(path)
    assert again == dataset
    assert again.digest == dataset.digest


@given(datasets)
def test_any_writer_of_json_gives_the_same_digest(dataset: Dataset) -> None:
    lines = [
        json.dumps(shuffled(msgspec.to_builtins(example)), ensure_ascii=True, separators=(" ,  ", " :\t"))
        for example in dataset.examples
    ]
    raw = b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode()
    assert parse_dataset(raw, "some", "some.jsonl").digest == dataset.digest


@given(datasets, examples)
def test_the_digest_tells_different_content_apart(dataset: Dataset, more: Example) -> None:
    if more.id not in {example.id for example in dataset.examples}:
        assert Dataset("some", (*dataset.examples, more)).digest != dataset.digest
    if len(dataset) > 1:
        assert Dataset("some", dataset.examples[::-1]).digest != dataset.digest


def test_an_id_is_the_digest_of_canonical_json() -> None:
    """Ids pair examples across experiments and machines, so they may never change."""
    example = Example(
        {"q": "Wie lange für 3 Schuhe?", "n": 1.5}, "30 Tage", {"b": 1, "a": [None, True]}, "returns"
    )
    fields = msgspec.to_builtins(example)
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert example.id == blake2b(canonical.encode(), digest_size=16).hexdigest()
    assert example.id == "74295fc5e7302f4cc0ff2fd1d173b2bf"
    assert Dataset("d", (example,)).digest == blake2b(example.id.encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize("field", ["input", "expected", "cluster", "metadata"])
def test_every_field_is_part_of_the_identity(field: str) -> None:
    fields = {"input": "a", "expected": "b", "cluster": "c", "metadata": {"d": 1}}
    changed = {**fields, field: {"d": 2} if field == "metadata" else "z"}
    assert Example(**fields).id != Example(**changed).id


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"imput": 1}',
            r"unknown key 'imput'; did you mean 'input'\? .allowed: input, expected, metadata, cluster",
        ),
        ('{"id": 1, "input": 2}', r"unknown key 'id'; put what is your own into 'metadata'"),
        ('{"expected": "x"}', r"'input' is missing .allowed: input, expected, metadata, cluster"),
        ('{"input": 1,}', r"not valid JSON: .* at column 13"),
        ('{"input": 1} {"input": 2}', r"not valid JSON: Extra data at column 14"),
        ("[", r"not valid JSON: .*; write one object a line, without \[ \] around them"),
        ('[{"input": 1}]', r".* got a list; write one object a line, without \[ \] around them"),
        ('"text"', r"expected an object with input, expected, metadata, cluster, got text"),
        ('{"input": 1, "input": 2}', r"the key 'input' is given twice; remove one"),
        ('{"input": {"a": 1, "a": 2}}', r"the key 'a' is given twice"),
        ('{"input": NaN}', r"NaN is not JSON; give a finite number or null"),
        ('{"input": {"a": [1e999]}}', r"input\.a\.0 is inf, which JSON cannot carry"),
        ('{"input": "\\ud800"}', r"input holds half of a surrogate pair"),
        ('{"input": 1, "metadata": [1]}', r"metadata must be an object with names and values, not a list"),
        ('{"input": 1, "cluster": 3}', r"cluster must be a text such as a topic, or left out, not 3"),
        ('{"input": 1, "cluster": ""}', r"cluster must be a text"),
        (
            '{"input": ' + "[" * 150 + "]" * 150 + "}",
            r"input\.0.*\.\.\. nests more than 100 deep; flatten it",
        ),
        ('{"input": ' + "[" * 100_000, r"nests too deep; flatten it"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(line: str, message: str) -> None:
    raw = f'{{"input": "fine"}}\n\n{line}\n{{"input": "also fine"}}\n'.encode()
    with pytest.raises(DatasetError, match=r"^support\.jsonl:3: " + message):
        parse_dataset(raw, "support", "support.jsonl")


def test_bytes_that_are_not_utf8_are_named() -> None:
    raw = b'{"input": "fine"}\n{"input": "caf\xe9"}\n'
    with pytest.raises(
        DatasetError, match=r"^d\.jsonl:2: byte 15 \(0xe9\) is not UTF-8; save the file as UTF-8"
    ):
        parse_dataset(raw, "d", "d.jsonl")


def test_a_duplicate_names_both_lines() -> None:
    raw = b'{"input": 1, "cluster": "a"}\n{"input": 2}\n\n{"cluster": "a", "input": 1, "metadata": {}}\n'
    with pytest.raises(DatasetError, match=r"^d\.jsonl:4: the same example as in line 1; remove one of them"):
        parse_dataset(raw, "d", "d.jsonl")


def test_null_is_the_same_as_left_out() -> None:
    raw = b'{"input": 1, "expected": null, "metadata": null, "cluster": null}'
    assert parse_dataset(raw, "d", "d.jsonl").examples == (Example(1),)


def test_an_empty_file_says_what_to_write() -> None:
    with pytest.raises(DatasetError, match=r'^d\.jsonl: no examples; write one a line, such as {"input"'):
        parse_dataset(b"\xef\xbb\xbf\r\n  \n", "d", "d.jsonl")


def test_a_line_separator_inside_a_text_ends_no_line() -> None:
    raw = '{"input": "a\u2028b\x85c"}\n{"input": 2}'.encode()
    assert [one.input for one in parse_dataset(raw, "d", "d").examples] == ["a\u2028b\x85c", 2]


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    write_dataset(tmp_path / "support.jsonl", [Example(1)])
    with pytest.raises(
        DatasetError, match=r"There is no dataset file .*suport\.jsonl; did you mean .*support\.jsonl\?"
    ):
        read_dataset(tmp_path / "suport.jsonl")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_dataset(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    write_dataset(path, [Example(1)])

    def interrupted():
        yield Example(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(path, interrupted())
    assert read_dataset(path).examples == (Example(1),)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_dataset(path / "below" / "a" / "file.jsonl", [Example(1)])
    assert [file.name for file in tmp_path.iterdir()] == ["d.jsonl"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": object()}, "input is a object; give text, a number"),
        ({"input": {1: 2}}, "input has the key 1; keys must be text"),
        ({"input": 1, "metadata": {"at": float("nan")}}, r"metadata\.at is nan"),
        ({"input": b"raw"}, "input is a bytes"),
    ],
)
def test_what_json_cannot_carry_is_no_example(fields: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Example(**fields)


def test_python_values_become_the_json_that_they_stand_for() -> None:
    assert Example((1, (2,))) == Example([1, [2]])
    assert Example((1,)).id == Example([1]).id


def test_a_dataset_of_python_objects_is_checked_too() -> None:
    with pytest.raises(DatasetError, match="Examples 1 and 3 of d are the same"):
        make_dataset("d", [Example(1), Example(2), Example(1)])
    with pytest.raises(DatasetError, match="has no examples"):
        make_dataset("d", [])
    with pytest.raises(DatasetError, match="cannot be a dataset's name"):
        make_dataset("d@1", [Example(1)])


def test_a_diff_tells_changed_from_added_and_removed() -> None:
    before = make_dataset("d", [Example("a", 1), Example("b", 1), Example("c", 1)])
    after = make_dataset("d", [Example("d", 1), Example("b", 2), Example("a", 1)])
    change = diff(before, after)
    assert change.added == (Example("d", 1),)
    assert change.removed == (Example("c", 1),)
    assert change.changed == ((Example("b", 1), Example("b", 2)),)
    assert change.unchanged == 1


def test_a_diff_pairs_each_example_once() -> None:
    before = make_dataset("d", [Example("a", 1)])
    after = make_dataset("d", [Example("a", 2), Example("a", 3)])
    change = diff(before, after)
    assert change.changed == ((Example("a", 1), Example("a", 2)),)
    assert change.added == (Example("a", 3),)


def test_a_recorded_call_becomes_an_example_that_names_its_span() -> None:
    example = example_from_call(
        {"question": "How long?"},
        "30 days",
        trace_id="t1",
        span_id="s1",
        metadata={"user": "u"},
        cluster="returns",
    )
    assert example == Example(
        {"question": "How long?"}, "30 days", {"user": "u", "trace_id": "t1", "span_id": "s1"}, "returns"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(datasets)
def test_the_store_gives_back_what_was_saved(store: Store, dataset: Dataset) -> None:
    kept = DatasetStore(store)
    version = kept.save(dataset)
    assert kept.get(version.ref) == kept.get("some") == dataset
    assert (version.digest, version.size) == (dataset.digest, len(dataset))
