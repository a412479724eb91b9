"""The loop on the shipped example, small, with the real local model; and the SDK's answers from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import openai
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "support"

pytestmark = pytest.mark.local_model


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example with a few of its questions, two topics' worth."""
    folder = tmp_path / "support"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".assay"))
    for name, kept in (("support", 14), ("incoming", 2)):
        file = folder / "datasets" / f"{name}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join(lines[:: len(lines) // kept][:kept]), encoding="utf-8")
    return folder


def test_the_loop_runs_and_a_second_time_only_shows_what_is_there(example: Path, assay) -> None:
    first = assay("demo", cwd=example)
    assert first.status == 0, first.err
    for heading in ("Prompts become versions", "calls", "2 from spans", "cost $0", "n=16"):
        assert heading in first.out
    assert "95%" in first.out

    spans = json.loads(assay("trace", "list", "-n", "1000", "--json", cwd=example).out)
    calls = sum(trace["calls"] for trace in spans)
    assert calls == 2 + 2 * 16
    assert all(trace["unpriced"] == 0 for trace in spans)
    experiments = json.loads(assay("eval", "list", "--json", cwd=example).out)
    assert [experiment["done"] for experiment in experiments] == [16, 16]
    decision = json.loads(
        assay("compare", experiments[1]["id"], experiments[0]["id"], "--json", cwd=example).out
    )
    assert decision["a"]["name"] != decision["b"]["name"]
    assert decision["verdict"]["effect"] == pytest.approx(decision["b"]["mean"] - decision["a"]["mean"])

    second = assay("demo", cwd=example)
    assert second.status == 0
    assert "0 of them new" in second.out
    after = json.loads(assay("trace", "list", "-n", "1000", "--json", cwd=example).out)
    assert sum(trace["calls"] for trace in after) == calls


def test_the_openai_sdk_gets_answers_from_the_real_local_model(serve) -> None:
    served = serve()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Refunds take 14 days. How many days does a refund take?"},
        ]
        whole = client.chat.completions.create(model="local", messages=messages, temperature=0, max_tokens=32)
        assert "14" in (whole.choices[0].message.content or "")
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        with client.chat.completions.create(
            model="local", messages=messages, temperature=0, max_tokens=32, stream=True
        ) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "14" in "".join(pieces)
        assert len([piece for piece in pieces if piece]) > 2
        person = client.chat.completions.create(
            model="local",
            messages=[{"role": "user", "content": "Describe a person."}],
            max_tokens=60,
            response_format={
                "type": "json_schema",
                "json_schema": {
                    "name": "person",
                    "schema": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "maxLength": 20},
                            "age": {"type": "integer"},
                        },
                        "required": ["name", "age"],
                        "additionalProperties": False,
                    },
                },
            },
        )
        assert set(json.loads(person.choices[0].message.content or "")) == {"name", "age"}
        with pytest.raises(openai.BadRequestError, match="context"):
            client.chat.completions.create(model="local", messages=[{"role": "user", "content": "x " * 9000}])


@pytest.mark.anyio
async def test_the_async_sdk_calls_the_local_model_several_times_at_once(serve) -> None:
    served = serve()
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
        streams = [
            await client.chat.completions.create(
                model="local",
                messages=[{"role": "user", "content": f"Say {word}."}],
                max_tokens=8,
                stream=True,
            )
            for word in ("yes", "no", "maybe", "hello", "goodbye", "please")
        ]
        for stream in streams:
            finishes = [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices]
            assert finishes[-1] in {"stop", "length"}
