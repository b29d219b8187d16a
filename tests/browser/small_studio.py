"""An app with small limits, and a Hub with a repository for every way in which a teacher can be unfit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from m2v_core.storage.export import write_zip
from tests.live_app import Server
from tests.static_models import static_model

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

BUNDLED = "sentence-transformers/all-MiniLM-L6-v2"
LIMITS = {
    "vocabulary_words": 20,
    "teacher_parameters": 30_000_000,
    "upload_bytes": 200_000,
    "documents": 5,
    "speed_models": 1,
}
WRITER, READER, UNKNOWN = ("hf_" + letter * 34 for letter in "WRU")  # tokens; the last one is nobody's


def unfit_teachers() -> dict[str, dict[str, bytes]]:
    """Repositories by name, none of which can be distilled here."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [50_000_000], "data_offsets": [0, 200_000_000]}}).encode()
    fit = {
        "config.json": b'{"model_type": "bert", "hidden_size": 48}',
        "modules.json": b"[]",
        "tokenizer.json": static_model().tokenizer.to_str().encode(),
        "model.safetensors": b"\2\0\0\0\0\0\0\0{}",
    }
    unsafe = {name: content for name, content in fit.items() if name != "model.safetensors"}
    return {
        "lab/gated": fit,
        "lab/silent": fit,
        "lab/pickle": {**unsafe, "pytorch_model.bin": b"\x80\x02"},
        "lab/slow": {**fit, "tokenizer.json": b""},
        "lab/huge": {**fit, "model.safetensors": len(header).to_bytes(8, "little") + header},
        "lab/static": {**fit, "config.json": b'{"model_type": "model2vec"}'},
    }


def type_teacher(page: sync_api.Page, name: str) -> sync_api.Locator:
    """The box with this name in it; no key is pressed in it, for each would let it search the Hub and open its list."""
    box = page.get_by_role("combobox", name="Teacher")
    box.fill(name)
    box.blur()
    return box


def problem(page: sync_api.Page) -> sync_api.Locator:
    return page.locator(".m2v-error:visible")


def says(where: sync_api.Locator, *words: str) -> None:
    for word in words:
        expect(where).to_contain_text(re.compile(word))


def add_model(page: sync_api.Page, studio: Server, folder: Path, name: str, teacher: str | None = None) -> None:
    static_model(base_model_name=teacher).save_pretrained(folder / name)
    open_library(page, studio)
    page.locator("input[type=file]").set_input_files(write_zip(folder / name, folder / f"{name}.zip"))
    expect(page.locator(".m2v-good")).to_contain_text(f"{name} is in your library")


def open_library(page: sync_api.Page, studio: Server, query: str = "") -> None:
    """The page of models, once it shows what there is: its first answer would undo what is done before."""
    page.goto(f"{studio.address}/library{query}")
    page.wait_for_function("localStorage.getItem('m2v-studio-owner') !== null")
    expect(page.locator(".m2v-empty, .m2v-model-table tbody").first).to_be_visible()
