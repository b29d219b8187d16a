"""A Space with a victim in it, and a stranger who speaks plain HTTP."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Any

import httpx
import numpy as np

from m2v_core.errors import Cancelled
from m2v_core.model import StaticModel
from m2v_core.storage.export import write_zip
from m2v_core.studio.jobs import JobSpec, JobStore
from m2v_core.studio.jobs.kinds import Kind, WorkOrder
from m2v_core.studio.jobs.text_store import TextStore
from m2v_core.studio.library import Library
from tests.static_models import static_model

# What nobody but the victim may read stands in names, titles, words and documents.
MARK = "zebrafinch"
OWNER_TOKEN = "hf_" + "OwnerOfTheSpace" * 3
SPACE = {
    "SPACE_ID": "someone/m2v-studio",
    "SYSTEM": "spaces",
    "HF_TOKEN": OWNER_TOKEN,
    "HF_HUB_OFFLINE": "0",
    # Whether it is set is the app's own business.
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "",
}


def _without_data(update: Any) -> Any:
    """An HTML component's update without the properties that the map's script reads as text, never as HTML."""
    if not isinstance(update, dict) or "props" not in update:
        return update
    props = {name: value for name, value in update["props"].items() if name not in ("found", "words", "topics")}
    return update | {"props": props}


def marked_model(**changes: Any) -> StaticModel:
    """A small model that says its mark."""
    return static_model(base_model_name=f"{MARK}/teacher", **changes)


def make_model(order: WorkOrder) -> Mapping[str, Any]:
    """In place of a distillation: a finished model at once; with words, none for as long as nobody cancels.

    It takes `n_bytes` of memory.
    """
    np.ones(order.parameters.get("n_bytes", 0), np.uint8)
    if order.texts.get("vocabulary") and order.cancel.wait(86_400):
        raise Cancelled
    model = marked_model()
    model.save_pretrained(order.staging)
    return {"dim": model.dim, "n_tokens": len(model.tokens), "n_bytes": model.n_bytes}


@dataclass
class Victim:
    """Somebody's jobs and models in a data folder.

    Attributes:
        home: The folder.
        key: What opens them.
        done: A finished distillation.
        running: Two that go on and on.
        waiting: One that waits for them.
        model: A model taken in from elsewhere.
    """

    home: Path
    key: str = field(default_factory=lambda: token_urlsafe(24))
    done: str = ""
    running: tuple[str, ...] = ()
    waiting: str = ""
    model: str = ""

    def move_in(self) -> None:
        """Make all of it, before any app runs there."""
        with self.jobs() as jobs:
            teacher = {"model_name": f"{MARK}/teacher"}
            self.done = jobs.submit(JobSpec("distill", teacher, title=f"m2v-{MARK}"), self.key)
            assert jobs.wait(self.done, self.key, 60).state == "done"
            Library(self.home / "models", jobs=jobs).add_from_job(self.done, self.key)
            endless = JobSpec("distill", teacher, {"vocabulary": [MARK]}, title=f"m2v-{MARK}")
            *running, self.waiting = (jobs.submit(endless, self.key) for _ in range(3))
            self.running = tuple(running)
            for job_id in self.running:
                while jobs.get(job_id, self.key).state == "queued":
                    time.sleep(0.05)
        folder = self.home / f"the {MARK} model"
        marked_model().save_pretrained(folder)
        self.model = self.library().add_from_zip(write_zip(folder, self.home / f"{MARK}.zip"), self.key).id
        self.texts().put([f"a {MARK} sings"], self.key)

    def jobs(self) -> JobStore:
        """The job store of the app, with work that needs no teacher."""
        kinds = {"distill": Kind("tests.attacks.space:make_model", None, frozenset({"vocabulary"}))}
        return JobStore(self.home / "jobs", max_running=2, max_per_owner=9, kinds=kinds)

    def library(self) -> Library:
        """The library of the app."""
        return Library(self.home / "models")

    def texts(self) -> TextStore:
        """The documents of the app."""
        return TextStore(self.home / "documents", 86_400)

    def move_out(self) -> None:
        """Stop what is going on, once the app has ended."""
        known = {self.done, self.waiting, *self.running}
        for folder in (self.home / "jobs").iterdir():
            # Strangers' jobs are in the queue, and would run as soon as those of the victim end.
            if re.fullmatch("[0-9a-f]{32}", folder.name) and folder.name not in known:
                shutil.rmtree(folder)
        with self.jobs() as jobs:
            for job_id in (self.waiting, *self.running):
                jobs.cancel(job_id, self.key)
            for job_id in self.running:
                jobs.wait(job_id, self.key, 30)


class Stranger:
    """Somebody who sends what no page would.

    Attributes:
        address: Of the app.
        key: Their own.
        session: As the app knows this browser tab.
        config: All that the app tells a browser of itself.
    """

    def __init__(self, address: str, key: str | None = None) -> None:
        self.address = address
        self.key = key or token_urlsafe(24)
        self.session = token_hex(8)
        self.http = httpx.Client(base_url=address, timeout=120)
        self.config: dict[str, Any] = self.http.get("/config").json()
        self._components = {component["id"]: component for component in self.config["components"]}

    @property
    def handlers(self) -> list[dict[str, Any]]:
        """Every handler of every page, public or private, as the app describes it."""
        return [handler for handler in self.config["dependencies"] if handler["backend_fn"]]

    def handler(self, name: str) -> dict[str, Any]:
        """The handler of that name."""
        [found] = [handler for handler in self.handlers if handler["api_name"] == name]
        return found

    def types_of(self, handler: Mapping[str, Any]) -> list[str]:
        """The kinds of the components that a handler reads."""
        return [self._components[number]["type"] for number in handler["inputs"]]

    def untouched(self, handler: Mapping[str, Any], **changes: Any) -> list[Any]:
        """What an untouched page sends to a handler, but for the components of the kinds in `changes`."""
        changes = {"browserstate": self.key, **changes}
        found = [self._components[number] for number in handler["inputs"]]
        return [changes.get(one["type"], one["props"].get("value")) for one in found]

    def html_of(self, handler: Mapping[str, Any], said: str) -> str:
        """What of an answer a browser takes for HTML."""
        kinds = [self._components[number]["type"] for number in handler["outputs"]]
        found = []
        for line in said.splitlines():
            output = json.loads(line).get("output") or {}
            found += [str(output.get("error") or "")]
            for kind, data in zip(kinds, output.get("data") or [], strict=False):
                if kind == "html":
                    found += [json.dumps(_without_data(data))]
        return "\n".join(found)

    def ask(self, handler: Mapping[str, Any], data: list[Any], event: Any = None) -> str:
        """All that the app answers when a handler is called with `data`."""
        body = {"data": data, "fn_index": handler["id"], "session_hash": self.session, "event_data": event}
        joined = self.http.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            return joined.text
        said = []
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line.removeprefix("data:"))
                said.append(json.dumps(message, ensure_ascii=False))
                if message["msg"] in ("process_completed", "unexpected_error", "close_stream"):
                    break
        return "\n".join(said)

    def call(self, name: str, *data: Any) -> str:
        """All that the app answers when a handler is called by its name."""
        return self.ask(self.handler(name), list(data))

    def fetch(self, path: str | Path) -> httpx.Response:
        """What the app serves of a file of the server."""
        return self.http.get(f"/gradio_api/file={path}")

    def upload(self, name: str, content: bytes) -> httpx.Response:
        """What the app answers to a file."""
        return self.http.post("/gradio_api/upload", files={"files": (name, content)})
