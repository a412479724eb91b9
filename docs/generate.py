"""Writes the pages of docs/reference that are made from the code; all other pages are written by hand.

python docs/generate.py            writes them
python docs/generate.py --check    exits with 1, naming the pages that are not what the code says
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import msgspec
import typer

import assay
from assay import config
from assay.cli import build
from assay.errors import AssayError
from assay.main import up
from assay.server import anthropic, gemini, openai_chat
from assay.types import Value

REFERENCE: Final = Path(__file__).parent / "reference"
MADE_BY: Final = "<!-- Made by docs/generate.py from the code: change the code, then run 'make docs'. -->"

# --- the command line ----------------------------------------------------------------------------

CLI_HEAD: Final = """\
# Command line

Every command finds its `assay.toml` by itself: the nearest one at or above the folder it is run in, or the
one that `--config` names. `--json` prints one JSON value on standard output, for programs. Progress and
errors go to standard error.

| exit status | |
|---|---|
| 0 | done |
| 1, 2 | verdicts of `assay compare --gate`: B is worse; not enough data |
| 3 | an error, and what to do about it |
| 130 | ended by Ctrl-C; what was finished is stored |
"""


def cli_page() -> str:
    """Every command, with its arguments and options, as `assay ... --help` has them."""
    commands = list(_commands("assay", typer.main.get_command(build(up))))
    listed = [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {_first_sentence(command.help)} |"
        for name, command in commands[1:]
    ]
    index = "\n".join(["| command | |", "|---|---|", *listed])
    return "\n\n".join([CLI_HEAD.strip(), index, *(_command(name, command) for name, command in commands)])


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command and all below it; a group only if it does something, or has options, of its own."""
    below = getattr(command, "commands", {})
    if not below or command.params or command.invoke_without_command:
        yield name, command
    for inner, one in below.items():
        yield from _commands(f"{name} {inner}", one)


def _command(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    usage = command.get_usage(context).removeprefix("Usage: ")
    rows = [_row(*_parameter(*one.get_help_record(context))) for one in command.params]
    table = "\n".join(["| | |", "|---|---|", *rows])
    return "\n\n".join([f"## {name}", command.help, f"```text\n{usage}\n```", *([table] if rows else [])])


def _parameter(spelled: str, about: str) -> tuple[str, str]:
    """A line of `--help` as two cells; what it says in brackets, in words."""
    about, bracket, facts = about.removesuffix("]").partition("  [")
    said = [fact.replace(": ", " ") for fact in facts.split("; ") if bracket and "default: no-" not in fact]
    spelled = re.sub(r"<(\w+) range>", r"<\1>", spelled)
    spelled = re.sub(r"<list\[(\w+)\]>", lambda found: f"<{found[1].lower()}>...", spelled)
    return f"`{spelled}`", f"{about} ({', '.join(said)})" if said else about


def _first_sentence(text: str) -> str:
    return re.split(r"\.\s", text)[0].rstrip(".")


# --- assay.toml ----------------------------------------------------------------------------------

CONFIGURATION_HEAD: Final = """\
# assay.toml

Nothing in it is needed: without a file, the models `local` and `local-embeddings` are there and everything is
kept in `.assay/assay.db`. A file with a mistake is refused at start, with file, line, key, what is wrong and
what is allowed.

```toml
[server]
port = 8700

[providers.openai]
dialect = "openai"
base_url = "https://api.openai.com/v1"
api_key = "env:OPENAI_API_KEY"

[providers.anthropic]
dialect = "anthropic"
base_url = "https://api.anthropic.com/v1"
api_key = "env:ANTHROPIC_API_KEY"

[providers.google]
dialect = "gemini"
base_url = "https://generativelanguage.googleapis.com/v1beta"
api_key = "env:GEMINI_API_KEY"

[providers.ollama]
dialect = "compatible"                    # any other server with OpenAI's chat completions
base_url = "http://127.0.0.1:11434/v1"
prices = "free"

[models."gpt-4o-mini"]                    # the name that callers use
provider = "openai"
model = "gpt-4o-mini-2024-07-18"          # its name upstream
deadline_s = 60

[models.llama]
provider = "ollama"
model = "llama3.2"
```

Which dialect is for whom: [Configure providers and models](../how-to/providers.md).

Beside the file stand `prompts/*.prompt` and `datasets/*.jsonl`, and relative paths start there.

| environment variable | |
|---|---|
| `ASSAY_CONFIG` | the file to use, where `--config` does not name one |
| `ASSAY_CACHE_DIR` | where pulled weights are kept; else `$XDG_CACHE_HOME/assay`, else `~/.cache/assay` |
| those named by `api_key = "env:NAME"` | secrets, which never stand in the file |
"""


def configuration_page() -> str:
    """Every table of assay.toml, with the keys, types, defaults and docstrings of assay.config."""
    sections = [CONFIGURATION_HEAD.strip()]
    for field in msgspec.structs.fields(config.Config):
        settings, many = _settings(field.type)
        if settings is not None:
            sections += _table(f"{field.name}.NAME" if many else field.name, settings)
    return "\n\n".join(sections)


def _table(title: str, settings: type[Value]) -> list[str]:
    """A table of the file, and those inside it."""
    documented = _attribute_docs(importlib.import_module(settings.__module__))[settings.__name__]
    fields = msgspec.structs.fields(settings)
    rows = [
        _row(f"`{key.encode_name}`", _type(key.type), _default(key), documented[key.name])
        for key in fields
        if _settings(key.type)[0] is None
    ]
    table = "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows])
    sections = [f"## `[{title}]`", _prose(settings), table]
    for key in fields:
        inner, _ = _settings(key.type)
        if inner is not None:
            sections += _table(f"{title}.{key.encode_name}", inner)
    return sections


def _settings(kind: Any) -> tuple[type[Value] | None, bool]:
    """The struct behind a table of the file, and whether there may be many of it."""
    many = get_origin(kind) is dict
    inner = get_args(kind)[1] if many else kind
    if get_origin(inner) in (Union, UnionType) and get_args(inner)[1] is NoneType:
        inner = get_args(inner)[0]
    return (inner, many) if isinstance(inner, type) and issubclass(inner, Value) else (None, many)


def _attribute_docs(module: ModuleType) -> dict[str, dict[str, str]]:
    """Class to field to the docstring that stands below the field."""
    found: dict[str, dict[str, str]] = {}
    for one in ast.parse(inspect.getsource(module)).body:
        if not isinstance(one, ast.ClassDef):
            continue
        for field, below in zip(one.body, one.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found.setdefault(one.name, {})[name] = " ".join(text.split())
    return found


def _type(kind: Any) -> str:
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    if kind in names:
        return names[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in arguments if one is not NoneType)
    if origin is tuple:
        return f"array of {_type(arguments[0])}s"
    if origin is dict:
        return f"table of {_type(arguments[1])}s"
    raise TypeError(f"docs/generate.py has no words for the type {kind!r}; add them to _type")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return ""
    # JSON's texts, numbers, booleans and lists are TOML's, too.
    # A dictionary is made anew for each value.
    factory = field.default_factory
    default = field.default if factory is msgspec.NODEFAULT else factory()
    return f"`{msgspec.json.encode(default).decode()}`"


# --- errors --------------------------------------------------------------------------------------

ERRORS_HEAD: Final = """\
# Errors

One tree, rooted at `assay.AssayError`. Each error has a `message` that says what to do, a stable `code` for
programs, the HTTP `status` that the server answers with, and `retryable`: whether the same call may succeed
later. `RequestError` and all below it also have `param`, the field that is to blame. `ProviderError` and all
below it have `provider`, `upstream_status`, `body` (the upstream's words, cut short) and `retry_after_s`.

Over HTTP an error has the shape of the caller's API. OpenAI's, at `/v1/chat/completions`, `/v1/responses` and
`/v1/embeddings`:

```json
{"error": {"message": "...", "type": "not_found_error", "param": "model", "code": "model_not_found"}}
```

Anthropic's, at `/v1/messages`, which has no code:

```json
{"type": "error", "error": {"type": "not_found_error", "message": "..."}, "request_id": null}
```

Google's, below `/v1beta/`, where the code is a reason in capitals:

```json
{"error": {"code": 404, "message": "...", "status": "NOT_FOUND", "details": [
  {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "MODEL_NOT_FOUND", "domain": "assay"}]}}
```

In a stream that has begun each comes
[as its dialect has it](../explanation/translation.md#the-truth-in-streams). What the SDKs raise:
[OpenAI](../how-to/openai-clients.md#errors), [Anthropic](../how-to/anthropic-clients.md#errors),
[Google](../how-to/google-clients.md#errors).

On the command line it is one line on standard error, and the exit status 3.
"""


def errors_page() -> str:
    """The error tree, by the classes themselves: those of assay.errors, and those of the server."""
    for module in ("assay.errors", "assay.server.app"):
        importlib.import_module(module)
    rows = [
        _row(
            f"{'· ' * depth}`{error.__name__}`",
            f"`{error.code}`",
            str(error.status),
            "yes" if error.retryable else "",
            _prose(error),
        )
        for depth, error in _tree(AssayError)
    ]
    table = "\n".join(["| error | code | HTTP | retryable | |", "|---|---|---|---|---|", *rows])
    narrower = [_row(f"`{code}`", f"`{error}`") for code, error in _narrower_codes()]
    codes = "\n".join(["| narrower code | error |", "|---|---|", *narrower])
    return "\n\n".join(
        [
            ERRORS_HEAD.strip(),
            table,
            "Some errors say more by a code of their own:",
            codes,
            "## In each dialect's words",
            _words_table(),
        ]
    )


def _words_table() -> str:
    """Each error as the servers of each dialect write it: they are asked."""
    rows = []
    for _, error in _tree(AssayError):
        told = error("")
        status, body = openai_chat.encode_error(told)
        openai = f"{status} `{json.loads(body)['error']['type']}`"
        status, body = anthropic.MESSAGES.error(told)
        claude = f"{status} `{json.loads(body)['error']['type']}`"
        status, body = gemini.encode_error(told)
        google = f"{status} `{json.loads(body)['error']['status']}`"
        rows.append(_row(f"`{error.__name__}`", openai, claude, google))
    return "\n".join(["| error | OpenAI | Anthropic | Google |", "|---|---|---|---|", *rows])


def _tree(error: type[AssayError], depth: int = 0) -> Iterator[tuple[int, type[AssayError]]]:
    yield depth, error
    for one in error.__subclasses__():
        if one.__module__.startswith("assay."):
            yield from _tree(one, depth + 1)


def _narrower_codes() -> list[tuple[str, str]]:
    """Codes that are given where an error is raised, with the error's name."""
    known = {error.__name__ for _, error in _tree(AssayError)}
    found = set()
    for file in sorted(Path(assay.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=name), keywords=keywords) if name in known:
                    found |= {
                        (str(one.value.value), name)
                        for one in keywords
                        if one.arg == "code" and isinstance(one.value, ast.Constant)
                    }
    return sorted(found)


# --- words and tables ----------------------------------------------------------------------------


def _prose(documented: type) -> str:
    if not documented.__doc__:
        raise TypeError(f"{documented.__name__} has no docstring; write what it means, for the reference")
    return " ".join(inspect.cleandoc(documented.__doc__).split())


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli_page,
    "configuration.md": configuration_page,
    "errors.md": errors_page,
}


def pages() -> dict[Path, str]:
    """Each generated page's file, and what should be in it."""
    made = {}
    for name, page in PAGES.items():
        title, _, rest = page().partition("\n")
        made[REFERENCE / name] = f"{title}\n\n{MADE_BY}\n{rest.rstrip()}\n"
    return made


def stale() -> list[Path]:
    """The pages that are not what the code says."""
    return [
        file
        for file, text in pages().items()
        if not file.is_file() or file.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        found = stale()
        for file in found:
            sys.stderr.write(f"docs/reference/{file.name} is not what the code says; run 'make docs'\n")
        return 1 if found else 0
    if arguments:
        sys.stderr.write("usage: python docs/generate.py [--check]\n")
        return 3
    REFERENCE.mkdir(exist_ok=True)
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
