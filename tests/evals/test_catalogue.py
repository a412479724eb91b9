"""Scorers in one line: what each spelling means, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.errors import ConfigError
from assay.evals import (
    SCORERS,
    Bench,
    Judge,
    exact,
    includes,
    json_schema,
    json_valid,
    numeric,
    regex,
    scorer,
    scorers_of,
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("exact", exact()),
        ("exact:ignore-case", exact(ignore_case=True)),
        ("includes", includes()),
        ("includes:case,all", includes(ignore_case=False, every=True)),
        ("words=includes:words", includes(words=True, name="words")),
        ("regex", regex()),
        (r"regex:^\d+$", regex(r"^\d+$")),
        ("regex:a=b:c", regex("a=b:c")),
        ("digits=regex:x=1", regex("x=1", name="digits")),
        ("numeric", numeric()),
        ("numeric:0.01", numeric(absolute=0.01)),
        ("numeric:1%,first", numeric(relative=0.01, which="first")),
        ("json_valid", json_valid()),
    ],
)
def test_a_line_describes_a_scorer(line: str, wanted: object) -> None:
    assert scorer(line) == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "include",
            "There is no scorer 'include'; did you mean 'includes'. there are: exact, includes, regex",
        ),
        ("", "There is no scorer ''; there are: exact"),
        ("exact:case", "exact has no option 'case'; it has: ignore-case"),
        ("json_valid:x", "json_valid has no option 'x'; it has: none"),
        ("numeric:abc", "numeric: 'abc' is not a tolerance"),
        ("numeric:-1", "numeric: '-1' is not a tolerance"),
        ("regex:(", "does not compile"),
        ("json_schema", r"json_schema needs a file: json_schema:SCHEMA\.json"),
        ("json_schema:none.json", "json_schema: the file .*none.json cannot be read: No such file"),
        ("judge:none.md", "judge: the file .*none.md cannot be read"),
        ("python:scorers.py", "'scorers.py' is not of the form file.py:name"),
    ],
)
def test_a_wrong_line_is_told_what_is_right(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scorer(line)


def test_files_are_found_from_the_base(tmp_path: Path, model) -> None:
    (tmp_path / "days.json").write_text('{"type": "object"}')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "polite.md").write_text("The answer is polite.")
    (tmp_path / "mine.py").write_text(
        "def short(output, example):\n    return len(output) < 9\n\nlimit = 3\n"
    )
    call = model("x")
    bench = Bench(tmp_path, call, "judge-model")
    assert scorer("json_schema:days.json", bench) == json_schema({"type": "object"})
    assert scorer("polite=judge:polite.md", bench) == Judge(
        "The answer is polite.", "judge-model", call, "polite"
    )
    assert scorer("python:mine.py:short", bench).name == "short"
    assert scorer("brief=python:mine.py:short", bench).name == "brief"
    with pytest.raises(ConfigError, match=r"list\.json: not a JSON object"):
        scorer("json_schema:list.json", bench)
    with pytest.raises(ConfigError, match="judge:polite.md needs a model; name one with --judge-model"):
        scorer("judge:polite.md", Bench(tmp_path))
    with pytest.raises(ConfigError, match="has no 'long' .it has: short"):
        scorer("python:mine.py:long", bench)
    with pytest.raises(ConfigError, match="limit is a int; a scorer is a function"):
        scorer("python:mine.py:limit", bench)


def test_names_must_differ() -> None:
    assert [one.name for one in scorers_of(["regex:a", "other=regex:b"])] == ["regex", "other"]
    with pytest.raises(
        ConfigError, match="Two scorers are called 'regex'; name one of them, as in 'other=regex'"
    ):
        scorers_of(["regex:a", "regex:b"])
    with pytest.raises(ConfigError, match="At least one scorer is needed"):
        scorers_of([])


def test_a_plugin_adds_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "shout", lambda name, argument, bench: regex("!" * int(argument), name=name))
    assert scorer("shout:3") == regex("!!!", name="shout")
