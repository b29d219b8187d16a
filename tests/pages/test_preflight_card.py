"""The pre-flight card: what it says, what it blocks, and that it never raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m2v_core.distillation.pipeline import distill as distill_teacher
from m2v_core.distillation.preflight import look_up, plan
from m2v_core.studio.jobs.folder import SHARED_CACHE
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
    "language": "auto",
    "size": "",
    "dims": "256",
    "precision": "float16",
    "clusters": "",
    "remove_pattern": r"\[unused\d+\]",
    "recipe": "fast",
    "prompt": "",
    "dictionary": "auto",
    "pooling": "auto",
    "effort": None,
    "corpus": None,
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(preflight_card, "_cache", {})
    monkeypatch.setenv("M2V_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SPACE_ID", raising=False)
    yield


def check(**changes: Any) -> tuple[str, bool]:
    shown = distill.check(**DEFAULTS | changes)
    return shown["card"], shown["start"].interactive


def test_the_bundled_teacher() -> None:
    html, can_start = check()
    assert can_start
    for said in (
        "15.1 MB",
        "29,525 rows of 256",
        "about 20 s",
        "22.7 million",
        "WordPiece, 30,522 tokens",
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
        ({"mode": "word", "pasted": "king\nqueen\nheart attack"}, "384 dimensions instead of 256"),
        ({"dims": "512"}, "The teacher has no more"),
        ({"mode": "subword", "pasted": "king\nheart attack"}, "29,526 rows of 256"),
    ],
    ids=str,
)
def test_settings_count(changes: dict[str, Any], said: str) -> None:
    html, can_start = check(**changes)
    assert said in html
    assert can_start


def test_what_is_cached_is_not_read_again(
    build_teacher_once: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = str(build_teacher_once("wordpiece"))
    words = {"teacher": teacher, "mode": "subword", "pasted": "heart attack"}
    assert "rows are cached" not in check(**words)[0]
    distill_teacher(teacher, recipe="fast", device="cpu", cache_folder=tmp_path / "home" / SHARED_CACHE)
    n_rows = plan(look_up(teacher)).n_rows
    assert f"The vectors of about {n_rows:,} rows are cached" in check(**words)[0]
    assert "rows are cached" not in check(**words, pooling="first")[0]
    monkeypatch.setenv("SPACE_ID", "someone/m2v-studio")
    monkeypatch.setattr(preflight_card, "checked_teacher", lambda name: name)  # a folder, as no Hub has this teacher
    assert "rows are cached" in check(teacher=teacher)[0]
    assert "rows are cached" not in check(**words)[0]  # or strangers would learn who else has used these words


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
    assert "This teacher could not be checked" in html


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
    monkeypatch.setattr(preflight_card, "_cache", {})
    limits = replace(current_limits(), teacher_parameters=10)
    monkeypatch.setattr(preflight_card, "current_limits", lambda: limits)
    html, can_start = check(teacher="someone/large")
    assert not can_start
    assert "limit here is 10" in html


def test_a_teacher_is_asked_for_once(session_hub: LoopbackHub, build_teacher_once: Callable[[str], Path]) -> None:
    session_hub.add("someone/asked", build_teacher_once("wordpiece"))
    check(teacher="someone/asked")
    session_hub.requests.clear()
    check(teacher="someone/asked", dims="32")
    assert session_hub.requests == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "about 5 s"), (18, "about 20 s"), (72, "about 70 s"), (130, "about 2 min"), (7300, "about 2 h")],
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
        said = f"{len(pasted.split())} entries; the limit here is 3. Shorten it."
        assert said in html and can_start and not tokenized
        assert said in own_words.lint("paste", pasted, None, None)[1]
    assert "3 entries valid, 2 invalid" in own_words.lint("paste", "a\nb\n\nc\nc", None, None)[1]


def test_a_long_list_is_told_by_a_sample() -> None:
    words = "\n".join(f"word{number}" for number in range(6_000))
    html, _ = check(mode="word", pasted=words)
    assert "about 6,00" in html and "rows of 256" in html and "estimated from 5,000 of the words" in html
    assert "about" not in check(mode="word", pasted="one\ntwo")[0].split("rows of")[0].split("Table")[1]


def test_frequent_words_are_counted_before_the_run() -> None:
    html, can_start = check(mode="subword", source="language", language="auto:en", size="100")
    assert can_start and "100 frequent words of &#39;en&#39; (wordfreq" in html and "29,625 rows of 256" in html
    assert "100 frequent words" in check(mode="subword", source="language", size="100")[0]  # its card names English
    html, can_start = check(mode="word", source="language", language="auto:en", size="many")
    assert can_start and "vocabulary_size is &#39;many&#39;" in html
    html, can_start = check(mode="subword", source="corpus", size="100")
    assert can_start and "counted during the run" in html and "unknown" in html
    assert "auto:en" not in check(source="language", language="auto:en")[0]


def pieces(**changes: Any) -> str:
    return distill.check(**DEFAULTS | {"pasted": "heart\n<b>myocardial</b> infarction"} | changes)["pieces"]


def test_how_the_teacher_reads_the_words_is_said() -> None:
    said = pieces(mode="subword")
    assert "1 of the 2 entries is already a single token in the teacher&#39;s vocabulary, so adding it changes" in said
    assert "with this vocabulary it becomes one token" in said and "my ##oca ##rdial" in said and "<b>" not in said
    assert "still needed" in pieces(mode="word")
    assert pieces() == pieces(mode="word", pasted="") == ""


def test_words_that_are_single_pieces_stay_when_the_others_are_cleaned() -> None:
    assert own_words.clean_words("paste", "heart\n\nattack", None, None)[0] == "heart\nattack"


def test_without_its_tokenizer_it_is_said_why(session_hub: LoopbackHub) -> None:
    for teacher in ("nobody/nothing", ""):
        assert "could not be tokenized yet" in pieces(mode="word", teacher=teacher)
