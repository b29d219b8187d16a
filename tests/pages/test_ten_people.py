"""Ten people use one app at once, two of them distil: each meets only what is theirs, and no error."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from m2v_core.exploration.neighbors import WordNeighbors
from m2v_core.model import StaticModel
from m2v_core.studio.library import Library
from tests.live_app import Server
from tests.static_models import DIM, LINES, static_model
from tests.teachers import corpus_sentences

N_PEOPLE = 10
N_DISTILLING = 2
LEAST_ROUNDS = 5
QUERIES = ("sea", "fox", "the quick river", "sentence")
FINISHED = ("done", "failed", "cancelled")


@dataclass
class Person:
    """One of the ten, with a model of their own.

    Attributes:
        client: Their session.
        owner: Their key.
        model: What they have, to judge the answers by.
        model_id: What the app calls it.
        job_id: The distillation they have started; empty for none.
        rounds: How often they have searched and encoded.
    """

    client: Client
    owner: str
    model: StaticModel
    model_id: str
    job_id: str = ""
    rounds: int = 0

    def ask(self, api_name: str, **arguments: Any) -> Any:
        return self.client.predict(owner=self.owner, api_name=api_name, **arguments)

    def work(self, is_over: Event) -> None:
        """Search and encode until the distillations are over, and judge every answer."""
        words = WordNeighbors(self.model)
        while self.rounds < LEAST_ROUNDS or not is_over.is_set():
            query = QUERIES[self.rounds % len(QUERIES)]
            found = self.ask("/similar_words", model_id=self.model_id, query=query, k=5)
            expected = words.search(query, 5)
            assert [word["word"] for word in found] == [word.text for word in expected]
            np.testing.assert_allclose(
                [word["similarity"] for word in found], [word.similarity for word in expected], atol=1e-6
            )
            embeddings = self.ask("/encode", model_id=self.model_id, texts=list(LINES))
            np.testing.assert_allclose(embeddings, self.model.encode(list(LINES)), atol=1e-6)
            own = {model["id"] for model in self.ask("/list_models")}
            assert self.model_id in own and own <= {self.model_id, self.job_id}
            self.rounds += 1


@pytest.fixture
def app(start_server: Callable[[Path], Server], tmp_path: Path) -> Server:
    return start_server(tmp_path / "studio")


@pytest.fixture
def people(app: Server, tmp_path: Path) -> list[Person]:
    library = Library(app.home / "models")
    made, alike = [], static_model()
    for number in range(N_PEOPLE):
        client = Client(app.address, verbose=False)
        owner = client.predict(api_name="/new_owner")
        rows = np.random.default_rng(number).standard_normal((len(alike.tokens), DIM), dtype=np.float32)
        model = StaticModel(rows, alike.tokenizer)
        model.save_pretrained(tmp_path / str(number))
        model = StaticModel.from_pretrained(str(tmp_path / str(number)))
        made.append(Person(client, owner, model, library.add_from_folder(tmp_path / str(number), owner).id))
    return made


def test_ten_people_at_once(app: Server, people: list[Person], build_teacher_once: Callable[[str], Path]) -> None:
    # As many words as keep a tiny teacher busy for some seconds.
    words = sorted({word for sentence in corpus_sentences(2_000) for word in sentence.split()})
    teacher = str(build_teacher_once("wordpiece"))
    distilling, is_over = people[:N_DISTILLING], Event()
    # A session of its own, as in a second tab: two threads of one client now and then cancel each other's requests.
    watching = Client(app.address, verbose=False)
    with ThreadPoolExecutor(N_PEOPLE) as pool:
        for person in distilling:
            settings = {"pca_dims": 16, "recipe": "fast"}
            person.job_id = person.ask("/distill", teacher=teacher, vocabulary=words, settings=settings)
        working = [pool.submit(person.work, is_over) for person in people]
        n_together = rounds_together = 0
        deadline = time.monotonic() + 300
        try:
            while True:
                before = sum(person.rounds for person in people)
                jobs = [
                    watching.predict(owner=person.owner, job_id=person.job_id, api_name="/job") for person in distilling
                ]
                if all(job["state"] in FINISHED for job in jobs) or time.monotonic() > deadline:
                    break
                time.sleep(0.2)
                if all(job["state"] == "running" for job in jobs):
                    n_together += 1
                    rounds_together += sum(person.rounds for person in people) - before
        finally:
            is_over.set()
        for worker in working:
            worker.result()

    assert n_together > 1 and rounds_together >= N_PEOPLE, "the distillations did not overlap with the searches"
    assert all(person.rounds >= LEAST_ROUNDS for person in people)
    assert [job["state"] for job in jobs] == ["done"] * N_DISTILLING, [job["message"] for job in jobs]
    for person in people:
        assert {model["id"] for model in person.ask("/list_models")} == {person.model_id, person.job_id} - {""}
        for other in people:
            if other is not person:
                with pytest.raises(AppError, match="Model not found"):
                    person.ask("/encode", model_id=other.model_id, texts=["the fox"])
            if other is not person and other.job_id:
                with pytest.raises(AppError, match="Job not found"):
                    person.ask("/job", job_id=other.job_id)
    assert distilling[0].ask("/encode", model_id=distilling[0].job_id, texts=["the fox"]) != [[0.0] * 16]
    assert "Traceback" not in (app.home / "server.log").read_text()
