"""Rule 7: whoever knows the id of a job or model, and not its owner's key, gets nothing by it and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.attacks.space import MARK, Stranger, Victim
from tests.live_app import Server

NAMES = {
    *("new_owner", "distill", "job", "cancel", "list_models", "encode", "download", "delete"),
    *("similar_words", "similar_documents", "similarity_shares"),
}


def payloads(stranger: Stranger, handler: Mapping[str, Any], key: str | None, id_: str) -> Iterator[list[Any]]:
    """Values for what a handler reads, with an id wherever one may stand."""
    plain = {
        "number": 5,
        "slider": 5,
        "checkbox": True,
        "file": None,
        "state": None,
        "timer": 1,
        "checkboxgroup": [id_],
    }
    kinds = stranger.types_of(handler)
    yield [key if kind == "browserstate" else plain.get(kind, id_) for kind in kinds]
    if handler["api_visibility"] == "public":  # which takes the key as any other value
        yield [key, *(plain.get(kind, id_) for kind in kinds[1:])]


def everything(stranger: Stranger, key: str | None, ids: Sequence[str], skip: Collection[str] = ()) -> dict[str, str]:
    """What each handler answers, asked about each id."""
    said: dict[str, list[str]] = {}
    for handler in stranger.handlers:
        if handler["api_name"] in skip:
            continue
        answers = said.setdefault(f"{handler['id']} {handler['api_name']}", [])
        event = {"points": [0, 1, 2]} if handler["collects_event_data"] else None
        for id_ in ids:
            answers += [stranger.ask(handler, data, event) for data in payloads(stranger, handler, key, id_)]
    return {name: "\n".join(answers) for name, answers in said.items()}


def standing(victim: Victim) -> dict[str, Any]:
    """All that is the victim's, as it stands."""
    with victim.jobs() as jobs:
        found = {job.id: job.state for job in jobs.list_jobs(victim.key)}
    library = victim.library()
    models = [library.get(model_id, victim.key) for model_id in (victim.done, victim.model)]
    return {
        "jobs": found,
        "models": models,
        "picked": library.picked(victim.key),
        "texts": victim.texts().get(victim.key),
    }


def test_every_handler_is_there_to_be_attacked(stranger: Stranger) -> None:
    names = {handler["api_name"] for handler in stranger.handlers}
    assert names >= NAMES
    assert sum(handler["api_visibility"] == "private" for handler in stranger.handlers) > 60


def test_no_handler_gives_away_or_changes_what_is_another_s(stranger: Stranger, victim: Victim) -> None:
    before = standing(victim)
    ids = (victim.done, victim.running[0], victim.waiting, victim.model)
    for key in (stranger.key, None, victim.done):
        said = everything(stranger, key, ids)
        assert {name for name, answer in said.items() if MARK in answer} == set()
        assert standing(victim) == before


def test_the_same_requests_with_the_key_are_answered(space: Server, victim: Victim) -> None:
    """The control of the test above: had anything been given away, it would have been seen."""
    known = Stranger(space.address, victim.key)
    changing = {"start", "delete", "delete_1", "rename", "rename_1", "cancel", "load_source", "delete_documents"}
    said = everything(known, victim.key, [victim.done, victim.model], changing)
    seen = {name.partition(" ")[2] for name, answer in said.items() if MARK in answer}
    assert seen >= {"list_models", "job", "restore", "attach", "find_documents", "offer", "ask"}
    assert seen >= {"download", "make_zip"}
    assert any(name.startswith("pick") for name in seen)  # Gradio numbers handlers of one name, page after page


def test_the_teacher_of_another_s_model_is_not_proposed(space: Server, stranger: Stranger, victim: Victim) -> None:
    for visitor, is_said in ((stranger, False), (Stranger(space.address, victim.key), True)):
        visitor.ask(visitor.handler("offer"), [visitor.key])  # as the page does when it opens
        handler = visitor.handler("propose_teacher")
        data = visitor.untouched(handler, checkboxgroup=[victim.done, victim.model], dropdown="")
        said = visitor.ask(handler, data)
        assert (MARK in said) == is_said, said


@pytest.mark.parametrize(
    "name", ["encode", "download", "delete", "similar_words", "similar_documents", "similarity_shares"]
)
def test_another_s_model_is_none_to_programs(stranger: Stranger, victim: Victim, name: str) -> None:
    rest = {
        "encode": [["x"]],
        "similar_words": ["x", 3],
        "similar_documents": [["x"], "x", 3],
        "similarity_shares": ["x", "y"],
    }
    for model_id in (victim.done, victim.model):
        assert "Model not found" in stranger.call(name, stranger.key, model_id, *rest.get(name, []))


def test_another_s_job_is_none_to_programs(stranger: Stranger, victim: Victim) -> None:
    for job_id in (victim.done, victim.waiting, *victim.running):
        for name in ("job", "cancel"):
            assert "Job not found" in stranger.call(name, stranger.key, job_id)
