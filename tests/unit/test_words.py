"""The words of docs/glossary.md: identifiers and phrases that must not return.

Identifiers are compared word by word (`_was_held` has `held`), in Python code of the whole tree;
phrases are searched in all Python files and pages. A name that must stay because it is on the wire,
in the configuration or in the database is listed with the reason.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from throttled.config.document import SECTIONS

TREE = Path(__file__).parents[2]
ROOTS = ("throttled", "tests", "scripts", "packaging")

#: Words that no identifier may contain: what to write instead.
WORDS = {
    "told": "report, log, message",
    "tell": "report, log, return",
    "tells": "reports",
    "held": "active, used, element; Postfix's hold queue only",
    "bring": "add, import",
    "brings": "adds, imports",
    "take": "drain, acquire, apply",
    "takes": "drains, accepts",
    "took": "elapsed",
    "taken": "in_use, accepted, drained",
    "insist": "add, force",
    "byhand": "manual",
    "pardon": "unban",
    "pardons": "unbans",
    "forget": "reset, evict, unban",
    "freed": "unbanned",
    "problem": "finding, error",
    "fault": "error, finding",
    "noting": "peaks",
}
#: Identifiers with such a word that stay.
NAMES = {
    "forget": "the key [ban] forget of the configuration",
    "metrics_problems": "an alert rule's name",
    "throttled_problem": "a metric",
    "throttled_problems": "a metric",
    "problems": "a key of `status --json` and `check --json`",
}
#: Where these names mean messages in Postfix's hold queue.
HOLD_QUEUE = ("mail", "on_hold", "policy_requests", "status", "checks", "package")
#: Names of tests say what is so in a sentence; these words are plain English in a sentence.
IN_SENTENCES = {"take", "takes", "took", "taken", "fault", "problem", "forget", "brings"}

#: Phrases that no page, message, docstring or comment may have: what to write instead.
PHRASES = {
    "in force": "active",
    "putting it right": "restoring",
    "put right": "repair, restore",
    "allowed by hand": "on the allowlist",
    "turn of the loop": "iteration of the event loop",
    "foreign hand": "another program",
    "be told": "be notified",
    "is told": "is reported",
    "are told": "are reported",
    "were let go": "were evicted",
    "runs out": "expires",
    "Tell whether": "Return whether",
}
#: Files that may have them: this one, the glossary, and what is history or not ours.
EXEMPT = ("tests/unit/test_words.py", "docs/glossary.md", "docs/design-decisions.md")


def _sources() -> Iterator[Path]:
    for root in ROOTS:
        yield from (p for p in (TREE / root).rglob("*.py") if ".venv" not in p.parts)


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


def _words(name: str) -> set[str]:
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def forbidden(source: str) -> set[str]:
    """Return the identifiers of a source that contain a word of the table."""
    found = set()
    for name in set(_names(ast.parse(source))) - NAMES.keys():
        refused = _words(name) & WORDS.keys()
        if name.startswith("test_"):
            refused -= IN_SENTENCES
        if refused:
            found.add(name)
    return found


def _hold_queue(path: Path) -> set[str]:
    return {"held", "Held"} if path.stem.removeprefix("test_") in HOLD_QUEUE else set()


def test_what_is_refused() -> None:
    """The check itself: a name with such a word, whole words only, sentences of tests apart."""
    assert forbidden("def was_held(): pass\nx = Pardons()") == {"was_held", "Pardons"}
    assert forbidden("mistaken = untold = takeover = 1") == set()
    assert forbidden("def test_a_file_takes_a_line(): pass") == set()
    assert forbidden("def test_it_is_told(): pass") == {"test_it_is_told"}


@pytest.mark.parametrize("root", ROOTS)
def test_identifiers(root: str) -> None:
    paths = [p for p in _sources() if p.is_relative_to(TREE / root)]
    found = {
        str(path.relative_to(TREE)): names
        for path in paths
        if (names := forbidden(path.read_text(encoding="utf-8")) - _hold_queue(path))
    }
    assert not found, f"see docs/glossary.md: {found}"


def test_phrases() -> None:
    pages = [*TREE.glob("*.md"), *(TREE / "docs").rglob("*.md"), *_sources()]
    found = [
        f"{path.relative_to(TREE)}: {phrase!r}: write {PHRASES[phrase]!r}"
        for path in pages
        if not str(path.relative_to(TREE)).startswith(EXEMPT)
        for text in [re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))]
        for phrase in PHRASES
        if re.search(rf"\b{phrase}\b", text)
    ]
    assert not found, "\n".join(found)


def test_the_configuration_has_the_words_of_the_glossary() -> None:
    text = " ".join(SECTIONS.values())
    assert not [phrase for phrase in PHRASES if phrase in text]
