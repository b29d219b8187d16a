"""The pre-flight card: what it says, what it blocks, and that it never raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m2v_core.studio.space.settings import current_limits
from pages import distill
from pages.components import BUNDLED_TEACHER, own_words, preflight_card
from pages.components.preflight_card import about, short_count
from tests.hub.server import LoopbackHub

DEFAULTS: dict[str, Any] = {
    "teacher": BUNDLED_TEACHER,
    "mode": "output",
    "source": "paste",
    "pasted": "",
    "upload": None,
    "column": None,
    "dims": "256",
    "precision": "float16",
    "clusters": "",
    "remove_pattern": r"\[unused\d+\]",
    "recipe": "fast",
    "prompt": "",
    "dictionary": "auto",
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(preflight_card, "_kept", {})
    monkeypatch.delenv("SPACE_ID", raising=False)
    yield


def check(**changes: Any) -> tuple[str, bool]:
    html, button, *_ = distill.check(**DEFAULTS | changes)
    return html, button.interactive


def test_the_bundled_teacher() -> None:
    html, can_start = check()
    assert can_start
    for said in (
        "15.1 MB",
        "29,525 rows of 256",
        "about 20 s",
        "22.7 million",
        "WordPiece, 30,522 pieces",
        "apache-2.0",
    ):
        assert said in html


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dims": "128"}, "29,525 rows of 128"),
        ({"dims": "0.9"}, "at most 384"),
        ({"dims": "12x"}, "29,525 rows of 256"),
        ({"precision": "int8"}, "7.7 MB"),
        ({"clusters": "1000"}, "1,000 rows of 256"),
        ({"recipe": "calibrated"}, "WordNet, 75,000 lines"),
        ({"recipe": "calibrated", "mode": "word", "pasted": "king\nqueen"}, "<dd>none</dd>"),
        ({"prompt": "query"}, "prompt_name is &#39;query&#39;"),
        ({"remove_pattern": ""}, "30,519 rows of 256"),
        ({"remove_pattern": "["}, "30,519 rows of 256"),
        ({"mode": "word"}, "Add words below"),
        ({"mode": "word", "pasted": "king\nqueen\nheart attack"}, "4 rows of 384"),
        ({"mode": "word", "pasted": "king\nqueen\nheart attack"}, "384 dimensions, not 256"),
        ({"dims": "512"}, "The teacher has no more"),
        ({"mode": "subword", "pasted": "king\nheart attack"}, "29,526 rows of 256"),
    ],
    ids=str,
)
def test_settings_count(changes: dict[str, Any], said: str) -> None:
    html, can_start = check(**changes)
    assert said in html
    assert can_start


@pytest.mark.parametrize("kind", ["custom-code", "no-tokenizer"])
def test_what_cannot_work_blocks_the_button(broken_teacher: Callable[[str], Path], kind: str) -> None:
    html, can_start = check(teacher=str(broken_teacher(kind)))
    assert not can_start
    assert "can&#39;t be distilled here" in html
    assert 'role="alert"' in html


def test_no_such_teacher_blocks_the_button(session_hub: LoopbackHub) -> None:
    html, can_start = check(teacher="nobody/<b>nothing</b>")
    assert not can_start
    assert "<b>" not in html
    assert not check(teacher="nobody/nothing")[1]
    assert not check(teacher=None)[1]


def test_a_hub_that_fails_does_not_block(session_hub: LoopbackHub) -> None:
    with session_hub.failing("/api/models/some/teacher", status=500):
        html, can_start = check(teacher="some/teacher")
    assert can_start
    assert "Nothing is known of this teacher yet" in html


def test_a_failure_of_ours_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(preflight_card, "look_up", fail)
    html, can_start = check()
    assert can_start
    assert "Incident" in html


def test_a_space_has_a_limit_and_takes_no_path(
    monkeypatch: pytest.MonkeyPatch, session_hub: LoopbackHub, build_teacher_once: Callable[[str], Path]
) -> None:
    folder = build_teacher_once("wordpiece")
    session_hub.add("someone/large", folder)
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert not check(teacher=str(folder))[1]
    assert check(teacher="someone/large")[1]
    monkeypatch.setattr(preflight_card, "_kept", {})
    limits = replace(current_limits(), teacher_parameters=10)
    monkeypatch.setattr(preflight_card, "current_limits", lambda: limits)
    html, can_start = check(teacher="someone/large")
    assert not can_start
    assert "10 are allowed here" in html


def test_a_teacher_is_asked_for_once(session_hub: LoopbackHub, build_teacher_once: Callable[[str], Path]) -> None:
    session_hub.add("someone/asked", build_teacher_once("wordpiece"))
    check(teacher="someone/asked")
    session_hub.requests.clear()
    check(teacher="someone/asked", dims="32")
    assert session_hub.requests == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(1, "about 5 s"), (18, "about 20 s"), (70, "about 1 min"), (7300, "about 2 h")]
)
def test_an_estimate_is_round(seconds: float, said: str) -> None:
    assert about(seconds) == said


def test_large_numbers() -> None:
    assert [short_count(count) for count in (999, 22_713_728, 7_000_000_000)] == [
        "999",
        "22.7 million",
        "7.0 billion",
    ]


def test_too_many_words_are_said_before_any_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(current_limits(), vocabulary_words=3)
    monkeypatch.setattr(own_words, "current_limits", lambda: limits)
    tokenized: list[Any] = []
    monkeypatch.setattr(preflight_card, "plan", lambda *_, **settings: tokenized.append(settings))
    for pasted in ("a\nb\nc\nd", "\n".join("abcdefgh")):
        html, can_start = check(mode="subword", pasted=pasted)
        said = f"{len(pasted.split())} entries, and 3 are allowed here. Shorten it."
        assert said in html and can_start and not tokenized
        assert said in own_words.lint("paste", pasted, None, None)[1]
    assert "3 entries ready" in own_words.lint("paste", "a\nb\n\nc\nc", None, None)[1].replace("usable", "ready")


def test_a_long_list_is_told_by_a_sample() -> None:
    words = "\n".join(f"word{number}" for number in range(6_000))
    html, _ = check(mode="word", pasted=words)
    assert "about 6,00" in html and "rows of 256" in html and "told by 5,000 of your words" in html
    assert "about" not in check(mode="word", pasted="one\ntwo")[0].split("rows of")[0].split("Table")[1]


def pieces(**changes: Any) -> str:
    return distill.check(**DEFAULTS | {"pasted": "heart\n<b>myocardial</b> infarction"} | changes)[2]


def test_how_the_teacher_reads_the_words_is_said() -> None:
    said = pieces(mode="subword")
    assert "1 of the 2 entries is a single piece of the teacher already, which costs nothing and gains little" in said
    assert "with this vocabulary it is one" in said and "my ##oca ##rdial" in said and "<b>" not in said
    assert "needed all the same" in pieces(mode="word")
    assert pieces() == pieces(mode="word", pasted="") == ""


def test_words_that_are_single_pieces_stay_when_the_others_are_cleaned() -> None:
    assert own_words.clean_words("paste", "heart\n\nattack", None, None)[0] == "heart\nattack"


def test_without_its_tokenizer_it_is_said_why(session_hub: LoopbackHub) -> None:
    for teacher in ("nobody/nothing", ""):
        assert "not known yet" in pieces(mode="word", teacher=teacher)
