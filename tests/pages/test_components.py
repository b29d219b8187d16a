from __future__ import annotations

import contextvars
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext

from m2v_core.errors import InputError
from m2v_core.exploration.neighbors import Neighbor
from m2v_core.hub.push import check_model_name
from m2v_core.studio.work.distilling import default_name
from pages import components
from pages.components import (
    by_name,
    checked_teacher,
    error_notice,
    format_bytes,
    format_seconds,
    known_owner,
    neighbors_html,
    notice,
    shows_errors,
)

EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (15_116_800, "15.1 MB"),
        (999_960, "1.0 MB"),
        (2 * 10**12, "2000.0 GB"),
    ],
)
def test_format_bytes(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_foreign_text_is_escaped() -> None:
    assert EVIL not in notice("error", EVIL, [EVIL])
    assert EVIL not in error_notice(InputError(EVIL), EVIL)
    assert EVIL not in neighbors_html([Neighbor(EVIL, 0.5, 0)], EVIL)


def test_a_deliberate_error_speaks_for_itself() -> None:
    html = error_notice(InputError("pca_dims is 0. Give 1 or more."), "The run can't be started")
    assert "The run can&#39;t be started" in html
    assert "pca_dims is 0. Give 1 or more." in html


def test_any_other_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        html = error_notice(RuntimeError("a path: /srv/secret"), "")
    assert "/srv/secret" not in html
    incident = caplog.records[0].getMessage().split()[1]
    assert incident in html
    assert "/srv/secret" in caplog.text


def test_neighbors_show_word_bar_and_number() -> None:
    html = neighbors_html([Neighbor("queen", 0.876, 3), Neighbor("cabbage", -0.2, 5)], "king")
    assert html.index("queen") < html.index("cabbage")
    assert "width:87.6%" in html and "0.88" in html
    assert "width:0.0%" in html and "-0.20" in html
    assert "None of these words are in" in neighbors_html([], "xyzzy")


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (("sentence-transformers/all-MiniLM-L6-v2", 256), "minilm-l6-256"),
        (("sentence-transformers/all-MiniLM-L6-v2", 256, "/tmp/x/Medical.csv"), "minilm-l6-medical-256"),
        (("BAAI/bge-small-en-v1.5", 0.9), "bge-small-en"),
        (("intfloat/multilingual-e5-small", None, "W\u00f6rter  (neu)..txt"), "multilingual-e5-small-w-rter-neu"),
        (("/home/ada/teachers/mine/",), "mine"),
        (("C:\\teachers\\mine", 8), "mine-8"),
        (("lab/\u4e2d\u6587", None), "model"),
        (("lab/" + "x" * 200, 256, "y" * 200), "x" * 48 + "-" + "y" * 32 + "-256"),
    ],
)
def test_default_name(facts: tuple[Any, ...], name: str) -> None:
    assert default_name(*facts) == name == check_model_name(name)


def test_any_teacher_is_good_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert checked_teacher(" ./mine ") == "./mine"
    for nothing in (None, "", "  "):
        with pytest.raises(InputError, match="No teacher is selected"):
            checked_teacher(nothing)


@pytest.mark.parametrize("name", ["/etc", "../../etc/passwd", "./mine", "a/b/c", "a\\b", "name", "a/b\n", "a/ b"])
def test_a_space_takes_hub_ids_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SPACE_ID", "owner/space")
    assert checked_teacher("BAAI/bge-small-en-v1.5") == "BAAI/bge-small-en-v1.5"
    if name == "a/b\n":
        assert checked_teacher(name) == "a/b"
    else:
        with pytest.raises(InputError, match="not a Hub id"):
            checked_teacher(name)


def test_an_owner_is_kept_if_it_is_one_of_ours() -> None:
    owner = known_owner(None)
    assert known_owner(owner) == owner
    assert known_owner("") != known_owner("")
    for foreign in ("short", "x" * 65, "../" * 10, "a b " * 8):
        assert known_owner(foreign) != foreign


def test_a_first_visit_has_one_owner_whatever_it_asks_first() -> None:
    def visit(session_hash: str | None) -> str:
        return contextvars.copy_context().run(ask, session_hash)

    def ask(session_hash: str | None) -> str:
        LocalContext.request.set(gr.Request(session_hash=session_hash))
        return known_owner(None)

    with ThreadPoolExecutor(8) as pool:
        owners = set(pool.map(visit, ["first"] * 64))
    assert len(owners) == 1
    assert visit("second") not in owners
    assert visit(None) != visit(None)
    assert known_owner(None) not in owners


def test_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M2V_STUDIO_HOME", str(tmp_path / "here"))
    assert components.data_folder() == (tmp_path / "here").resolve()
    monkeypatch.delenv("M2V_STUDIO_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert components.data_folder() == tmp_path / "m2v-studio"


@shows_errors("The run stopped", lambda message: ("", message))
def divided(request: gr.Request, number: int) -> tuple[str, str]:
    if number < 0:
        raise InputError(f"{number} is negative. Give 0 or more.")
    return str(1 / number), ""


@shows_errors("The run stopped")
def counted(to: int) -> Iterator[str]:
    yield "0"
    if to < 0:
        raise InputError("It can't be negative.")
    yield str(1 / to)


def test_an_error_of_a_handler_is_shown_in_place_of_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    request = gr.Request()
    assert divided(request, 2) == ("0.5", "")
    answer, message = divided(request, -3)
    assert answer == "" and "The run stopped" in message and "-3 is negative. Give 0 or more." in message
    assert not caplog.records
    answer, message = divided(request, 0)
    assert answer == "" and "The run stopped" not in message and "division by zero" not in message
    assert caplog.records[0].getMessage().split()[1] in message
    assert "ZeroDivisionError" in caplog.text and "return str(1 / number)" in caplog.text


def test_an_error_of_a_generator_comes_after_what_it_has_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert list(counted(2)) == ["0", "0.5"]
    first, message = counted(-1)
    assert first == "0" and "It can&#39;t be negative." in message
    _, message = counted(0)
    assert caplog.records[0].getMessage().split()[1] in message


def test_gradio_gives_a_decorated_handler_its_request_and_streams_a_generator() -> None:
    with gr.Blocks() as app:
        number, answer, message = gr.Number(2), gr.Textbox(), gr.Textbox()
        number.change(divided, number, [answer, message])
        number.submit(counted, number, answer)
    change, submit = app.fns.values()
    assert not change.types_generator and submit.types_generator
    inputs, *_ = gr.helpers.special_args(change.fn, [2], gr.Request())
    assert isinstance(inputs[0], gr.Request) and inputs[1] == 2


def test_values_by_name_reach_their_components_and_the_others_stay() -> None:
    def named(number: int) -> dict[str, str]:
        return {"right": "new"} if number else {}

    def streamed(number: int) -> Iterator[dict[str, str]]:
        yield {"left": "first"}
        yield {"right": str(number)}

    with gr.Blocks():
        left, right = gr.Textbox(), gr.Textbox()
    event = by_name(named, {"left": left, "right": right})
    assert event["outputs"] == [left, right]
    assert event["fn"](1) == {right: "new"}
    assert event["fn"](0) == {left: gr.skip()}
    responses = list(by_name(streamed, {"left": left, "right": right})["fn"](3))
    # The page may read a response only after the differences of the next ones were applied to it.
    assert responses == [{left: "first"}, {left: "first", right: "3"}]
    with pytest.raises(KeyError, match="right"):
        by_name(named, {"left": left})["fn"](1)
