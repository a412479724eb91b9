"""`.prompt` files: front matter to fields, versions by content, names by file, requests, and errors."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from assay.errors import PromptError
from assay.prompts.dotprompt import PromptTemplate, load_prompt, name_and_variant, parse_prompt
from assay.types import JsonOutput, Sampling, SchemaOutput, TextOutput, assistant, system, user

FULL = """\
---
# answers from the policy
description: Answers a help-desk question.
model: local
config:
  temperature: 1e-1
  maxOutputTokens: 200
  topP: 0.9
  topK: 40
  stopSequences: ["END", "---"]
  seed: 7
  frequencyPenalty: 0.5
input:
  schema:
    question: string, what was asked
    policy?: string
  default:
    policy: none
output:
  schema:
    answer: string
    sure?(enum): [YES, NO]
metadata:
  owner: support
acme.team: support
acme.review.by: 2026-04-09
---

{{role "system"}}
Answer from this policy: {{policy}}

{{role "user"}}
{{question}}
"""


def parse(text: str) -> PromptTemplate:
    return parse_prompt(text, name="answer", file="answer.prompt")


def test_a_full_file() -> None:
    prompt = parse(FULL)
    assert (prompt.name, prompt.variant, prompt.model) == ("answer", None, "local")
    assert prompt.description == "Answers a help-desk question."
    assert prompt.sampling == Sampling(
        temperature=0.1,
        max_tokens=200,
        top_p=0.9,
        top_k=40,
        stop=("END", "---"),
        seed=7,
        frequency_penalty=0.5,
    )
    assert prompt.config == {}
    assert prompt.variables == ("policy", "question")
    assert prompt.input_schema is not None
    assert prompt.input_schema["required"] == ["question"]
    assert prompt.input_defaults == {"policy": "none"}
    assert prompt.output_schema is not None
    assert prompt.output_schema["properties"]["sure"] == {"enum": ["YES", "NO", None]}
    assert prompt.metadata == {"owner": "support"}
    assert prompt.ext == {"acme": {"team": "support"}, "acme.review": {"by": "2026-04-09"}}
    assert prompt.render({"question": "Why?"}) == (system("Answer from this policy: none"), user("Why?"))


def test_no_front_matter() -> None:
    prompt = parse("Hello {{name}}\n")
    assert prompt.model is None
    assert prompt.sampling == Sampling()
    assert prompt.output == TextOutput()
    assert prompt.render({"name": "Ada"}) == (user("Hello Ada\n"),)


@pytest.mark.parametrize(
    "text", ["---\n---\nHi", "---\n\n---\nHi\n", "# (c) Us\n\n---\n# none\n---\n\nHi\n\n"]
)
def test_empty_front_matter_and_what_may_stand_before_it(text: str) -> None:
    assert parse(text).render() == (user("Hi"),)


def test_front_matter_alone_is_a_prompt_without_messages() -> None:
    assert parse("---\nmodel: local\n---").render() == ()


def test_a_rule_in_the_body_does_not_end_it() -> None:
    assert parse("Title\n---\nBody").render() == (user("Title\n---\nBody"),)
    assert parse("---\nmodel: m\n---\na\n---\nb").render() == (user("a\n---\nb"),)


# --- versions ------------------------------------------------------------------------------------


def test_the_version_is_the_hash_of_the_canonical_source() -> None:
    prompt = parse(FULL)
    assert prompt.digest == hashlib.sha256(FULL.encode()).hexdigest()
    assert prompt.version == prompt.digest[:12]
    assert prompt.ref == f"answer@{prompt.version}"


@pytest.mark.parametrize("text", ["\ufeff" + FULL, FULL.replace("\n", "\r\n"), FULL.replace("\n", "\r")])
def test_byte_order_mark_and_line_ends_do_not_matter(text: str) -> None:
    assert parse(text) == parse(FULL)
    assert parse(text).version == parse(FULL).version


def test_anything_else_does() -> None:
    assert parse(FULL + " ").version != parse(FULL).version


def test_prompts_are_frozen_values() -> None:
    assert len({parse(FULL), parse(FULL), parse("x")}) == 2
    with pytest.raises(FrozenInstanceError):
        parse(FULL).name = "other"  # type: ignore[misc]


# --- files and names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("a.prompt", ("a", None)),
        ("a.short.prompt", ("a", "short")),
        ("support/answer-2.v1_b.prompt", ("support/answer-2", "v1_b")),
    ],
)
def test_names_from_files(file: str, expected: tuple[str, str | None]) -> None:
    assert name_and_variant(Path("prompts") / file, Path("prompts")) == expected


@pytest.mark.parametrize(
    "file",
    [
        "a.b.c.prompt",
        "a b.prompt",
        ".prompt",
        "a..prompt",
        "a.txt",
        "a@b.prompt",
        "x y/a.prompt",
        "_p.prompt",
    ],
)
def test_names_that_are_refused(file: str) -> None:
    with pytest.raises(PromptError, match=r"name\.variant\.prompt|partial"):
        name_and_variant(Path("prompts") / file, Path("prompts"))


def test_load(tmp_path: Path) -> None:
    file = tmp_path / "support" / "answer.short.prompt"
    file.parent.mkdir()
    file.write_bytes(b"\xef\xbb\xbf---\r\nmodel: local\r\n---\r\nHi {{name}}\r\n")
    prompt = load_prompt(file, tmp_path)
    assert (prompt.name, prompt.variant, prompt.model) == ("support/answer", "short", "local")
    assert load_prompt(file).name == "answer"
    assert prompt.render({"name": "\r\n"})[0].text == "Hi \r\n"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"gone\.prompt: cannot be read: No such file"):
        load_prompt(tmp_path / "gone.prompt")
    file = tmp_path / "latin.prompt"
    file.write_bytes("ok\nG\xfc\xdfe".encode("latin-1"))
    with pytest.raises(PromptError, match=r"latin\.prompt:2: byte 4 \(0xfc\) is not UTF-8; save it as UTF-8"):
        load_prompt(file)


def test_text_that_utf_8_cannot_carry() -> None:
    with pytest.raises(PromptError, match=r"^answer\.prompt: character 1 is half a character"):
        parse("a\ud800")


def test_the_front_matter_may_name_the_prompt_but_not_contradict() -> None:
    assert parse_prompt("---\nname: a\nvariant: b\n---\n").name == "a"
    assert parse_prompt("---\nname: a\nvariant: b\n---\n", name="a", variant="b").variant == "b"
    with pytest.raises(
        PromptError, match=r"^answer\.prompt:2:1: name is 'a', but the file's name says 'answer'"
    ):
        parse("---\nname: a\n---\n")
    with pytest.raises(PromptError, match="has no name"):
        parse_prompt("Hi")
    with pytest.raises(PromptError, match="the name 'a b' may have letters"):
        parse_prompt("Hi", name="a b")


# --- output and requests -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", TextOutput()),
        ("output: {format: text}", TextOutput()),
        ("output: {format: json}", JsonOutput()),
        ("output: {schema: string}", SchemaOutput({"type": "string"})),
        ("output: {format: json, schema: {type: array}}", SchemaOutput({"type": "array"})),
    ],
)
def test_output(output: str, expected: object) -> None:
    assert parse(f"---\n{output}\n---\nHi").output == expected


def test_request() -> None:
    talk = (user("Hello"), assistant("Hi!"))
    prompt = parse(FULL)
    request = prompt.request({"question": "Why?"}, talk)
    assert request.model == "local"
    assert request.messages == prompt.render({"question": "Why?"}, talk)
    assert request.sampling == prompt.sampling
    assert request.output == prompt.output
    assert request.context.prompt == prompt.ref
    assert prompt.request({"question": "Why?"}, model="other").model == "other"


def test_a_request_needs_a_model_and_drops_nothing() -> None:
    with pytest.raises(PromptError, match="names no model"):
        parse("Hi").request()
    prompt = parse("---\nmodel: m\nconfig: {temperature: 0, safetySettings: [1]}\n---\nHi")
    assert prompt.config == {"safetySettings": [1]}
    with pytest.raises(PromptError, match="'safetySettings', which a call cannot carry"):
        prompt.request()


# --- yaml ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("NO", "NO"),
        ("12:30", "12:30"),
        ("2026-04-09", "2026-04-09"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("1.", 1.0),
        ("'5'", "5"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("<<", "<<"),
        ('"\\ud83d\\ude00 \\u00e9"', "😀 é"),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
        ("|\n    two\n    lines\n", "two\nlines\n"),
    ],
)
def test_yaml_1_2_scalars(written: str, value: object) -> None:
    assert parse(f"---\nmetadata:\n  x: {written}\n---\n").metadata == {"x": value}


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("front", "place", "words"),
    [
        ("modle: x", "2:1", ["'modle'", "did you mean 'model'?", "'config'", "'acme.team'"]),
        ("tools: [a]", "2:1", ["'tools'", "Allowed"]),
        ("version: 3", "2:1", ["'version'"]),
        ("model: 3", "2:1", ["model must be text, not 3"]),
        ("a: [", "3:1", ["not valid YAML"]),
        ("a: 'x", "3:1", ["not valid YAML", "quoted scalar"]),
        ("model: m\n\tx: 1", "3:1", ["not valid YAML"]),
        ("- a", "2:1", ["'key: value'"]),
        ("just text", "2:1", ["'key: value'"]),
        ("a.b: &x 1", "2:6", ["anchors"]),
        ("a.b: !!python/name:os.system", "2:6", ["tags"]),
        ("model: a\nmodel: b", "3:1", ["'model' is given twice"]),
        ("a.b: {c: 1, c: 2}", "2:13", ["'c' is given twice"]),
        ("1: a", "2:1", ["a key must be text"]),
        ("[a]: b", "2:1", ["a key must be text"]),
        ("a.b: \x01", "2:6", ["U+0001"]),
        ('a.b: "\\ud800"', "2:6", ["half a character"]),
        ("a.b: 1e999", "2:6", ["too large"]),
        ("a.b: " + "9" * 5000, "2:6", ["40 digits"]),
        ("a.b: " + "[" * 5000, "1:4", ["nests too deep"]),
        ("config: 3", "2:1", ["config must be a mapping"]),
        ("config:\n  temperature: hot", "3:3", ["config.temperature must be a number, not 'hot'"]),
        ("config:\n  temperature: true", "3:3", ["a number"]),
        ("config:\n  maxOutputTokens: 1.5", "3:3", ["a whole number"]),
        ("config:\n  maxOutputTokens: 0", "3:3", ["at least 1"]),
        ("config:\n  stopSequences: END", "3:3", ["a list of texts"]),
        ("config:\n  stopSequences: [1]", "3:3", ["a list of texts"]),
        ("input:\n  shema: {}", "3:3", ["input has no key 'shema'", "did you mean 'schema'?"]),
        ("input:\n  schema:\n    a: strin", "4:5", ["input.schema: ", "'string'"]),
        ("input:\n  schema: string", "3:3", ["must describe an object"]),
        ("input:\n  schema:\n    type: string\n    b: string", "3:3", ["called 'type'"]),
        ("input:\n  schema:\n    type: object\n    required: x", "5:5", ["not a valid JSON Schema"]),
        ("input:\n  schema:\n    a: integer\n  default:\n    a: x", "6:5", ["input.default", "integer"]),
        ("input:\n  schema:\n    a: integer\n  default:\n    aa: 1", "6:5", ["'aa'", "did you mean 'a'?"]),
        ("input:\n  default: 3", "3:3", ["input.default must be a mapping"]),
        ("input:\n  default: {zz: 1}", "3:13", ["'zz', which the prompt does not use"]),
        ("output:\n  format: xml", "3:3", ["'text' or 'json', not 'xml'"]),
        ("output:\n  format: text\n  schema: string", "3:3", ["a schema needs json"]),
        ("output:\n  schema:\n    $ref: file:///etc/passwd", "3:3", ["is not fetched", "$defs"]),
        ("output:\n  schema:\n    $ref: '#/nowhere'", "3:3", ["not a valid JSON Schema"]),
    ],
)  # fmt: skip
def test_front_matter_errors_say_where_what_and_what_is_allowed(
    front: str, place: str, words: list[str]
) -> None:
    with pytest.raises(PromptError) as caught:
        parse(f"---\n{front}\n---\nHi")
    assert caught.value.message.startswith(f"answer.prompt:{place}: ")
    for word in words:
        assert word in caught.value.message


def test_front_matter_that_is_not_closed() -> None:
    with pytest.raises(
        PromptError, match=r"^answer\.prompt:2:1: the front matter is not closed; add a line '---'"
    ):
        parse("# note\n---\nmodel: m\nHi")


def test_the_body_may_use_only_what_the_schema_declares() -> None:
    text = "---\ninput:\n  schema:\n    question: string\n---\n\nQ: {{qestion}}"
    with pytest.raises(PromptError) as caught:
        parse(text)
    assert caught.value.message == (
        "answer.prompt:7:6: the variable 'qestion' is not in input.schema; did you mean 'question'?"
        " It has: 'question'"
    )


def test_an_open_schema_lets_the_body_use_more() -> None:
    prompt = parse("---\ninput:\n  schema:\n    type: object\n    additionalProperties: true\n---\n{{other}}")
    assert prompt.render({"other": "x", "more": 1}) == (user("x"),)
    with pytest.raises(PromptError, match="'other' is missing"):
        prompt.render({"more": 1})


def test_a_json_schema_is_closed_unless_it_says_otherwise() -> None:
    prompt = parse(
        "---\ninput:\n  schema:\n    type: object\n    properties: {a: {type: string}}\n---\n{{a}}"
    )
    assert prompt.render({}) == ()
    with pytest.raises(PromptError, match="no variable 'b'"):
        prompt.render({"b": 1})
