"""The documentation holds: links resolve, generated pages are fresh, code runs, commands and files parse."""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

from assay.app import open_app
from assay.cli import build
from assay.config import load
from assay.evals import parse_dataset
from assay.main import up
from assay.prompts import parse_prompt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src"
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/*.md")),
]
MODULES = sorted(
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for file in SOURCE.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


# --- links -----------------------------------------------------------------------------------------


@every_page
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links spell them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if page.name != "README.md"]
    assert [page for page in pages if not page.startswith("decisions/") and f"({page})" not in index] == []


@every_page
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= targets


# --- generated pages -------------------------------------------------------------------------------


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DOCS / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_generated_pages_are_fresh() -> None:
    checked = generate("--check")
    assert checked.returncode == 0, checked.stderr


def test_a_stale_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    generator = load_generator()
    monkeypatch.setattr(generator, "REFERENCE", tmp_path)
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    (tmp_path / "cli.md").write_text((tmp_path / "cli.md").read_text() + "By hand.\n")
    capsys.readouterr()
    assert generator.main(["--check"]) == 1
    assert "cli.md" in capsys.readouterr().err
    assert generator.main(["--chekc"]) == 3


def test_every_environment_variable_that_is_read_is_in_the_reference() -> None:
    source = (SOURCE / "assay" / "config" / "__init__.py").read_text()
    read = set(re.findall(r'environment\.get\("(\w+)"\)', source))
    assert {"ASSAY_CONFIG", "ASSAY_CACHE_DIR"} <= read
    page = (DOCS / "reference" / "configuration.md").read_text()
    assert [name for name in read if name not in page] == []


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("assay_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- code ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@every_page
def test_python_runs(page: Path, blocks, run_python) -> None:
    """Examples with >>> are doctests; an excerpt is what its file says; the rest of a page is a script."""
    script = []
    for block in blocks(page, "python"):
        first, _, rest = block.text.partition("\n")
        if re.search(r"^>>> ", block.text, re.MULTILINE):
            example = doctest.DocTestParser().get_doctest(block.text, {}, page.name, str(page), block.line)
            assert doctest.DocTestRunner().run(example).failed == 0
        elif excerpt := re.fullmatch(r"# (src/\S+\.py)", first):
            assert rest in (ROOT / excerpt[1]).read_text(encoding="utf-8"), f"{page.name}:{block.line}"
        elif page.name != "README.md":  # whose blocks tests/docs/test_readme.py runs one by one
            script.append(block.text)
    if script:
        run_python("\n".join(script))


@pytest.mark.anyio
@every_page
async def test_settings_are_valid(page: Path, blocks, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        file = tmp_path / "assay.toml"
        file.write_text(block.text)
        async with open_app(load(file, environment={})) as app:
            assert set(app.config.models) <= set(app.routes)


@every_page
def test_prompts_datasets_and_json_parse(page: Path, blocks) -> None:
    for block in blocks(page, "prompt"):
        parse_prompt(block.text, name="example")
    for block in blocks(page, "jsonl"):
        parse_dataset(block.text.encode(), "example", str(page))
    for block in blocks(page, "json"):
        json.loads(block.text)
    for block in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(block.text), dict)


@every_page
def test_every_language_of_a_block_is_checked(page: Path) -> None:
    known = {"python", "sh", "toml", "prompt", "jsonl", "json", "yaml", "text"}
    opening = re.findall(r"^```(.*)\n(?:.*\n)*?```$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(opening) <= known


# --- commands --------------------------------------------------------------------------------------


@every_page
def test_commands_in_blocks_parse(page: Path, blocks) -> None:
    for block in (*blocks(page, "sh"), *blocks(page, "yaml")):
        for command in commands_in(block.text.replace("\\\n", " ")):
            try:
                parse(shlex.split(command, comments=True)[1:])
            except typer.TyperException as error:
                pytest.fail(f"{page.name}:{block.line}: {command}: {error.format_message()}")


@every_page
def test_commands_in_sentences_exist(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for written in re.findall(r"`(assay [a-z][^`]*)`", prose):
        words = written.replace("\\", "").split()[1:]
        command, rest = find(words)
        options = {spelled for one in command.params for spelled in one.opts} | {"--help"}
        for word in rest:
            assert not word.startswith("-") or word.rstrip(",;") in options, f"{page.name}: {written}"


def commands_in(text: str) -> Iterator[str]:
    """The `assay ...` of each line, also where its output is taken: X=$(assay ... | jq -r .id)."""
    for line in text.splitlines():
        if taken := re.search(r"\$\((assay [^|)]*)", line):
            yield taken[1]
        elif called := re.match(r"\s*(assay [^|]*)", line):
            yield called[1]


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words after it."""
    command: Any = typer.main.get_command(build(up))
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not getattr(command, "commands", None) or command.invoke_without_command, words
    return command, words


def parse(words: list[str]) -> None:
    """Raises typer.TyperException when the command line would."""
    command, rest = find(words)
    command.make_context("assay", list(rest))
