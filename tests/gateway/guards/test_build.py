"""Guards as assay.toml names them: mistakes with their place, and who is guarded by what."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from assay.config import Config, load
from assay.errors import ConfigError
from assay.gateway.guards import build
from assay.gateway.guards.build import configured
from assay.gateway.guards.guard import Posted, Said, hides
from assay.types import Handler

HEAD = """[providers.s]
dialect = "scripted"
replies = ["x"]
[models.m]
provider = "s"
"""
NOBODY: Handler = lambda request: None  # type: ignore[assignment,return-value]  # noqa: E731


def settled(folder: Path, text: str) -> Config:
    file = folder / "assay.toml"
    file.write_text(HEAD + text)
    return load(file, environment={})


def made(folder: Path, text: str) -> Mapping[str, tuple[Posted, ...]]:
    return configured(settled(folder, text))(NOBODY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('guards = ["pii"]', "6: models.m.guards: there is no guard 'pii'"),
        ('[guards.g]\nrule = "pi"', "7: guards.g.rule: 'pi' is not one of secrets, pii"),
        ('[guards.g]\non = "input"', "6: guards.g: the key rule is missing"),
        ('[guards.g]\nrule = "pii"\nwords = ["a"]', "8: guards.g.words: is for the rule deny, not pii"),
        ('[guards.g]\nrule = "deny"', "guards.g: the rule deny needs words or patterns"),
        ('[guards.g]\nrule = "length"', "needs max_chars or max_tokens or max_messages"),
        ('[guards.g]\nrule = "length"\nmax_chars = 0', "max_chars: must be above 0"),
        ('[guards.g]\nrule = "injection"\non = "output"', "8: guards.g.on: injection cannot look at output"),
        ('[guards.g]\nrule = "injection"\nthreshold = 2.0', "threshold: must be above 0 and at most 1"),
        ('[guards.g]\nrule = "schema"\naction = "redact"', "8: guards.g.action: schema finds no places"),
        ('[guards.g]\nrule = "judge"\nmodel = "m"', "guards.g.rubric: must say"),
        ('[guards.g]\nrule = "judge"\nmodel = "n"\nrubric = "r"', "8: guards.g.model: there is no model 'n'"),
        ('[guards.g]\nrule = "custom"', "the rule custom needs use"),
        ('shadow = { model = "m" }', "models.m.shadow.model: 'm' is not another model or route"),
        ("shadow = { share = 0.5 }", "models.m.shadow: the key model is missing"),
        ('shadow = { model = "local", share = 0.0 }', "share: must be above 0"),
        (
            'guards = ["g"]\n[guards.g]\nrule = "judge"\nmodel = "m"\nrubric = "r"',
            "guards.g.model: 'm' is itself guarded by a judge",
        ),
        (
            '[models.n]\nprovider = "s"\nguards = ["g"]\n[routes.r]\ntry = ["n"]\n'
            '[guards.g]\nrule = "judge"\nmodel = "r"\nrubric = "r"',
            "guards.g.model: 'r' is itself guarded by a judge",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settled(tmp_path, text)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rule = "pii"\nkinds = ["api_key"]', "kinds: 'api_key' is not one of email, card"),
        ('rule = "secrets"\nkinds = ["email"]', "kinds: 'email' is not one of api_key"),
        ("rule = \"deny\"\npatterns = ['(a+)+']", "repeats without an upper bound"),
        ('rule = "schema"\nschema = "none.json"', "none.json cannot be read"),
        ('rule = "schema"\nschema = "assay.toml"', "is not a JSON object"),
        ('rule = "custom"\nuse = "nobody"', "no package offers the guard 'nobody'"),
    ],
)
def test_guards_that_cannot_be_made_are_told_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(tmp_path, f"[guards.mine]\n{text}")
    assert "assay.toml: guards.mine: " in caught.value.message
    assert said in caught.value.message


def test_a_route_has_its_own_guards_and_its_models(tmp_path: Path) -> None:
    posts = made(
        tmp_path,
        'guards = ["a"]\n[models.n]\nprovider = "s"\nguards = ["b", "a"]\n'
        '[routes.r]\ntry = ["m", "n"]\nguards = ["c"]\n[routes.bare]\ntry = ["m"]\n'
        '[routes.no]\ntry = ["local"]\n'
        '[guards.a]\nrule = "pii"\n[guards.b]\nrule = "injection"\n[guards.c]\nrule = "schema"',
    )
    names = {name: [post.name for post in found] for name, found in posts.items()}
    assert names == {"m": ["a"], "n": ["b", "a"], "r": ["c", "a", "b"], "bare": ["a"]}
    a, b, c = (posts["r"][at] for at in (1, 2, 0))
    assert (a.sides, b.sides, c.sides) == ({"input", "output"}, {"input"}, {"output"})
    assert hides([a])
    assert not hides([c])


def test_a_package_may_offer_a_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = [EntryPoint("mine", f"{__name__}:Mine", "assay.guards")]
    monkeypatch.setattr(build, "entry_points", lambda group: offered if group == "assay.guards" else [])
    monkeypatch.setattr(EntryPoint, "load", lambda self: Mine)
    posts = made(
        tmp_path,
        'guards = ["g"]\n[guards.g]\nrule = "custom"\nuse = "mine"\noptions = { topic = "billing" }',
    )
    guard: Any = posts["m"][0].guard
    assert guard.options == {"topic": "billing"}


class Mine:
    rules = ()
    whole = True

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = options

    async def check(self, said: Said) -> str | None:
        return None
