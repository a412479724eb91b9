"""Scorers that compute: what passes, what fails, and what cannot be scored."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from assay.errors import ConfigError
from assay.evals import (
    Example,
    Score,
    Scorer,
    exact,
    function_scorer,
    includes,
    json_schema,
    json_valid,
    numeric,
    regex,
)
from assay.types import Context

pytestmark = pytest.mark.anyio


async def value(scorer: Scorer, output: object, expected: object = None) -> float | None:
    score = await scorer.score(output, Example("q", expected), Context())
    assert score.name == scorer.name
    assert score.value != 0 or score.reason, "a failure says why"
    assert score.value is not None or score.reason, "unscored says why"
    return score.value


@pytest.mark.parametrize(
    ("output", "expected", "passes"),
    [
        ("30 days", "30 days", 1),
        ("  30 days\n", "30 days", 1),
        ("30  days", "30 days", 0),
        ("30 Days", "30 days", 0),
        ("42", 42, 1),
        ("42.0", 42, 1),
        ("true", 1, 0),
        ("1", True, 0),
        ('{"b": [1, null], "a": 2}', {"a": 2, "b": [1, None]}, 1),
        ('{"a": 2, "c": 1}', {"a": 2, "b": 1}, 0),
        ("[1, 2]", [1, 2, 3], 0),
        ({"a": 1}, {"a": 1}, 1),
        ({"a": 1}, '{"a":1}', 1),
        ("not json", 42, 0),
        ("false", False, 1),
        ("", "", 1),
    ],
)
async def test_exact(output: object, expected: object, passes: int) -> None:
    assert await value(exact(), output, expected) == passes


async def test_exact_can_ignore_case() -> None:
    assert await value(exact(ignore_case=True), "STRASSE", "Straße") == 1


@pytest.mark.parametrize(
    ("output", "expected", "passes"),
    [
        ("You have 30 days to return it.", "30 days", 1),
        ("You have 30\n  DAYS.", "30 days", 1),
        ("You have 15 days.", "5 days", 0),
        ("It costs $50.", "$5", 0),
        ("It costs 1,500 dollars", "500", 0),
        ("It takes 5.5 hours", "5", 0),
        ("It takes 5. Then it ends.", "5", 1),
        ("They don’t ship – ever", "don't ship - ever", 1),
        ("refunds", "refund", 1),
        ("a.c", "a.c", 1),
        ("abc", "a.c", 0),
        ("the blue one", ["red", "blue"], 1),
        ("the green one", ["red", "blue"], 0),
        ("the answer is 42", 42, 1),
        ({"days": 30}, '"days":30', 1),
    ],
)
async def test_includes(output: object, expected: object, passes: int) -> None:
    assert await value(includes(), output, expected) == passes


async def test_includes_has_options() -> None:
    assert await value(includes(ignore_case=False), "Refund", "refund") == 0
    assert await value(includes(words=True), "refunds", "refund") == 0
    assert await value(includes(words=True), "a refund, soon", "refund") == 1
    assert await value(includes(every=True), "red", ["red", "blue"]) == 0
    assert await value(includes(every=True), "blue and red", ["red", "blue"]) == 1


@pytest.mark.parametrize("expected", [None, "", "  ", [], ["a", ""]])
async def test_includes_without_something_to_look_for_is_unscored(expected: object) -> None:
    assert await value(includes(), "anything", expected) is None


async def test_regex_by_pattern_or_by_example() -> None:
    assert await value(regex(r"^\d+$"), "42") == 1
    assert await value(regex(r"^\d+$"), "42 days") == 0
    assert await value(regex(), "42 days", r"\d+ days") == 1
    assert await value(regex(), "42 days") is None
    with pytest.raises(ConfigError, match=r"'\(' does not compile: missing \)"):
        regex("(")


@pytest.mark.parametrize(
    ("output", "passes"),
    [
        ('{"a": 1}', 1),
        (" [1]\n", 1),
        ("{'a': 1}", 0),
        ("NaN", 0),
        ("```json\n{}\n```", 0),
        ("", 0),
        ({"a": 1}, 1),
    ],
)
async def test_json_valid(output: object, passes: int) -> None:
    assert await value(json_valid(), output) == passes


async def test_json_schema_says_where_it_does_not_fit() -> None:
    scorer = json_schema(
        {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    )
    assert await value(scorer, '{"days": 30}') == 1
    assert await value(scorer, "30 days") == 0
    score = await scorer.score('{"days": "30"}', Example("q"), Context())
    assert score.value == 0
    assert score.reason.startswith("days: ")


async def test_json_schema_refuses_what_is_none_and_fetches_nothing(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    for schema in ({"type": "nothing"}, {"$ref": (tmp_path / "schema.json").as_uri()}):
        with pytest.raises(ConfigError, match="Not a valid JSON Schema"):
            json_schema(schema)


@pytest.mark.parametrize(
    ("output", "expected", "passes"),
    [
        ("It is 42.", 42, 1),
        ("It is 42.", "42", 1),
        ("First 3, so 42", 42, 1),
        ("42 of 50", 42, 0),
        ("$1,234.50", 1234.5, 1),
        ("minus: −2.5", -2.5, 1),
        ("1e3", 1000, 1),
        ("0.1 + 0.2 = 0.30000000000000004", 0.3, 1),
        ("10-20", 20, 1),
        ("no number", 42, 0),
        ("GPT4", 4, 0),
        (42, 42, 1),
        ("42", "between 40 and 50", None),
        ("42", "many", None),
        ("42", None, None),
        ("1", True, None),
        ("1e999", 1, 0),
    ],
)
async def test_numeric(output: object, expected: object, passes: int | None) -> None:
    assert await value(numeric(), output, expected) == passes


async def test_numeric_tolerances() -> None:
    assert await value(numeric(absolute=0.1), "1.1", 1) == 1
    assert await value(numeric(absolute=0.1), "1.11", 1) == 0
    assert await value(numeric(relative=0.01), "101", 100) == 1
    assert await value(numeric(relative=0.01), "98.9", 100) == 0
    assert await value(numeric(relative=0.01), "-101", -100) == 1
    assert await value(numeric(which="first"), "42 of 50", 42) == 1
    assert await value(numeric(which="any"), "1 or 42 of 50", 42) == 1
    with pytest.raises(ConfigError, match="cannot be below 0"):
        numeric(absolute=-1)
    with pytest.raises(ConfigError, match="cannot be below 0"):
        numeric(relative=float("nan"))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(True, 1.0), (False, 0.0), (0.25, 0.25), (3, 3.0), (None, None), (float("nan"), None)],
)
async def test_a_function_gives_a_score(given: object, wanted: float | None) -> None:
    def judge(output: object, example: Example) -> object:
        assert (output, example.expected) == ("out", "exp")
        return given

    async def judge_async(output: object, example: Example) -> object:
        return judge(output, example)

    for scorer in (function_scorer(judge), function_scorer(judge_async)):
        score = await scorer.score("out", Example("q", "exp"), Context())
        assert score.value == wanted
        assert (score.reason != "") == (wanted is None)
    assert function_scorer(judge).name == "judge"


async def test_a_function_may_give_a_whole_score() -> None:
    scorer = function_scorer(lambda output, example: Score("its own", 0.5, "half"), name="mine")
    assert await scorer.score("x", Example("q"), Context()) == Score("mine", 0.5, "half")


async def test_a_function_that_gives_something_else_is_wrong() -> None:
    with pytest.raises(TypeError, match="the scorer mine gave a str; give True, False, a number"):
        await function_scorer(lambda output, example: "good", name="mine").score("x", Example("q"), Context())


async def test_a_plain_function_does_not_hold_up_the_loop() -> None:
    free = threading.Event()
    scorer = function_scorer(lambda output, example: free.wait(60))
    scores: list[Score] = []

    async def score() -> None:
        scores.append(await scorer.score("x", Example("q"), Context()))

    async with anyio.create_task_group() as group:
        group.start_soon(score)
        await anyio.lowlevel.checkpoint()
        free.set()
    assert scores[0].value == 1


async def test_options_are_part_of_a_scorers_identity() -> None:
    made = [
        exact(), exact(ignore_case=True), includes(), includes(words=True), regex("a"), regex("b"), regex(),
        json_valid(), json_schema({}), json_schema({"type": "object"}), numeric(), numeric(absolute=1),
        numeric(which="any"), function_scorer(lambda *_: 1), function_scorer(lambda *_: 2),
    ]  # fmt: skip
    identities = [repr(scorer.identity) for scorer in made]
    assert len(set(identities)) == len(made)
    assert repr(exact(name="other").identity) == identities[0]
