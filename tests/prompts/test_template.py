"""The body's syntax: what parses to what variables, and every error with its place and what is allowed."""

from __future__ import annotations

import pytest

from assay.errors import PromptError
from assay.prompts.source import Source
from assay.prompts.template import parse


def variables(text: str) -> list[str]:
    return list(parse(Source("t.prompt", text)).variables)


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("plain } text { with }} braces", []),
        ("{{name}} {{{raw}}} {{ spaced }}", ["name", "raw", "spaced"]),
        ("{{a.b.c}} {{d.0.e}} {{f.[two words]}}", ["a", "d", "f"]),
        ("{{this.history}} {{./role}}", ["history", "role"]),
        ("{{#if a}}{{b}}{{else if c}}{{d}}{{else}}{{e}}{{/if}}", ["a", "b", "c", "d", "e"]),
        ("{{#unless a}}{{/unless}}{{#ifEquals b 'x'}}{{/ifEquals}}", ["a", "b"]),
        ("{{#each items}}{{name}} {{this}} {{@index}}{{else}}{{none}}{{/each}}", ["items", "none"]),
        ("{{#each a}}{{../b}}{{#each c}}{{../d}}{{../../e}}{{@../index}}{{/each}}{{/each}}", ["a", "b", "e"]),
        ("{{#each a}}{{@root.b}}{{/each}}", ["a", "b"]),
        ("{{json a indent=2}}{{media url=b contentType=c}}", ["a", "b", "c"]),
        ("{{! no }}{{!-- {{no}} --}}\\{{no}}", []),
        ("{{a-b}} {{größe}} {{_x1}}", ["a-b", "größe", "_x1"]),
        ("{{b}}{{a}}{{b}}", ["b", "a"]),
    ],
)
def test_variables_in_order_of_first_use(text: str, used: list[str]) -> None:
    assert variables(text) == used


def test_whole_input_is_noticed() -> None:
    assert parse(Source("t", "{{json this}}")).whole_input
    assert parse(Source("t", "{{#each x}}{{json @root}}{{/each}}")).whole_input
    assert parse(Source("t", "{{#each x}}{{json ..}}{{/each}}")).whole_input
    assert not parse(Source("t", "{{#each x}}{{json this}}{{/each}}")).whole_input


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("{{", "1:1", ["not closed", "}}", "\\{{"]),
        ("line\n  {{name", "2:3", ["not closed"]),
        ("{{}}", "1:1", ["empty"]),
        ("{{#}}x{{/}}", "1:1", ["needs a name", "#each"]),
        ("x\ny {{#if a}}z", "2:3", ["{{#if}}", "add {{/if}}"]),
        ("{{#if a}}{{else if b}}", "1:10", ["{{#if}}", "add {{/if}}"]),
        ("{{/if}}", "1:1", ["was not opened"]),
        ("{{#if a}}{{#each b}}{{/if}}", "1:21", ["{{#each}}", "t.prompt:1:10", "{{/each}}"]),
        ("{{#if a}}{{/}}", "1:10", ["{{/name}}"]),
        ("{{else}}", "1:1", ["outside a block"]),
        ("{{#if a}}{{else}}{{else}}{{/if}}", "1:18", ["second {{else}}"]),
        ("{{#if a}}{{else}}{{else if b}}{{/if}}", "1:18", ["second {{else}}"]),
        ("{{#each a}}{{else if b}}{{/each}}", "1:19", ["no condition"]),
        ("{{#if a}}{{else each b}}{{/if}}", "1:17", ["{{else}}{{#each"]),
        ("{{#with a}}{{/with}}", "1:4", ["'with'", "#if", "#each"]),
        ("{{#eahc a}}{{/eahc}}", "1:4", ["did you mean 'each'?"]),
        ("{{#if}}{{/if}}", "1:4", ["1 value", "not 0", "{{#if x}}"]),
        ("{{#if a b}}{{/if}}", "1:4", ["not 2"]),
        ("{{#if a=b}}{{/if}}", "1:8", ["no named values"]),
        ("{{#ifEquals a}}{{/ifEquals}}", "1:4", ["2 values", "{{#ifEquals a b}}"]),
        ("a\n\n{{> part}}", "3:1", ["partials", "not supported"]),
        ("{{^if a}}{{/if}}", "1:1", ["inverse", "#unless"]),
        ("{{&a}}", "1:1", ["{{name}}"]),
        ("{{{{raw}}}}", "1:1", ["raw blocks", "\\{{"]),
        ("{{(lookup a b)}}", "1:3", ["expressions"]),
        ("{{#each a as |b|}}{{/each}}", "1:14", ["{{this}}"]),
        ("{{role}}", "1:3", ['{{role "system"}}', "{{this.role}}"]),
        ("{{role who}}", "1:8", ["'system'", "'model'", "a variable cannot choose it"]),
        ('{{role "boss"}}', "1:8", ["'assistant'"]),
        ('{{role "user" "model"}}', "1:8", ["a role is one of"]),
        ('{{role "user" name=x}}', "1:15", ["'name'", "takes none"]),
        ('{{role "user}}', "1:8", ["not closed", "quote"]),
        ("{{history 3}}", "1:11", ["takes nothing"]),
        ("{{media a}}", "1:3", ["{{media url="]),
        ("{{media contentType='image/png'}}", "1:3", ["{{media url="]),
        ("{{media url=}}", "1:9", ["needs a value"]),
        ("{{media url=a url=b}}", "1:15", ["given twice"]),
        ("{{media url=a mime=b}}", "1:15", ["'mime'", "'url', 'contentType'"]),
        ("{{media url==}}", "1:9", ["needs a value"]),
        ("{{media =a}}", "1:9", ["'='"]),
        ("{{json}}", "1:3", ["one value"]),
        ("{{json a b}}", "1:3", ["not 2"]),
        ("{{json a indent=b}}", "1:17", ["0 to 8"]),
        ("{{json a indent=true}}", "1:17", ["0 to 8"]),
        ("{{json a indent=9}}", "1:17", ["0 to 8"]),
        ("{{jsn a}}", "1:3", ["'jsn'", "did you mean 'json'?", "#each"]),
        ("{{if a}}", "1:3", ["{{#if ...}}"]),
        ("{{my name}}", "1:3", ["'my'", "no spaces"]),
        ("{{'text'}}", "1:3", ["not a variable"]),
        ("{{42}}", "1:3", ["not a variable"]),
        ('{"a": {{"b": 1}}}', "1:9", ["\\{{", "JSON"]),
        ("{{a.}}", "1:3", ["'a.'", "user.name"]),
        ("{{a/b}}", "1:3", ["'a/b'"]),
        ("{{a.[b}}", "1:5", ["'['"]),
        ("{{a.b}c}}", "1:6", ["'}'", "}}"]),
        ("{{{a}}", "1:5", ["}}}"]),
        ("{{@state}}", "1:3", ["'@state'", "@index", "@root"]),
        ("{{@index}}", "1:3", ["inside 1 #each"]),
        ("{{#each a}}{{@../index}}{{/each}}", "1:14", ["inside 2 #each"]),
        ("{{../a}}", "1:3", ["'../a'", "inside 0"]),
        ("{{#each a}}{{else}}{{../b}}{{/each}}", "1:22", ["'../b'"]),
        ("{{! open", "1:1", ["comment", "'}}'"]),
        ("{{!-- open }}", "1:1", ["comment", "'--}}'"]),
        ("{{#if a}}" * 51, "1:451", ["50 deep"]),
    ],
)
def test_syntax_errors_say_where_what_and_what_is_allowed(text: str, place: str, words: list[str]) -> None:
    with pytest.raises(PromptError) as caught:
        parse(Source("t.prompt", text))
    message = caught.value.message
    assert message.startswith(f"t.prompt:{place}: ")
    for word in words:
        assert word in message


def test_places_count_from_the_start_of_the_file() -> None:
    text = "---\nmodel: m\n---\nHello {{name"
    with pytest.raises(PromptError, match=r"^t\.prompt:4:7: "):
        parse(Source("t.prompt", text), start=17)
    assert parse(Source("t.prompt", text), start=17, end=23).variables == {}
