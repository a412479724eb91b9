"""Failures in a row: what becomes a result, and what stops a run."""

from __future__ import annotations

import pytest

from assay.errors import AssayError, ConfigError, NotFound, ProviderUnavailable, RateLimited
from assay.evals.streak import Streak

GONE = NotFound("no model")


def feed(streak: Streak[int], *errors: Exception | None) -> list[int]:
    return [step for number, error in enumerate(errors) for step in streak.admit(number, error)]


def test_successes_pass_through() -> None:
    streak: Streak[int] = Streak("it", 3)
    assert feed(streak, None, None) == [0, 1]
    assert streak.release() == []


def test_the_same_failure_from_the_start_stops_and_records_nothing() -> None:
    streak: Streak[int] = Streak("it", 3)
    assert feed(streak, GONE, GONE) == []
    streak.check()
    assert feed(streak, NotFound("no model")) == []
    with pytest.raises(NotFound, match="no model"):
        streak.check()
    assert streak.release() == []


def test_results_that_come_in_after_the_stop_are_kept() -> None:
    streak: Streak[int] = Streak("it", 2)
    feed(streak, GONE, GONE)
    assert streak.admit(7, None) == [7]
    assert streak.admit(8, GONE) == []
    assert streak.release() == []


@pytest.mark.parametrize("other", [None, NotFound("another model"), ValueError("no model")])
def test_anything_else_makes_failures_results(other: Exception | None) -> None:
    streak: Streak[int] = Streak("it", 3)
    assert feed(streak, GONE, GONE, other, GONE, GONE, GONE, GONE) == [0, 1, 2, 3, 4, 5, 6]
    streak.check()


def test_few_failures_are_results_in_the_end() -> None:
    streak: Streak[int] = Streak("it", 3)
    assert feed(streak, GONE, GONE) == []
    assert streak.release() == [0, 1]
    assert streak.release() == []


def test_a_provider_that_goes_down_later_stops_too() -> None:
    streak: Streak[int] = Streak("it", 3)
    down = [ProviderUnavailable(f"request {number} failed") for number in range(3)]
    assert feed(streak, None, down[0], down[1]) == [0]
    assert feed(streak, down[2]) == []
    with pytest.raises(ProviderUnavailable):
        streak.check()
    assert streak.release() == []


def test_retryable_failures_with_a_success_between_are_results() -> None:
    streak: Streak[int] = Streak("it", 3)
    slow, down = RateLimited("slow"), ProviderUnavailable("down")
    assert feed(streak, None, slow, slow, None, slow, down, down, None) == [0, 1, 2, 3, 4, 5, 6, 7]
    streak.check()


def test_a_mistake_in_python_code_is_said_as_such() -> None:
    streak: Streak[int] = Streak("the task", 2)
    feed(streak, ZeroDivisionError("division by zero"), ZeroDivisionError("division by zero"))
    with pytest.raises(
        ConfigError, match="the task failed alike on 2 examples in a row.*ZeroDivisionError"
    ) as caught:
        streak.check()
    assert isinstance(caught.value, AssayError)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
