"""Tuning the semantic cache: what is counted, what is proposed, and when nothing is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.gateway.tuning import Point, Question, curve, propose


def at(*degrees: float) -> list[np.ndarray]:
    return [
        np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))], np.float32)
        for angle in degrees
    ]


def questions(*answers: str) -> list[Question]:
    return [Question("?", answer) for answer in answers]


def test_what_is_near_enough_gets_the_answer_of_before_right_or_wrong() -> None:
    asked, vectors = questions("a", "a", "b", "c"), at(0, 10, 20, 180)
    strict, loose, looser = curve(asked, vectors, [0.999, 0.98, 0.9])
    assert (strict.hits, strict.right) == (0, 0)
    assert loose.hits in {1, 2}
    assert (looser.hits, looser.asked) == (2, 4)
    assert looser.right <= 1


def test_what_was_answered_from_the_cache_is_not_stored() -> None:
    """A chain of small steps does not lead from one question to a wholly different one."""
    (point,) = curve(questions(*"abcdefghij"), at(*range(0, 100, 10)), [math.cos(math.radians(10.5))])
    assert 4 <= point.hits <= 6


def test_other_numbers_never_meet() -> None:
    asked = [Question("order 1", "a"), Question("order 2", "b")]
    assert [point.hits for point in curve(asked, at(0, 0), [0.0, 0.5])] == [0, 0]


def test_questions_with_answers_of_their_own_get_no_threshold() -> None:
    points = curve(questions(*map(str, range(50))), at(*[number / 10 for number in range(50)]))
    assert propose(points) is None


def test_the_lowest_sure_one_is_proposed() -> None:
    points = [
        Point(0.99, 400, 0, 0),
        Point(0.95, 400, 20, 20),
        Point(0.9, 400, 100, 100),
        Point(0.85, 400, 200, 197),
        Point(0.8, 400, 300, 240),
        Point(0.7, 400, 400, 400),
    ]
    assert propose(points) == points[3]
    assert propose(points[:2]) is None, "20 of 20 may be luck"
    assert propose(points[4:]) is None, "a good spot below a bad one is luck, too"
    assert propose(points, 0.999) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 360)), min_size=2, max_size=30))
def test_counts_hold_together(drawn: list[tuple[str, float]]) -> None:
    asked = questions(*(answer for answer, _ in drawn))
    for point in curve(asked, at(*(angle for _, angle in drawn))):
        assert 0 <= point.right <= point.hits < point.asked == len(drawn)


FAQ = {
    "reset": ["How do I reset my password?", "How can I reset my password?", "password reset please"],
    "invoice": ["Where is my invoice?", "Where can I find my invoice?", "invoice copy please"],
    "shipping": ["How long does shipping take?", "When will my parcel arrive?", "What is the delivery time?"],
}


@pytest.mark.local_model
def test_the_command_measures_and_proposes(assay, tmp_path: Path) -> None:
    lines = [{"input": text, "expected": answer} for answer, texts in FAQ.items() for text in texts]
    (tmp_path / "faq.jsonl").write_text("\n".join(map(json.dumps, lines)))
    told = json.loads(assay("cache", "tune", "-d", "faq.jsonl", "--json").out)
    assert told["points"][0]["asked"] == 9
    rates = [point["hits"] for point in told["points"]]
    assert rates[0] > 0
    assert rates[-1] == 0
    assert told["proposed"] is None, "nine questions show nothing for sure"
    table = assay("cache", "tune", "-d", "faq.jsonl", "--precision", "0.5")
    assert table.status == 0
    assert "precision (95%)" in table.out
    wrong = assay("cache", "tune", "-d", "faq.jsonl", "--route", "nowhere")
    assert wrong.status == 3
    assert "no model or route" in wrong.err
