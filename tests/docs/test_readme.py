"""What the README promises is so: its code runs, its commands work in its order, what it names exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorials" / "the-loop.md"


def test_every_python_block_runs(blocks, run_python) -> None:
    found = blocks(README, "python")
    assert len(found) >= 3
    for block in found:
        assert "You have 45 days." in run_python(block.text), f"README.md:{block.line}"


@pytest.mark.parametrize("page", [README, TUTORIAL], ids=lambda page: page.name)
def test_every_command_works_in_the_order_of_the_page(page: Path, lines, run_command, project: Path) -> None:
    done = []
    for line in lines(page):
        if not line.startswith("assay ") or line == "assay up":
            continue
        status, _ = run_command(filled_in(line, run_command))
        assert status == 0, line
        done.append(line.split()[1])
    assert {"call", "trace", "dataset", "prompt", "eval", "compare"} <= set(done)
    assert json.loads(run_command("assay eval list --json")[1])[0]["done"] == 80
    kept = json.loads((project / "datasets" / "mine.jsonl").read_text())
    assert kept["input"] == "How long do I have to return a tent?"
    assert kept["expected"] == "45 days"


def filled_in(line: str, run_command) -> str:
    """The line with the ids that a reader would put in."""
    if "TRACE_ID" in line or "SPAN_ID" in line:
        trace = json.loads(run_command("assay trace list --json")[1])[0]["trace_id"]
        (root,) = json.loads(run_command(f"assay trace show {trace} --json")[1])
        line = line.replace("TRACE_ID", trace[:8]).replace("SPAN_ID", root["span"]["span_id"])
    if "EXPERIMENT_" in line:
        newest, before = (one["id"] for one in json.loads(run_command("assay eval list --json")[1])[:2])
        line = line.replace("EXPERIMENT_A", before[:8]).replace("EXPERIMENT_B", newest[:8])
    return line


def test_what_is_said_to_be_refused_is_refused(run_command, project: Path, capsys) -> None:
    """The status section: the stores and the hosts that are not served."""
    for toml, says in (
        ('[storage]\nurl = "postgresql://localhost/assay"\n', "sqlite:///PATH"),
        ('[server]\nhost = "0.0.0.0"\n', "no keys"),
    ):
        (project / "assay.toml").write_text(toml)
        with pytest.raises(AssertionError, match=says):
            run_command("assay up --port 0")


def test_no_more_scorers_than_the_readme_counts() -> None:
    from assay.evals import SCORERS

    numbers = {8: "eight", 9: "nine", 10: "ten"}
    assert f"datasets and {numbers[len(SCORERS)]} scorers" in README.read_text()


def test_the_readme_is_short_enough_to_read() -> None:
    assert len(README.read_text().splitlines()) <= 170


def test_the_verdict_in_the_readme_is_the_tutorials() -> None:
    def verdict(page: Path) -> str:
        found = re.search(
            r"^BETTER  .*?(?=\n   experiment|\n```)", page.read_text(), re.MULTILINE | re.DOTALL
        )
        assert found is not None
        return " ".join(found[0].split())

    assert verdict(README) == verdict(TUTORIAL)
