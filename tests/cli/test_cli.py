"""The command line, as people and scripts use it: real processes in a project of files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assay.main import main

TOML = """
[providers.wrong]
dialect = "scripted"
replies = ["I do not know."]

[providers.right]
dialect = "scripted"
replies = ["It is forty-two days."]

[models.wrong]
provider = "wrong"

[models.right]
provider = "right"
"""
PROMPT = """---
model: wrong
input:
  schema:
    question: string
---
{{role "system"}}
Be brief, and name the page of the policy on which the answer stands.
{{role "user"}}
{{question}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "assay.toml").write_text(TOML)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "ask.prompt").write_text(PROMPT)
    (tmp_path / "prompts" / "ask.new.prompt").write_text(PROMPT.replace("model: wrong", "model: right"))
    (tmp_path / "datasets").mkdir()
    lines = [
        json.dumps({"input": {"question": f"How long is case {number}?"}, "expected": "forty-two days"})
        for number in range(12)
    ]
    (tmp_path / "datasets" / "cases.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_help_names_every_command(assay) -> None:
    said = assay("--help")
    assert said.status == 0
    for command in ("up", "call", "compare", "demo", "models", "prompt", "dataset", "eval", "trace", "key"):
        assert f" {command} " in said.out


def test_the_models(project: Path, assay) -> None:
    said = assay("models", "--json")
    found = {model["name"]: model["dialect"] for model in json.loads(said.out)}
    assert found == {
        "local": "local",
        "local-embeddings": "local-embeddings",
        "wrong": "scripted",
        "right": "scripted",
    }
    assert "ready" in assay("models").out


def test_weights_that_are_not_there_are_said_before_and_at_the_call(project: Path, assay) -> None:
    nowhere = {"ASSAY_CACHE_DIR": str(project / "cache")}
    assert "run 'assay models pull local'" in assay("models", **nowhere).out
    said = assay("call", "local", "hi", **nowhere)
    assert said.status == 3
    assert "run 'assay models pull local'" in said.err


def test_a_call_is_answered_and_becomes_a_trace(project: Path, assay) -> None:
    said = assay("call", "right", "How long?")
    assert said.status == 0
    assert said.out.strip() == "It is forty-two days."
    assert "$0" in said.err
    (trace,) = json.loads(assay("trace", "list", "--json").out)
    assert trace["name"] == "chat right"
    tree = assay("trace", "show", trace["trace_id"][:8], "--messages").out
    assert "chat right" in tree
    assert "How long?" in tree
    assert "It is forty-two days." in tree


def test_a_trace_says_which_model_answered_and_what_a_cache_did(project: Path, assay) -> None:
    with (project / "assay.toml").open("a") as file:
        file.write('[routes.either]\ntry = ["right", "wrong"]\n[routes.either.cache]\n')
    for _ in range(2):
        assert assay("call", "either", "How long?").status == 0
    newest, oldest = json.loads(assay("trace", "list", "--json").out)
    assert "chat either → right" in assay("trace", "show", oldest["trace_id"]).out
    assert "cache hit" in assay("trace", "show", newest["trace_id"]).out


def test_a_tree_shows_long_messages_whole(project: Path, assay) -> None:
    question = " ".join(f"word{number}" for number in range(200))
    assay("call", "right", question)
    (trace,) = json.loads(assay("trace", "list", "--json").out)
    tree = assay("trace", "show", trace["trace_id"], "--messages", COLUMNS="80").out
    assert [word for word in question.split() if word not in tree] == []


def test_a_call_may_read_its_text_from_a_pipe(project: Path, assay) -> None:
    said = assay("call", "right", "-", "--json", stdin="How long?")
    assert json.loads(said.out)["choices"][0]["message"]["parts"][0]["text"] == "It is forty-two days."


def test_prompts_have_versions_labels_and_differences(project: Path, assay) -> None:
    (prompt,) = json.loads(assay("prompt", "list", "--json").out)
    assert set(prompt["labels"]) == {"latest", "new"}
    assert prompt["labels"]["latest"] in assay("prompt", "show", "ask").out
    assert PROMPT in assay("prompt", "show", "ask", COLUMNS="20").out
    difference = assay("prompt", "diff", "ask@latest", "ask@new").out
    assert "-model: wrong" in difference
    assert "+model: right" in difference
    assert assay("prompt", "label", "ask@new", "production", "-m", "better").status == 0
    labels = json.loads(assay("prompt", "list", "--json").out)[0]["labels"]
    assert labels["production"] == labels["new"]
    assert assay("prompt", "label", "ask@latest", "production").status == 0
    assert assay("prompt", "label", "ask", "production", "--undo").status == 0
    assert json.loads(assay("prompt", "list", "--json").out)[0]["labels"]["production"] == labels["new"]


def test_a_prompt_is_rendered_or_says_which_variable_is_wrong(project: Path, assay) -> None:
    said = assay("prompt", "render", "ask", "-v", "question=Why?", "--json")
    assert [message["role"] for message in json.loads(said.out)] == ["system", "user"]
    missing = assay("prompt", "render", "ask")
    assert missing.status == 3
    assert "question" in missing.err
    unknown = assay("prompt", "render", "ask", "-v", "question=x", "-v", "quest=y")
    assert unknown.status == 3
    assert "quest" in unknown.err


def test_a_prompt_is_called_and_its_variables_make_an_example(project: Path, assay) -> None:
    assert (
        assay("prompt", "run", "ask@new", "-v", "question=How long?").out.strip() == "It is forty-two days."
    )
    assay("dataset", "from-traces", "asked", "--prompt", "ask")
    (line,) = (project / "datasets" / "asked.jsonl").read_text().splitlines()
    assert json.loads(line)["input"] == {"question": "How long?"}


def test_a_broken_prompt_file_is_named_with_its_line(project: Path, assay) -> None:
    (project / "prompts" / "bad.prompt").write_text("Hello {{#if x}}\n")
    said = assay("prompt", "list")
    assert said.status == 3
    assert "bad.prompt:1" in said.err
    assert "Traceback" not in said.err


def test_the_loop(project: Path, assay) -> None:
    ids = []
    for label in ("latest", "new"):
        said = assay("eval", "run", "-p", f"ask@{label}", "-d", "cases", "--json")
        assert said.status == 0, said.err
        experiment = json.loads(said.out)
        assert (experiment["status"], experiment["done"], experiment["errors"]) == ("finished", 12, 0)
        ids.append(experiment["id"])
    better = assay("compare", ids[0], ids[1], "--gate")
    assert better.status == 0
    assert "BETTER" in better.out
    worse = assay("compare", ids[1], ids[0], "--gate")
    assert worse.status == 1
    assert assay("compare", ids[1], ids[0]).status == 0
    decision = json.loads(assay("compare", ids[0], ids[1], "--json").out)
    assert decision["verdict"]["outcome"] == "better"
    assert decision["verdict"]["effect"] == 1
    assert "forty-two" in assay("eval", "show", ids[1][:8]).out
    assert "forty-two" in assay("eval", "show", ids[0][:8], "--failed").out
    assert len(json.loads(assay("eval", "list", "--json").out)) == 2
    again = json.loads(assay("eval", "run", "-p", "ask@new", "-d", "cases", "--name", "after", "--json").out)
    assert (again["id"], again["name"]) == (ids[1], "after")
    assert assay("compare", ids[0], "after", "--gate").status == 0


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_reader_who_leaves_changes_neither_the_end_nor_the_verdict(
    project: Path, assay, closed: str
) -> None:
    ids = [
        json.loads(assay("eval", "run", "-p", f"ask@{label}", "-d", "cases", "--json").out)["id"]
        for label in ("new", "latest")
    ]
    for command, status in (
        (["compare", *ids, "--gate"], 1),
        (["compare", *ids[::-1], "--gate", "--json"], 0),
        (["eval", "run", "-p", "ask@new", "-d", "cases", "--fresh"], 0),
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "assay.main", *command],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stream = getattr(process, closed)
        stream.close()
        process.communicate(timeout=120)
        assert process.returncode == status, command


def test_unknown_cost_is_null_for_programs(project: Path, assay) -> None:
    (project / "tasks.py").write_text("def answer(input):\n    return 'forty-two days'\n")
    said = assay("eval", "run", "--task", "tasks.py:answer", "-d", "cases", "--json")
    cost = json.loads(said.out)["cost"]["task"]
    assert (cost["usd"], cost["unknown"]) == (None, 12)


def test_what_goes_into_a_pipe_is_a_line_a_row(project: Path, assay) -> None:
    assay(
        "eval",
        "run",
        "-p",
        "ask@new",
        "-d",
        "cases",
        "--name",
        "a name that is long enough to be wrapped " * 3,
    )
    lines = assay("eval", "list").out.splitlines()
    assert len(lines) == 2


def test_too_little_data_says_how_much_more_and_gates_with_2(project: Path, assay) -> None:
    (project / "datasets" / "few.jsonl").write_text(
        '{"input": "How long?", "expected": "forty-two days"}\n{"input": "Why?", "expected": "nothing"}\n'
    )
    ids = [
        json.loads(assay("eval", "run", "-p", f"ask@{label}", "-d", "few", "--json").out)["id"]
        for label in ("latest", "new")
    ]
    said = assay("compare", *ids, "--gate")
    assert said.status == 2
    assert "NOT ENOUGH DATA" in said.out
    assert "more examples" in said.out


def test_a_function_may_be_tried_too(project: Path, assay) -> None:
    (project / "evals").mkdir()
    (project / "evals" / "tasks.py").write_text(
        "async def answer(input):\n    return f\"{input['question']} forty-two days\"\n\n\n"
        "def polite(output, example):\n    return 'please' in output\n"
    )
    said = assay(
        "eval", "run", "--task", "evals/tasks.py:answer", "-d", "cases",
        "-s", "includes", "-s", "polite=python:evals/tasks.py:polite", "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert json.loads(said.out)["scores"] == {"includes": 1.0, "polite": 0.0}


def test_recorded_calls_become_a_dataset(project: Path, assay) -> None:
    assay("call", "wrong", "How long is a year?")
    assay("call", "right", "How long?")
    assert "Added 2 examples" in assay("dataset", "from-traces", "real").out
    assert "Nothing to add" in assay("dataset", "from-traces", "real").out
    lines = [json.loads(line) for line in (project / "datasets" / "real.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines] == ["How long is a year?", "How long?"]
    assert lines[1]["expected"] == "It is forty-two days."
    span = lines[0]["metadata"]["span_id"]
    assert assay("dataset", "add", "other", "--span", span, "-e", "365 days", "--cluster", "time").status == 0
    (line,) = (project / "datasets" / "other.jsonl").read_text().splitlines()
    assert json.loads(line)["expected"] == "365 days"
    assert json.loads(line)["cluster"] == "time"


def test_a_dataset_line_that_does_not_parse_is_named(project: Path, assay) -> None:
    (project / "datasets" / "bad.jsonl").write_text('{"input": "a"}\n{"input": \n')
    for command in (["dataset", "show", "bad"], ["eval", "run", "-p", "ask", "-d", "bad"]):
        said = assay(*command)
        assert said.status == 3
        assert "bad.jsonl:2" in said.err
        assert "Traceback" not in said.err


def test_dataset_versions_differ(project: Path, assay) -> None:
    first = json.loads(assay("dataset", "show", "cases", "--json").out)["digest"]
    file = project / "datasets" / "cases.jsonl"
    file.write_text(file.read_text().replace("case 3?", "case three?"))
    said = assay("dataset", "diff", f"cases@{first[:12]}", "cases")
    assert "case three?" in said.out
    assert "11 unchanged" in said.out
    assert "cases@" in assay("dataset", "list").out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["call", "rigth", "x"], "did you mean 'right'"),
        (["trace", "show", "abcdef"], "assay trace list"),
        (["trace", "show", "xyz"], "4 or more"),
        (["prompt", "show", "aks"], "ask"),
        (["dataset", "show", "cses"], "cases"),
        (["dataset", "from-traces", "../../escaped"], "leads out of datasets/"),
        (["call", "right", " "], "nothing to say"),
        (["eval", "run", "-d", "cases"], "--prompt"),
        (["eval", "run", "-p", "ask", "-d", "cases", "-s", "includs"], "includes"),
        (["eval", "show", "nothing"], "nothing"),
        (["compare", "a", "b"], "no experiment"),
        (["demo"], "examples/support"),
        (["--config", "none.toml", "models"], "none.toml"),
    ],
)
def test_mistakes_say_what_to_do_without_a_traceback(
    project: Path, assay, command: list[str], says: str
) -> None:
    assay("dataset", "list")
    said = assay(*command)
    assert said.status == 3, said
    assert says in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "command",
    [
        ["compare", "--gate"],
        ["compare", "a", "b", "--gaet"],
        ["eval", "rnu"],
        ["compare", "a", "b", "--margin", "x"],
    ],
)
def test_wrong_usage_is_never_taken_for_a_verdict(project: Path, assay, command: list[str]) -> None:
    said = assay(*command)
    assert said.status == 3
    assert "Usage: " in said.err
    assert "Traceback" not in said.err


def test_a_defect_is_never_taken_for_a_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(up: object) -> object:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("assay.main.build", broken)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert "ZeroDivisionError: a defect" in capsys.readouterr().err


def test_an_invalid_configuration_is_refused_with_file_and_line(project: Path, assay) -> None:
    (project / "assay.toml").write_text("[server]\nprot = 1\n")
    for command in (["up"], ["models"], ["trace", "list"]):
        said = assay(*command)
        assert said.status == 3
        assert "assay.toml:2" in said.err
        assert "did you mean port" in said.err


def test_a_store_that_cannot_be_written_is_said(project: Path, assay) -> None:
    (project / ".assay").write_text("a file where the folder should be")
    for command in (["up", "--port", "0"], ["trace", "list"], ["call", "right", "x"]):
        said = assay(*command)
        assert said.status == 3
        assert ".assay" in said.err
        assert "Traceback" not in said.err
