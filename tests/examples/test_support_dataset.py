"""The shipped help-desk case: its policy answers its questions. Reads files only; no model runs here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "support"
DATASETS = {"support.jsonl": 72, "incoming.jsonl": 8}


def policy_sections() -> dict[str, str]:
    _, *parts = re.split(
        r"^## (.+)$", (EXAMPLE / "policy.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return {heading: body.strip() for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def rows(name: str) -> list[dict[str, Any]]:
    lines = (EXAMPLE / "datasets" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def whole_phrase(phrase: str) -> re.Pattern[str]:
    """Matches the phrase, but not inside a longer word or number ("5 days" is not in "15 days")."""
    return re.compile(rf"(?<![\w.,]){re.escape(normalised(phrase))}(?!\w|[.,]\d)")


def test_the_policy_is_several_pages_of_short_sections() -> None:
    sections = policy_sections()
    lengths = {heading: len(body.split()) for heading, body in sections.items()}
    assert len(sections) >= 20
    assert {heading: n for heading, n in lengths.items() if not 40 <= n <= 110} == {}
    assert 1500 <= sum(lengths.values()) <= 2300


@pytest.mark.parametrize(("name", "at_least"), DATASETS.items())
def test_a_dataset_has_enough_rows_of_the_documented_shape(name: str, at_least: int) -> None:
    examples = rows(name)
    assert len(examples) >= at_least
    for example in examples:
        assert set(example) == {"input", "expected", "metadata", "cluster"}
        assert set(example["input"]) == {"question", "policy"}
        assert set(example["metadata"]) == {"topic", "section"}
        assert example["cluster"] == example["metadata"]["topic"]
        assert example["metadata"]["section"].casefold().startswith(example["cluster"] + ":")


@pytest.mark.parametrize("name", DATASETS)
def test_each_row_carries_its_section_of_the_policy_verbatim(name: str) -> None:
    sections = policy_sections()
    stale = [
        example["input"]["question"]
        for example in rows(name)
        if example["input"]["policy"] != sections[example["metadata"]["section"]]
    ]
    assert stale == []


@pytest.mark.parametrize("name", DATASETS)
def test_the_expected_answer_stands_once_in_the_section(name: str) -> None:
    """Once, so that quoting another sentence of the section is not scored as right."""
    for example in rows(name):
        section, expected = normalised(example["input"]["policy"]), example["expected"]
        found = whole_phrase(expected).findall(section)
        assert len(found) == 1 == section.count(normalised(expected)), (
            example["input"]["question"],
            expected,
        )


@pytest.mark.parametrize("name", DATASETS)
def test_a_question_does_not_give_its_answer_away(name: str) -> None:
    for example in rows(name):
        assert not whole_phrase(example["expected"]).search(normalised(example["input"]["question"]))


def test_no_question_is_asked_twice() -> None:
    questions = [normalised(example["input"]["question"]) for name in DATASETS for example in rows(name)]
    assert len(set(questions)) == len(questions)


def test_topics_are_balanced_and_every_section_is_asked_about() -> None:
    examples = rows("support.jsonl")
    by_topic: dict[str, int] = {}
    for example in examples:
        by_topic[example["cluster"]] = by_topic.get(example["cluster"], 0) + 1
    assert 8 <= len(by_topic) <= 10
    assert max(by_topic.values()) - min(by_topic.values()) <= 2
    assert {example["metadata"]["section"] for example in examples} == set(policy_sections())
