"""Rule 9: what people write stays text: in the HTML of every page, in messages, and in spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from m2v_core.model import StaticModel
from m2v_core.storage.export import write_zip
from tests.attacks.space import Stranger
from tests.attacks.test_paths import file_data
from tests.hub.server import LoopbackHub
from tests.live_app import ROOT

EVIL = "<img src=x onerror=alert(1)>"
FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"]
WORDS = [EVIL, "<script>alert(2)</script>", '"onmouseover="alert(3)', *FORMULAS, "river", "sea"]


def evil_model() -> StaticModel:
    """A model whose words are markup and formulas."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["[UNK]", *WORDS])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" | ", "removed")
    table = np.random.default_rng(0).standard_normal((len(WORDS) + 1, 8)).astype(np.float32)
    return StaticModel(table, tokenizer)


def save_evil_model(folder: Path) -> None:
    """The evil model with a card that no program of ours would write."""
    evil_model().save_pretrained(folder)
    (folder / "README.md").write_text(f"---\nbase_model: {json.dumps(EVIL + '/teacher')}\n---\n")


@pytest.fixture
def model_id(stranger: Stranger, tmp_path: Path) -> str:
    """The evil model in the stranger's library, under an evil name."""
    save_evil_model(tmp_path / "mine")
    upload = stranger.upload("mine.zip", write_zip(tmp_path / "mine", tmp_path / "mine.zip").read_bytes()).json()[0]
    assert "is in your library" in stranger.call("add_upload", stranger.key, [file_data(upload)])
    [model] = last_data(stranger.call("list_models", stranger.key))[0]
    assert "Renamed to" in stranger.call("rename", stranger.key, model["id"], EVIL)
    return str(model["id"])


def last_data(said: str) -> list[Any]:
    data: list[Any] = json.loads(said.splitlines()[-1])["output"]["data"]
    return data


def tags(html: str) -> set[str]:
    """What of the evil stands in there unescaped."""
    return set(re.findall(r"<img|<script|\\?\"onmouseover", html))


def test_no_handler_answers_with_markup_of_a_model(stranger: Stranger, model_id: str) -> None:
    seen = set()
    for text in (EVIL, "river", model_id):
        for handler in stranger.handlers:
            if handler["api_name"].startswith(("delete", "rename")):
                continue
            event = {"points": list(range(len(WORDS)))} if handler["collects_event_data"] else None
            data = stranger.untouched(handler, textbox=text, file=None, radio=model_id, dropdown=model_id)
            said = stranger.ask(handler, data, event)
            html = stranger.html_of(handler, said)
            assert not tags(html), (handler["api_name"], html)
            seen |= {handler["api_name"]} if "&lt;img" in html or "&amp;lt;img" in html else set()
    # The control: it did reach them.
    assert seen >= {"ask", "follow_words_search", "explain"}
    assert any(name.startswith("pick") for name in seen)


def test_documents_and_queries_are_text(stranger: Stranger, model_id: str) -> None:
    for name, changes in {
        "load_source": {"textbox": f"{EVIL}\nriver"},
        "follow_documents_search": {"textbox": EVIL, "dropdown": model_id},
        "follow_words_search": {"textbox": EVIL, "dropdown": model_id},
        "explain": {"textbox": f"{EVIL} river", "dropdown": model_id},
        "lint": {"textbox": f"{EVIL}\n{EVIL}\nriver", "radio": "paste"},
    }.items():
        handler = stranger.handler(name)
        html = stranger.html_of(handler, stranger.ask(handler, stranger.untouched(handler, **changes)))
        assert html and not tags(html), name
        assert "&lt;img" in html or name == "load_source"  # which counts them


def test_names_of_files_are_text(stranger: Stranger, tmp_path: Path) -> None:
    save_evil_model(tmp_path / "mine")
    content = write_zip(tmp_path / "mine", tmp_path / "mine.zip").read_bytes()
    for name, sent in {f"{EVIL}.zip": content, f"{EVIL} two.zip": b"PK", f"{EVIL}.txt": EVIL.encode() * 2}.items():
        answer = stranger.upload(name, sent)
        if answer.status_code != 200:
            continue
        for handler in stranger.handlers:
            kinds = stranger.types_of(handler)
            if "file" not in kinds:
                continue
            upload = file_data(answer.json()[0]) | {"orig_name": name}
            for value in (upload, [upload]):
                html = stranger.html_of(handler, stranger.ask(handler, stranger.untouched(handler, file=value)))
                assert not tags(html), (handler["api_name"], html)


def test_messages_of_errors_are_text(stranger: Stranger, session_hub: LoopbackHub) -> None:
    session_hub.add("evil/license", {"README.md": f"---\nlicense: '{EVIL}'\n---\n".encode(), "config.json": b"{}"})
    for name in ("check", "start", "start_1", "add_named"):
        handler = stranger.handler(name)
        for text in (EVIL, f"nobody/{EVIL}", "evil/license"):
            data = stranger.untouched(handler, dropdown=text, textbox=text, radio="hub")
            html = stranger.html_of(handler, stranger.ask(handler, data))
            assert not tags(html), (name, html)


@pytest.mark.parametrize("path", ["", "distill", "explore", "compare", "evaluate", "library"])
def test_an_address_is_text(stranger: Stranger, path: str) -> None:
    page = stranger.http.get(f"/{path}", params={"model": EVIL, "__theme": EVIL, "view": EVIL})
    assert page.status_code == 200 and EVIL not in page.text
    assert stranger.http.get(f"/{path}{EVIL}").text.count(EVIL) == 0


def test_the_csv_of_a_map_holds_no_formula(stranger: Stranger, model_id: str) -> None:
    handler = stranger.handler("show_selection")
    data = stranger.untouched(handler, dropdown=model_id)
    choosing = stranger.handler("selected_points")
    stranger.ask(choosing, stranger.untouched(choosing), {"points": list(range(len(WORDS)))})
    said = stranger.ask(handler, data)
    [file] = re.findall(r'"path": "([^"]+words\.csv)"', said)
    rows = list(csv.reader(io.StringIO(stranger.fetch(file).content.decode("utf-8-sig"), newline="")))
    words = [row[0] for row in rows[1:]]
    assert {word.strip("'\t\r ") for word in words} >= {"=1+1", "+1+1", "-1+1", "@SUM(A1)", "=1", "river"}
    assert not [word for word in words if word.lstrip().startswith(("=", "+", "-", "@"))]
    assert not [word for word in words if word.startswith(("\t", "\r"))]


def test_every_csv_goes_the_same_way() -> None:
    """`write_csv` neutralises; whoever writes one by other means would have to be attacked too."""
    writing = re.compile(r"csv\.(writer|DictWriter)|\.to_csv\(")
    sources = [*(ROOT / "m2v_core").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in sources if writing.search(path.read_text(encoding="utf-8"))}
    # At the command line the names are those that its own user typed; the app's leaderboard goes through `write_csv`.
    at_the_command_line = {"m2v_core/evaluation/report.py", "m2v_core/cli/evaluating.py"}
    # The app itself reads these rows again, so their texts must be unchanged.
    for_the_app = {"m2v_core/hub/dataset_rows.py"}
    assert found == {"m2v_core/exploration/tables.py"} | at_the_command_line | for_the_app
