"""The prompt store on a real database: versions are kept, labels move and move back, references resolve."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from assay.errors import AssayError, NotFound, PromptError, RequestError, StorageError
from assay.prompts.dotprompt import PromptTemplate, load_prompt, parse_prompt
from assay.prompts.store import PromptStore, Synced
from assay.prompts.tables import prompt_versions
from assay.storage import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/assay.db")
    yield opened
    opened.close()


@pytest.fixture
def prompts(store: Store) -> PromptStore:
    ticks = iter(range(1, 10_000))
    return PromptStore(store, clock_ns=lambda: next(ticks))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "prompts"
    made.mkdir()
    return made


def add(prompts: PromptStore, text: str, name: str = "answer") -> PromptTemplate:
    prompt = parse_prompt(text, name=name)
    prompts.add(prompt)
    return prompt


def message(error: pytest.ExceptionInfo[AssayError]) -> str:
    return error.value.message


# --- sync ----------------------------------------------------------------------------------------


def test_sync_brings_files_in_and_moves_their_labels(prompts: PromptStore, folder: Path) -> None:
    (folder / "support").mkdir()
    (folder / "answer.prompt").write_text("A {{q}}")
    (folder / "answer.short.prompt").write_text("B {{q}}")
    (folder / "support" / "triage.prompt").write_text("C")
    (folder / "notes.txt").write_text("{{")
    (folder / ".old").mkdir()
    (folder / ".old" / "x.prompt").write_text("{{")

    done = prompts.sync(folder)

    assert [(one.file, one.name, one.label, one.before, one.moved) for one in done] == [
        ("answer.prompt", "answer", "latest", None, True),
        ("answer.short.prompt", "answer", "short", None, True),
        ("support/triage.prompt", "support/triage", "latest", None, True),
    ]
    assert prompts.get("answer").source == "A {{q}}"
    assert prompts.get("answer@latest").source == "A {{q}}"
    assert prompts.get("answer@short").source == "B {{q}}"
    assert prompts.get("support/triage").ref == done[2].name + "@" + done[2].version


def test_a_second_sync_changes_nothing(prompts: PromptStore, folder: Path) -> None:
    (folder / "answer.prompt").write_text("A")
    prompts.sync(folder)
    before = (prompts.versions("answer"), prompts.moves("answer"))
    (folder / "answer.prompt").write_bytes("\ufeffA".encode())
    assert [one.moved for one in prompts.sync(folder)] == [False]
    assert (prompts.versions("answer"), prompts.moves("answer")) == before


def test_a_sync_that_changes_nothing_does_not_write(prompts: PromptStore, store: Store, folder: Path) -> None:
    (folder / "answer.prompt").write_text("A")
    prompts.sync(folder)
    with store.write():  # a second writer would have to wait for this one
        assert [one.moved for one in prompts.sync(folder)] == [False]


def test_a_changed_file_makes_a_version_and_an_old_text_brings_back_the_old_one(
    prompts: PromptStore, folder: Path
) -> None:
    file = folder / "answer.prompt"
    seen = []
    for text in ("A", "B", "A"):
        file.write_text(text)
        (one,) = prompts.sync(folder)
        seen.append((one.before, one.version))
    a, b = load_prompt(file).version, parse_prompt("B", name="answer").version
    assert seen == [(None, a), (a, b), (b, a)]
    assert [version.version for version in prompts.versions("answer")] == [b, a]
    assert [move.version for move in prompts.moves("answer", "latest")] == [a, b, a]
    assert {move.reason for move in prompts.moves("answer")} == {"file answer.prompt"}


def test_a_file_that_is_gone_leaves_its_versions(prompts: PromptStore, folder: Path) -> None:
    file = folder / "answer.prompt"
    file.write_text("A")
    prompts.sync(folder)
    file.unlink()
    assert prompts.sync(folder) == ()
    assert prompts.get("answer").source == "A"


def test_sync_is_all_or_nothing_and_lists_every_problem(prompts: PromptStore, folder: Path) -> None:
    (folder / "a.prompt").write_text("fine")
    (folder / "b.prompt").write_text("{{")
    (folder / "c.prompt").write_text("---\nmodle: x\n---\n")
    (folder / "d.latest.prompt").write_text("x")
    (folder / "e.production.prompt").write_text("x")
    (folder / "f.beef.prompt").write_text("x")
    (folder / "_g.prompt").write_text("x")
    with pytest.raises(PromptError) as caught:
        prompts.sync(folder)
    lines = message(caught).splitlines()
    assert len(lines) == 6
    for line, words in zip(
        lines,
        [
            "partial",
            "b.prompt:1:1: ",
            "c.prompt:2:1: ",
            "'latest' is the file",
            "'production' is moved",
            "hex digits",
        ],
        strict=True,
    ):
        assert words in line
    assert prompts.list() == ()


def test_a_folder_that_is_not_there(prompts: PromptStore, folder: Path) -> None:
    with pytest.raises(PromptError, match="there is no such folder"):
        prompts.sync(folder / "gone")


def test_syncs_at_the_same_time_keep_one_version(store: Store, folder: Path) -> None:
    (folder / "answer.prompt").write_text("A")
    start = threading.Barrier(4)

    def sync() -> tuple[Synced, ...]:
        start.wait()
        return PromptStore(store).sync(folder)

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(sync) for _ in range(4)]
    assert sum(run.result()[0].moved for run in runs) == 1
    assert len(PromptStore(store).versions("answer")) == 1
    assert len(PromptStore(store).moves("answer")) == 1


# --- references ----------------------------------------------------------------------------------


def test_a_version_by_any_unique_prefix(prompts: PromptStore) -> None:
    prompt = add(prompts, "A")
    for ref in (
        prompt.ref,
        f"answer@{prompt.digest}",
        f"answer@{prompt.digest[:4]}",
        prompt.ref.upper().replace("ANSWER", "answer"),
    ):
        assert prompts.get(ref) == prompt
        assert prompts.version(ref).digest == prompt.digest


def test_an_ambiguous_prefix_lists_what_it_may_be(store: Store, prompts: PromptStore) -> None:
    digests = ["abcd1" + "0" * 59, "abcd2" + "0" * 59]
    with store.write() as connection:
        for digest in digests:
            values = {"name": "answer", "digest": digest, "source": digest[:5], "created_ns": 1}
            connection.execute(sa.insert(prompt_versions), values)
    with pytest.raises(RequestError) as caught:
        prompts.get("answer@abcd")
    assert not isinstance(caught.value, NotFound)
    for digest in digests:
        assert digest in message(caught)
    assert prompts.get("answer@abcd2").source == "abcd2"


def test_the_prefix_is_looked_up_in_that_prompt_alone(prompts: PromptStore) -> None:
    one = add(prompts, "same")
    add(prompts, "same", name="other")
    assert prompts.get(f"answer@{one.version}").name == "answer"


def test_what_is_not_there_is_named_with_the_nearest(prompts: PromptStore) -> None:
    with pytest.raises(
        NotFound, match=r"no prompt 'answer'. There are: none; to add one, put answer\.prompt"
    ):
        prompts.get("answer")
    prompt = add(prompts, "A")
    add(prompts, "T", name="support/triage")
    with pytest.raises(NotFound) as caught:
        prompts.get("anwser@production")
    assert "did you mean 'answer'? There are: 'answer', 'support/triage'" in message(caught)
    with pytest.raises(NotFound, match=r"'answer' has no label 'latest'. It has none"):
        prompts.get("answer")
    prompts.set_label(prompt.ref, "production")
    with pytest.raises(
        NotFound, match=r"no label 'prodction'; did you mean 'production'\? It has 'production'"
    ):
        prompts.get("answer@prodction")
    with pytest.raises(NotFound, match=rf"no version '0000'; its newest are '{prompt.version}'"):
        prompts.get("answer@0000")
    for ref in ("answer@", "answer@abc", "answer@a@b"):
        with pytest.raises(NotFound, match="4 or more hex digits"):
            prompts.get(ref)
    for ref in ("", "@production", "Answer"):
        with pytest.raises(NotFound, match="there is no prompt"):
            prompts.get(ref)


def test_long_lists_are_cut(prompts: PromptStore) -> None:
    for index in range(12):
        add(prompts, "x", name=f"p{index:02}")
    with pytest.raises(NotFound, match="'p07' and 4 more"):
        prompts.get("zzz")


def test_a_stored_prompt_renders_and_names_itself_in_errors(prompts: PromptStore) -> None:
    prompt = add(prompts, "---\nmodel: local\n---\nHi {{name}}, {{user.x}}")
    stored = prompts.get(prompt.ref)
    assert stored == prompt
    assert stored.render({"name": "Ada", "user": {"x": 1}})[0].text == "Hi Ada, 1"
    with pytest.raises(PromptError, match=rf"^{prompt.ref}:4:16: 'user\.x'"):
        stored.render({"name": "Ada", "user": {}})


def test_adding_twice_keeps_the_first(prompts: PromptStore) -> None:
    prompt = add(prompts, "A")
    first = prompts.version(prompt.ref)
    assert prompts.add(prompt) == first
    assert [version.created_ns for version in prompts.versions("answer")] == [first.created_ns]


def test_list_and_versions(prompts: PromptStore, folder: Path) -> None:
    (folder / "answer.prompt").write_text("A")
    prompts.sync(folder)
    b = add(prompts, "B")
    t = add(prompts, "T", name="triage")
    prompts.set_label("answer", "production")
    a = prompts.get("answer")
    newest = {name: prompts.versions(name)[0].created_ns for name in ("answer", "triage")}
    assert [(one.name, one.versions, one.newest_ns, one.labels) for one in prompts.list()] == [
        ("answer", 2, newest["answer"], {"latest": a.version, "production": a.version}),
        ("triage", 1, newest["triage"], {}),
    ]
    assert [(one.ref, one.labels) for one in prompts.versions("answer")] == [
        (b.ref, ()),
        (a.ref, ("latest", "production")),
    ]
    assert prompts.version(t.ref).labels == ()
    with pytest.raises(NotFound, match="no prompt 'trage'; did you mean 'triage'"):
        prompts.versions("trage")


# --- labels --------------------------------------------------------------------------------------


def test_labels_move_and_move_back(prompts: PromptStore) -> None:
    a, b, c = (add(prompts, text) for text in "ABC")
    for prompt, reason in ((a, "first"), (b, "better"), (c, "")):
        move = prompts.set_label(prompt.ref, "production", reason=reason)
        assert (move.label, move.version, move.reason) == ("production", prompt.version, reason)
        assert prompts.get("answer@production") == prompt
    for expected in (b, a):
        move = prompts.undo_label("answer", "production")
        assert (move.version, move.reason) == (expected.version, "undo")
        assert prompts.get("answer@production") == expected
    with pytest.raises(RequestError, match="first version; there is no move to take back"):
        prompts.undo_label("answer", "production")
    assert [move.version for move in prompts.moves("answer", "production")] == [
        prompt.version for prompt in (a, b, c, b, a)
    ]


def test_a_move_after_an_undo_is_undone_to_where_the_undo_led(prompts: PromptStore) -> None:
    a, b, c = (add(prompts, text) for text in "ABC")
    prompts.set_label(a.ref, "production")
    prompts.set_label(b.ref, "production")
    prompts.undo_label("answer", "production")
    prompts.set_label(c.ref, "production")
    assert prompts.undo_label("answer", "production").version == a.version


def test_labels_of_one_prompt_do_not_touch_others(prompts: PromptStore) -> None:
    a, t = add(prompts, "A"), add(prompts, "T", name="triage")
    prompts.set_label(a.ref, "production")
    prompts.set_label(a.ref, "canary")
    prompts.set_label(t.ref, "production")
    b = add(prompts, "B")
    prompts.set_label(b.ref, "production")
    assert prompts.get("answer@canary") == a
    assert prompts.get("triage@production") == t
    prompts.undo_label("answer", "production")
    assert prompts.get("triage@production") == t


def test_a_label_can_be_put_where_another_stands(prompts: PromptStore, folder: Path) -> None:
    (folder / "answer.prompt").write_text("A")
    prompts.sync(folder)
    prompts.set_label("answer", "production")
    (folder / "answer.prompt").write_text("B")
    prompts.sync(folder)
    assert prompts.get("answer@production").source == "A"
    prompts.set_label("answer@latest", "production")
    assert prompts.get("answer@production").source == "B"


def test_a_label_that_stands_there_already_does_not_move(prompts: PromptStore) -> None:
    a = add(prompts, "A")
    first = prompts.set_label(a.ref, "production", reason="first")
    assert prompts.set_label(a.ref, "production", reason="again") == first
    assert len(prompts.moves("answer")) == 1


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("latest", "follows the file"),
        ("beef", "looks like a version"),
        ("ABCDEF", "looks like a version"),
        ("", "may have up to 64"),
        ("a b", "may have up to 64"),
        ("a@b", "may have up to 64"),
        ("x" * 65, "may have up to 64"),
    ],
)
def test_labels_that_cannot_be(prompts: PromptStore, label: str, problem: str) -> None:
    a = add(prompts, "A")
    with pytest.raises(RequestError, match=problem):
        prompts.set_label(a.ref, label)
    assert prompts.moves("answer") == ()


def test_what_cannot_be_undone(prompts: PromptStore, folder: Path) -> None:
    (folder / "answer.prompt").write_text("A")
    prompts.sync(folder)
    with pytest.raises(RequestError, match="change the file back"):
        prompts.undo_label("answer", "latest")
    with pytest.raises(NotFound, match="no label 'production'"):
        prompts.undo_label("answer", "production")
    with pytest.raises(NotFound, match="no label 'production'"):
        prompts.moves("answer", "production")
    with pytest.raises(NotFound, match="no prompt"):
        prompts.undo_label("gone", "production")
    with pytest.raises(RequestError, match="'undo' stands for undone moves"):
        prompts.set_label("answer", "production", reason="undo")


# --- differences ---------------------------------------------------------------------------------


def test_diff(prompts: PromptStore) -> None:
    old = add(prompts, "---\nmodel: a\n---\nHi\u2028{{name}}")
    new = add(prompts, "---\nmodel: b\n---\nHi\u2028{{name}}\n")
    assert prompts.diff(old.ref, new.ref) == (
        f"--- {old.ref}\n+++ {new.ref}\n@@ -1,4 +1,4 @@\n"
        " ---\n-model: a\n+model: b\n ---\n"
        "-Hi\u2028{{name}}\n\\ No newline at end of file\n+Hi\u2028{{name}}\n"
    )
    assert prompts.diff(old.ref, old.ref) == ""


def test_a_store_that_cannot_be_written_says_so(store: Store, prompts: PromptStore) -> None:
    with store.write() as connection:
        connection.execute(sa.text("DROP TABLE prompt_labels"))
    with pytest.raises(StorageError):
        prompts.list()
