"""The real all-MiniLM-L6-v2 in this process, against the similarities that its makers publish."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.errors import ContextExceeded
from assay.providers.local_embeddings import LocalEmbeddings
from assay.providers.weights import KNOWN, find
from assay.types import Completed, Request, Response, closing, user

pytestmark = [pytest.mark.anyio, pytest.mark.local_model, pytest.mark.timeout(240, method="thread")]

WEATHER = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")


@pytest.fixture(scope="module")
def local(embedding_weights: Path) -> Iterator[LocalEmbeddings]:
    model = LocalEmbeddings("here", embedding_weights)
    yield model
    asyncio.run(model.aclose())


async def answer(model: LocalEmbeddings, *texts: str) -> Response:
    request = Request("minilm", tuple(map(user, texts)), operation="embeddings")
    async with closing(model(request)) as events:
        (completed,) = [event async for event in events]
    assert isinstance(completed, Completed)
    return completed.response


def likeness(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_published_similarities(local: LocalEmbeddings) -> None:
    """Those of sentence-transformers' own first example, for float32: int8 stays within some hundredths."""
    response = await answer(local, *WEATHER)
    found = [[likeness(one, other) for other in response.vectors] for one in response.vectors]
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    for row, expected in zip(found, published, strict=True):
        assert row == pytest.approx(expected, abs=0.04)
    assert [len(vector) for vector in response.vectors] == [384] * 3
    assert [likeness(vector, vector) for vector in response.vectors] == pytest.approx([1.0] * 3, abs=1e-5)
    assert response.usage is not None
    assert response.usage.input == 8 + 9 + 8


async def test_a_text_gets_the_same_vector_in_any_company(local: LocalEmbeddings) -> None:
    words = ["wing", "flow", "heat", "the", "of", "pressure", "shock", "layer", "body", "and", "jet"]
    chance = random.Random(3)
    texts = [" ".join(chance.choices(words, k=length)) for length in (1, 3, 40, 7, 200, 1, 90)]
    together = (await answer(local, *texts)).vectors
    alone = [(await answer(local, text)).vectors[0] for text in texts]
    assert list(together) == alone
    assert (await answer(local, *reversed(texts))).vectors == together[::-1]


async def test_case_and_space_do_not_count_and_nothing_is_a_text_too(local: LocalEmbeddings) -> None:
    one, other, nothing = (await answer(local, "Hello  World", "hello world\n", "")).vectors
    assert one == other
    assert likeness(nothing, nothing) == pytest.approx(1, abs=1e-5)


async def test_the_longest_text(local: LocalEmbeddings) -> None:
    response = await answer(local, "word " * 510)
    assert response.usage is not None
    assert response.usage.input == 512
    with pytest.raises(ContextExceeded, match="Input 1 has 513 tokens and the model 'minilm' takes 512"):
        await answer(local, "short", "word " * 511)


async def test_several_threads_say_the_same(local: LocalEmbeddings, embedding_weights: Path) -> None:
    other = LocalEmbeddings("two", embedding_weights, threads=2)
    theirs, ours = (await answer(other, *WEATHER)).vectors, (await answer(local, *WEATHER)).vectors
    for one, two in zip(theirs, ours, strict=True):
        assert likeness(one, two) == pytest.approx(1, abs=1e-3)
    await other.aclose()


async def test_it_says_nothing_on_the_terminal(
    embedding_weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = LocalEmbeddings("quiet", embedding_weights)
    await answer(model, "Hello")
    await model.aclose()
    assert capfd.readouterr() == ("", "")


def test_the_real_weights(embedding_weights: Path) -> None:
    cache = embedding_weights.parents[1]
    assert find("local-embeddings", cache, verify=True) == embedding_weights
    names = {path.name for path in embedding_weights.iterdir()}
    assert names == {"model.int8.onnx", "tokenizer.json", "README.md", "LICENSE", "SHA256SUMS"}
    assert "license: apache-2.0" in (embedding_weights / "README.md").read_text()
    assert (embedding_weights / "model.int8.onnx").stat().st_size < KNOWN["local-embeddings"].size / 3
