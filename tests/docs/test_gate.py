"""The commands of the page on gating, run in their order: each verdict has the exit status promised."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "gate.md"
TOML = """
[providers.knows]
dialect = "scripted"
replies = ["You have 45 days."]

[providers.guesses]
dialect = "scripted"
replies = ["It depends."]

[models.knows]
provider = "knows"

[models.guesses]
provider = "guesses"
"""
PROMPT = "---\nmodel: {}\ninput: {{schema: {{question: string}}}}\n---\n{{{{question}}}}\n"


@pytest.fixture
def gate(project: Path, blocks, run_command):
    """Runs the page's first block on two prompts, each by its model; gives the last exit status."""
    (project / "assay.toml").write_text(TOML)
    cases = [{"input": f"How long do I have, case {number}?", "expected": "45 days"} for number in range(12)]
    (project / "datasets" / "support.jsonl").write_text("".join(f"{json.dumps(case)}\n" for case in cases))
    (project / "prompts" / "support.grounded.prompt").unlink()

    def run(base: str, change: str) -> int:
        checkout, *commands = blocks(PAGE, "sh")[0].text.splitlines()
        assert checkout == "git show origin/main:prompts/support.prompt > prompts/support.base.prompt"
        (project / "prompts" / "support.base.prompt").write_text(PROMPT.format(base))
        (project / "prompts" / "support.prompt").write_text(PROMPT.format(change))
        ids: dict[str, str] = {}
        status = 0
        for command in commands:
            line = re.sub(r"\$([A-Z]+)", lambda name: ids[name[1]], command)
            if taken := re.fullmatch(r"([A-Z]+)=\$\((assay .*) \| jq -r \.id\)", command):
                ids[taken[1]] = json.loads(run_command(taken[2])[1])["id"]
            else:
                status, _ = run_command(line)
        return status

    return run


def test_a_better_change_passes(gate) -> None:
    assert gate("guesses", "knows") == 0


def test_a_worse_change_is_1(gate) -> None:
    assert gate("knows", "guesses") == 1


def test_the_same_prompt_is_an_error_that_says_so(gate) -> None:
    with pytest.raises(AssertionError, match="the same experiment"):
        gate("knows", "knows")


def test_a_base_that_was_a_change_before_is_compared_as_the_base(gate) -> None:
    """The store is kept between runs: what was merged is the next base, and is not called again."""
    assert gate("guesses", "knows") == 0
    assert gate("knows", "guesses") == 1


def test_the_job_runs_what_the_page_explains(blocks) -> None:
    (job,) = blocks(PAGE, "yaml")
    _, *commands = blocks(PAGE, "sh")[0].text.splitlines()
    assert [command for command in commands if command not in job.text] == []
