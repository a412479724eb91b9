"""Versions of datasets in the store: saved once by content, found by name and digest."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from assay.errors import NotFound, RequestError
from assay.evals import DatasetStore, Example, make_dataset
from assay.evals.tables import examples, members
from assay.storage import Store

ONE = make_dataset("support", [Example("a", 1), Example("b", 2)])
TWO = make_dataset("support", [Example("a", 1), Example("b", 3)])


@pytest.fixture
def kept(store: Store) -> DatasetStore:
    return DatasetStore(store, lambda: 1_000)


def count(store: Store, table: sa.Table) -> int | None:
    with store.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table))


def test_saving_again_adds_nothing(store: Store, kept: DatasetStore) -> None:
    assert kept.save(ONE) == kept.save(ONE)
    assert len(kept.versions("support")) == 1
    assert count(store, examples) == count(store, members) == 2


def test_versions_share_their_examples(store: Store, kept: DatasetStore) -> None:
    kept.save(ONE)
    kept.save(TWO)
    assert count(store, examples) == 3
    assert kept.get("support") == TWO
    assert kept.get(ONE.ref) == ONE


def test_the_name_stands_for_what_was_saved_last(kept: DatasetStore) -> None:
    kept.save(ONE)
    kept.save(TWO)
    kept.save(ONE)
    assert kept.get("support") == ONE
    assert [version.digest for version in kept.versions("support")] == [ONE.digest, TWO.digest]


def test_two_names_for_one_content(store: Store, kept: DatasetStore) -> None:
    kept.save(ONE)
    kept.save(make_dataset("copy", ONE.examples))
    assert kept.get("copy").examples == kept.get("support").examples
    assert count(store, members) == 2


def test_the_list_has_the_latest_of_each(kept: DatasetStore) -> None:
    kept.save(TWO)
    kept.save(ONE)
    kept.save(make_dataset("other", [Example(1)]))
    assert [(one.name, one.digest, one.size) for one in kept.list()] == [
        ("other", make_dataset("other", [Example(1)]).digest, 1),
        ("support", ONE.digest, 2),
    ]


def test_more_examples_than_a_query_takes_come_back_in_order(kept: DatasetStore) -> None:
    many = make_dataset("many", [Example(number) for number in range(1_234)])
    kept.save(many)
    assert kept.get("many") == many


def test_what_is_not_there_names_what_is(kept: DatasetStore) -> None:
    with pytest.raises(NotFound, match="no dataset 'support'; none is stored yet"):
        kept.get("support")
    kept.save(ONE)
    with pytest.raises(NotFound, match="no dataset 'suport'; did you mean support"):
        kept.get("suport")
    with pytest.raises(NotFound, match=f"no dataset 'support@0000'; support has {ONE.digest[:12]}"):
        kept.get("support@0000")
    with pytest.raises(NotFound, match=r"no dataset 'xyz' \(there are: support\)"):
        kept.get("xyz")


def test_a_version_must_be_named_by_hex_digits(kept: DatasetStore) -> None:
    kept.save(ONE)
    for reference in ("support@", "support@latest"):
        with pytest.raises(RequestError, match="after '@' stands the beginning of a version's hex digits"):
            kept.get(reference)


def test_a_prefix_of_two_versions_is_refused(kept: DatasetStore) -> None:
    first: dict[str, object] = {}
    for number in range(17):
        dataset = make_dataset("d", [Example(number)])
        kept.save(dataset)
        if dataset.digest[0] in first:
            with pytest.raises(RequestError, match="More than one version begins with d@"):
                kept.get(f"d@{dataset.digest[0]}")
            return
        first[dataset.digest[0]] = dataset
    raise AssertionError("17 digests cannot have 17 different first digits")
