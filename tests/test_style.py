"""Phrases and spellings that the style guide in CONTRIBUTING.md excludes, in the rooms that follow it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Files and folders; add a room when its text follows the style guide.
_CORE = ("bulk", "classification", "cli", "distillation", "distributed", "encoder", "evaluation", "exploration", "hub")
_CORE += ("native", "storage", "tokenization")
_MODULES = ("__init__", "__main__", "distill", "errors", "model", "progress")
_PAGES = ("api", "compare", "distill", "evaluate", "gradio_patches", "html", "publish", "theme")
_COMPONENTS = ("__init__", "account", "column_picker", "distill_settings", "evaluation_results")
_COMPONENTS += ("evaluation_view", "findings", "job_panel", "job_view", "licenses", "measurements")
_COMPONENTS += ("model_difference", "model_facts", "model_name", "model_table")
_COMPONENTS += ("own_documents", "own_texts", "own_words", "preflight_card")
_COMPONENTS += ("result_card", "served_files", "teacher_search", "teacher_side", "vector_folder", "waiting")
_COMPONENTS += ("zip_button",)
ROOMS = (
    *(f"m2v_core/{room}" for room in (*_CORE, "compat", "integrations")),
    *(f"m2v_core/{module}.py" for module in _MODULES),
    *(f"tests/core/{room}" for room in (*_CORE, "test_model.py")),
    *(f"{root}/studio/{room}" for root in ("m2v_core", "tests/core") for room in ("jobs", "space")),
    *(
        "m2v_core/studio/serving",
        "m2v_core/studio/work",
        "m2v_core/studio/memory_cap.py",
        "m2v_core/studio/processes.py",
    ),
    *(f"pages/{page}.py" for page in _PAGES),
    *(f"pages/components/{module}.py" for module in _COMPONENTS),
    *("docs/architecture.md", "docs/formats.md"),
    *("tests/compat", "tests/contracts", "tests/static_models.py", "benchmarks"),
)
SUFFIXES = {".py", ".pyi", ".c", ".h"}  # and .md, if a room is a single Markdown file

# What to match from the start of a word, in lowercase; what to write instead; and a text that must match.
RULES = (
    (r"at once\b", "immediately, or at the same time", "returns at once"),
    (r"by itself\b", "automatically, or alone", "starts by itself"),
    (r"of one's own\b", "your own", "texts of one's own"),
    (r"whoever\b", "name the actor", "for whoever needs it"),
    (r"(?:goes|go|going) on\b", "continue, or resume", "the same command goes on"),
    (r"stays? behind\b", "is not included, or remains", "hidden files stay behind"),
    (r"(?:comes?|takes?|taken) along\b", "is included, or download", "comes along as a package"),
    (r"in place of\b", "instead of, or replaces", "in place of the old one"),
    (r"what there is\b", "name it", "rejects what there is not"),
    (r"anew\b", "again", "built anew"),
    (r"mend(?:s|ed)?\b", "repair, or correct", "mend that line"),
    (r"beside\b", "next to, or compared with", "beside the teacher"),
    (r"(?:knows|knew)\b", "contains, or supports", "the model knows no part"),
    (r"(?:says?|said|asks|told)\b", "states, returns, requests, or raises", "what the teacher says"),
    (r"(?:forgets?|forgotten)\b", "drops, or evicts", "a table forgets nothing"),
    (r"(?:goes|go) without\b", "lacks, or returns None", "goes without"),
    (r"no such \w+ among\b", "... not found", "no such job among yours"),
    (r"(?:sentences|texts|rows|times|tokens|numbers|units) a (?:second|minute)\b", "per second", "texts a second"),
    (r"(?:one|row|label|weight|group) an? (?:text|line|token|row|core|label|column|query)\b", "per", "one a line"),
    (r"white space\b", "whitespace", "white space"),
    (r"(?:lower|upper) case\b", "lowercase, or uppercase", "in lower case"),
    (r"\d+ %(?:[ .,;:)]|$)", "no space before %", "95 % of them"),
    (
        r"(?:(?:mis)?behaviour|colour|favour|honour|neighbour|labour|(?:un|re)?label(?:led|ling)\b|centre[ds]?\b"
        r"|distils?\b|catalogue|grey\b|learnt\b|licence|judgement|whilst|artefact|fulfils?\b|spelt\b|journalled"
        r"|modelling|travelled|defence|offence|analys(?:e[ds]?|ing)\b|emphasis(?:e|ing)"
        r"|(?:un|re|de)?(?:categor|custom|factor|initial|material|maxim|minim|neutral|normal|optim|organ|parallel|penal"
        r"|priorit|quant|real|recogn|regular|serial|standard|summar|synchron|token|util|vector|visual)is(?:e|ing|ation))",
        "American spelling",
        "unrecognised neighbours",
    ),
)
_ALL = re.compile(rf"\b(?:{'|'.join(pattern for pattern, _, _ in RULES)})")
_CODE = re.compile(r"`[^`\n]*`|https?://\S+|\bn_\w+")


def files() -> Iterator[Path]:
    """The files of all rooms."""
    for room in ROOMS:
        path = ROOT / room
        yield from [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file's text with their numbers: docstrings, comments, names of functions and other strings.

    Strings in tests are data, except for docstrings.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix not in (".py", ".pyi"):
        yield from enumerate(text.split("\n"), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if (comment := line.partition("# ")[2]) and line.count('"', 0, line.index("# ")) % 2 == 0:
            yield number, comment
    tree = ast.parse(text)
    is_test = path.is_relative_to(ROOT / "tests")
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name.replace("_", " ")
        strings = [node] if isinstance(node, ast.Constant) and not is_test else []
        if (
            is_test
            and isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
            and isinstance(node.body[0], ast.Expr)
        ):
            strings = [node.body[0].value]
        for string in strings:
            if isinstance(string, ast.Constant) and isinstance(string.value, str) and " " in string.value:
                yield from enumerate(string.value.split("\n"), string.lineno)


@pytest.mark.parametrize(("pattern", "example"), [(pattern, example) for pattern, _, example in RULES])
def test_each_rule_matches_its_example(pattern, example):
    assert re.search(rf"\b{pattern}", example)


def test_text_follows_the_style_guide():
    found = []
    for path in files():
        if not _ALL.search(path.read_text(encoding="utf-8").lower().replace("_", " ")):
            continue
        for number, line in prose(path):
            if match := _ALL.search(_CODE.sub("", line).lower()):
                (instead,) = (instead for pattern, instead, _ in RULES if re.match(rf"{pattern}", match[0]))
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; write: {instead}")
    assert not found, "\n" + "\n".join(found)
