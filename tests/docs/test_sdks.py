"""The pages on SDKs: what they say is raised is raised, and the environment alone changes the address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
ADDRESS = "http://127.0.0.1:8700"
SAID: Any = [{"role": "user", "content": "Hello"}]


def ask_openai(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        client.chat.completions.create(model="m", messages=SAID)


def ask_anthropic(url: str) -> None:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        client.messages.create(model="m", max_tokens=9, messages=SAID)


def ask_google(url: str) -> None:
    client = genai.Client(api_key="any", http_options={"base_url": url})
    try:
        client.models.generate_content(model="m", contents="Hello")
    finally:
        client.close()


ASK = {
    "openai-clients.md": (ask_openai, openai),
    "anthropic-clients.md": (ask_anthropic, anthropic),
    "google-clients.md": (ask_google, errors),
}
ROWS = [
    pytest.param(page, int(found[1]), found[2], id=f"{page.partition('-')[0]}-{found[1]}-{found[2]}-{number}")
    for page in ASK
    for number, found in enumerate(
        re.finditer(r"^\|.*?\| (\d{3}) \|.*`(\w+)` \|$", (PAGES / page).read_text(), re.MULTILINE)
    )
]


def test_every_page_has_its_errors() -> None:
    assert {row.values[0] for row in ROWS} == set(ASK)
    assert len(ROWS) >= 20


@pytest.mark.parametrize(("page", "status", "name"), ROWS)
def test_an_error_is_the_class_that_the_table_has(page: str, status: int, name: str, elsewhere: str) -> None:
    """Which status a failure has is held by tests/compat; here, what the SDK makes of it."""
    ask, module = ASK[page]
    with pytest.raises(Exception) as raised:
        ask(f"{elsewhere}/status/{status}")
    assert type(raised.value) is getattr(module, name)


CONSTRUCTED = {
    "openai-clients.md": "import openai\nclient = openai.OpenAI()\nprint(client.responses.create("
    "model='local', input='Hello').output_text)",
    "anthropic-clients.md": "import anthropic\nclient = anthropic.Anthropic()\nprint(client.messages.create("
    "model='local', max_tokens=9, messages=[{'role': 'user', 'content': 'Hello'}]).content[0].text)",
    "google-clients.md": "from google import genai\nclient = genai.Client()\n"
    "print(client.models.generate_content(model='local', contents='Hello').text)",
}


@pytest.mark.parametrize("page", CONSTRUCTED)
def test_the_environment_is_enough(
    page: str, run_python, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = re.search(r"`export ((?:\w+=\S+ ?)+)`", (PAGES / page).read_text())
    assert exported is not None
    for setting in exported[1].split():
        name, _, value = setting.partition("=")
        monkeypatch.setenv(name, value.replace(ADDRESS, address))
    assert "You have 45 days." in run_python(CONSTRUCTED[page])
