"""Python code as part of an experiment: found by reference, and told apart when it changes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import FunctionType

import pytest

from assay.errors import ConfigError
from assay.evals import load
from assay.evals.code import code_identity, code_name, short_name


def make(limit: object):
    def within(output: str) -> bool:
        return len(output) < limit

    return within


class Client:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.handle = object()

    def within(self, output: str) -> bool:
        return len(output) < self.limit

    def __call__(self, output: str) -> bool:
        return self.within(output)


def same(one: object, other: object) -> bool:
    return code_identity(one) == code_identity(other)


@pytest.mark.parametrize(
    "kind", [make, Client, lambda limit: Client(limit).within, lambda limit: partial(make, limit)]
)
def test_the_values_that_code_carries_tell_it_apart(kind) -> None:
    assert same(kind(3), kind(3))
    assert not same(kind(3), kind(4))


def test_functions_that_code_carries_tell_it_apart() -> None:
    assert same(make(make(3)), make(make(3)))
    assert not same(make(make(3)), make(make(4)))
    assert not same(make(len), make(max))


def test_values_without_a_meaning_do_not_change_the_identity() -> None:
    assert same(make(object()), make(object()))


def test_defaults_and_sources_tell_code_apart(tmp_path: Path) -> None:
    made = []
    for number, text in enumerate(
        ["def f(x, y=1): return y", "def f(x, y=2): return y", "def f(x, y=1): return x"]
    ):
        (tmp_path / f"{number}.py").write_text(text)
        made.append(load(f"{number}.py:f", base=tmp_path))
    sources = [code_identity(one)["source"] for one in made]
    assert len(set(sources)) == 3
    assert code_identity(made[0])["carries"] != code_identity(made[1])["carries"]


def test_code_without_a_source_is_told_apart_by_what_it_does() -> None:
    def typed(text: str) -> FunctionType:
        space: dict[str, FunctionType] = {}
        exec(text, space)
        return space["f"]

    assert same(typed("def f(x): return x + 1"), typed("def f(x): return x + 1"))
    assert not same(typed("def f(x): return x + 1"), typed("def f(x): return x + 2"))
    assert not same(typed("def f(x): return len(x)"), typed("def f(x): return max(x)"))


def test_the_identity_is_the_same_in_another_process(tmp_path: Path) -> None:
    """The same command has to find the run that it began: hashes and addresses must not come in."""
    (tmp_path / "mine.py").write_text(
        "def f(x, *, kind=object()):\n"
        "    return x in {'a', 'b', 'c', 'd', 'e'} or (lambda y: y in {'f', 'g', 'h'})(x)\n"
    )
    program = "from assay.evals.code import *; print(code_identity(load('mine.py:f')))"
    found = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_code_that_is_not_python_has_a_name() -> None:
    assert code_name(len) == "builtins:len"
    assert not same(len, max)
    assert not same(str.upper, str.lower)


def test_a_function_that_refers_to_itself_has_an_identity() -> None:
    def count(x: int) -> int:
        return 0 if x == 0 else count(x - 1)

    assert code_identity(count) == code_identity(count)


def test_names_for_people() -> None:
    assert short_name(make(3)) == "within"
    assert short_name(partial(make, 3)) == "make"
    assert short_name(Client(3)) == "Client"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("good.py", "is not of the form file.py:name or package.module:name"),
        ("none.py:f", "There is no file .*none.py"),
        ("bad.py:f", "bad.py failed while it was read: ZeroDivisionError: division by zero"),
        ("good.py:g", "good.py has no 'g' .it has: f."),
        ("no.such.module:f", "The module no.such.module cannot be imported: No module named"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(tmp_path: Path, reference: str, message: str) -> None:
    (tmp_path / "good.py").write_text("def f(x):\n    return x\n")
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=message):
        load(reference, base=tmp_path)


def test_a_module_is_found_by_its_name() -> None:
    assert load("assay.evals.code:load") is load
