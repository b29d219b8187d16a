from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from m2v_core.errors import InputError, LimitError, M2VError, NotFoundError
from m2v_core.evaluation.encoders import EncoderFacts
from m2v_core.evaluation.speed import EncoderSpeed, Machine, SpeedComparison
from m2v_core.progress import Progress
from m2v_core.studio.jobs import Job, Stage
from m2v_core.studio.library import Contents, ModelRecord
from m2v_core.studio.space.settings import current_limits
from pages import compare
from pages.compare import load_texts, offer, propose_teacher, refresh, show, submit, unique_names
from pages.components import BUNDLED_TEACHER, model_picker
from pages.components.job_panel import newest_job, panel_values
from pages.components.job_view import job_html
from pages.components.measurements import conditions_html, numbers_html
from pages.components.own_texts import check_file
from pages.components.result_card import result_html
from pages.figures import speed_bars, speed_bubbles
from pages.figures.style import fidelity_axis
from tests.pages.conftest import JOB_ID, FakeStore, done_job, make_job
from tests.pages.test_job_panel import text_of

OWNER = "owner-owner-owner-owner-1"
EVIL = "<img src=x onerror=alert(1)>"
TEACHER = "some/teacher"


def measured(*, with_teacher: bool = True, name: str = "my model") -> SpeedComparison:
    fidelity = 0.8 if with_teacher else None
    static = EncoderSpeed(
        EncoderFacts(name, "static", 256, "cpu", 2, 15_700_000), 300, (0.02, 0.03, 0.06), False, fidelity
    )
    teacher = EncoderSpeed(EncoderFacts(TEACHER, "teacher", 384, "cpu", 2, 91_600_000), 200, (20.0, 25.0, 40.0), True)
    encoders = (static, teacher) if with_teacher else (static,)
    machine = Machine("Some CPU", 2, "Linux x86_64", "3.11.7")
    return SpeedComparison(encoders, 300, 3, 15.0, 101.0, "own texts", 512 if with_teacher else 0, machine)


def model_job(**changes: Any) -> Job:
    return done_job(**({"parameters": {"model_name": TEACHER, "quantize_to": "int8"}} | changes))


def speed_job(**changes: Any) -> Job:
    outcome = json.loads(json.dumps(measured().to_json()))
    fields = {"kind": "speed", "title": "speed of my model", "outcome": outcome, "elapsed_seconds": 20.0}
    return make_job("done", **(fields | changes))


class Shelf:
    """A library of the models that the store's jobs made."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.picked_id = ""

    def list_models(self, owner: str) -> list[ModelRecord]:
        return [
            ModelRecord(
                id=job.id,
                name=job.title,
                teacher=job.parameters["model_name"],
                dim=job.outcome["dim"],
                n_tokens=job.outcome["n_tokens"],
                dtype=job.parameters.get("quantize_to", "float16"),
            )
            for job in self.store.list_jobs(owner)
            if job.kind == "distill" and job.state == "done"
        ]

    def folder(self, model_id: str, owner: str) -> Path:
        return self.store.result_folder(model_id, owner)

    def pick(self, model_id: str, owner: str) -> None:
        if model_id not in {record.id for record in self.list_models(owner)}:
            raise NotFoundError("Model not found.")
        self.picked_id = model_id

    def contents(self, owner: str) -> Contents:
        return Contents(self.list_models(owner), self.picked(owner), [])

    def picked(self, owner: str) -> ModelRecord | None:
        records = self.list_models(owner)
        return next((record for record in records if record.id == self.picked_id), records[0] if records else None)


@pytest.fixture
def jobs(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    monkeypatch.setattr(compare, "job_store", lambda: store)
    shelf = Shelf(store)
    for module in (compare, model_picker):
        monkeypatch.setattr(module, "model_library", lambda: shelf)
    return store


def start(**changes: Any) -> str:
    values: dict[str, Any] = {
        "chosen": [JOB_ID],
        "with_teacher": True,
        "teacher": TEACHER,
        "source": "sample",
        "own_texts": "",
        "upload": None,
        "column": None,
        "rounds": 5,
        "seconds": 15,
        "with_peer": False,
    }
    return submit(OWNER, **(values | changes))


def request(**query: str) -> Any:
    return SimpleNamespace(query_params=query)


def test_without_a_model_the_page_says_what_to_do_first(jobs: FakeStore) -> None:
    shown = offer(OWNER, request())
    boxes, empty = shown["models"], shown["empty"]
    assert (
        not boxes.visible and "Distill your first model" in empty and '<a href="library">open an existing one' in empty
    )
    with pytest.raises(InputError, match="distill one first"):
        start()


def test_the_newest_model_is_chosen_with_its_teacher(jobs: FakeStore) -> None:
    jobs.add(OWNER, model_job(id="a" * 32, created_at=1.0))
    jobs.add(OWNER, model_job(id="b" * 32, created_at=2.0, parameters={"model_name": "other/teacher"}))
    jobs.add(OWNER, speed_job(id="c" * 32, created_at=3.0))
    shown = offer(OWNER, request())
    owner, boxes, empty = (shown[name] for name in ("owner", "models", "empty"))
    listed, teacher, proposed = (shown[name] for name in ("listed", "teacher", "proposed"))
    assert (owner, boxes.value, empty, teacher) == (OWNER, ["b" * 32], "", "other/teacher")
    assert [value for _, value in boxes.choices] == ["b" * 32, "a" * 32]
    assert listed == boxes.choices
    assert proposed == teacher
    assert propose_teacher(OWNER, ["a" * 32], teacher, proposed) == {"teacher": TEACHER, "proposed": TEACHER}


@pytest.mark.parametrize("typed", ["typed/teacher", BUNDLED_TEACHER])
def test_a_teacher_that_one_has_typed_stays(jobs: FakeStore, typed: str) -> None:
    jobs.add(OWNER, model_job(id="a" * 32, created_at=1.0))
    jobs.add(OWNER, model_job(id="b" * 32, created_at=2.0, parameters={"model_name": "other/teacher"}))
    listed, teacher, proposed = (offer(OWNER, request())[name] for name in ("listed", "teacher", "proposed"))
    assert (teacher, proposed) == ("other/teacher", "other/teacher")
    assert propose_teacher(OWNER, ["a" * 32], typed, proposed) == {}
    del jobs.jobs["b" * 32]
    assert not refresh(OWNER, ["b" * 32], listed, typed, proposed).keys() & {"teacher", "proposed"}
    for empty in ("", " ", None):
        assert propose_teacher(OWNER, ["a" * 32], empty, proposed) == {"teacher": TEACHER, "proposed": TEACHER}
    assert propose_teacher(OWNER, [], proposed, proposed) == {}


def test_the_address_and_other_pages_say_which_model_is_ticked(jobs: FakeStore) -> None:
    jobs.add(OWNER, model_job(id="a" * 32, created_at=1.0))
    jobs.add(OWNER, model_job(id="b" * 32, created_at=2.0, parameters={"model_name": "other/teacher"}))
    shown = offer(OWNER, request(model="a" * 32))
    assert (shown["models"].value, shown["empty"], shown["teacher"]) == (["a" * 32], "", TEACHER)
    assert offer(OWNER, request())["models"].value == ["a" * 32]  # picked once, picked everywhere
    shown = offer(OWNER, request(model="c" * 32))
    assert shown["models"].value == ["a" * 32] and "Model not found" in shown["empty"]


def test_models_come_and_go_while_the_page_is_open(jobs: FakeStore) -> None:
    listed = offer(OWNER, request())["listed"]
    assert refresh(OWNER, [], listed, BUNDLED_TEACHER, BUNDLED_TEACHER) == {}

    jobs.add(OWNER, model_job(id="a" * 32, created_at=1.0))
    shown = refresh(OWNER, [], listed, BUNDLED_TEACHER, BUNDLED_TEACHER)
    boxes, empty, listed, teacher = (shown[name] for name in ("models", "empty", "listed", "teacher"))
    assert (boxes.value, boxes.visible, empty, teacher) == (["a" * 32], True, "", TEACHER)

    # What is ticked, or unticked, is left to the browser, where another tick may just be made.
    jobs.add(OWNER, model_job(id="b" * 32, created_at=2.0))
    for chosen in (["a" * 32], []):
        shown = refresh(OWNER, chosen, listed, TEACHER, TEACHER)
        now_listed = shown["listed"]
        assert "value" not in shown["models"]._constructor_args[0] and "teacher" not in shown
        assert [model_id for _, model_id in now_listed] == ["b" * 32, "a" * 32]

    del jobs.jobs["a" * 32]
    assert refresh(OWNER, ["a" * 32], now_listed, TEACHER, TEACHER)["models"].value == ["b" * 32]
    jobs.jobs.clear()
    shown = refresh(OWNER, ["b" * 32], now_listed, TEACHER, TEACHER)
    assert not shown["models"].visible and "Distill your first model" in shown["empty"]


def test_a_model_that_is_deleted_just_then_is_left_out(jobs: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.add(OWNER, model_job(id="a" * 32))
    jobs.add(OWNER, model_job(id="b" * 32))
    shelf = compare.model_library()
    folder = shelf.folder

    def gone(model_id: str, owner: str) -> Path:
        if model_id == "b" * 32:
            raise NotFoundError("gone")
        return folder(model_id, owner)

    monkeypatch.setattr(shelf, "folder", gone)
    start(chosen=["a" * 32, "b" * 32])
    assert [model["name"] for model in jobs.submitted[0][0].parameters["models"]] == ["m2v-teacher"]


def test_a_list_that_fails_unforeseen_names_its_incident(jobs: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(owner: str) -> list[ModelRecord]:
        raise KeyError("secret")

    monkeypatch.setattr(compare.model_library(), "list_models", fail)
    for said in (offer(OWNER, request())["empty"], refresh(OWNER, [], [], "", "")["empty"]):
        assert "Incident" in said and "secret" not in said


def test_own_texts_come_from_a_file_too(jobs: FakeStore, vocabulary_file: Callable[[str, str], str]) -> None:
    jobs.add(OWNER, model_job())
    lines = [f"a text of number {number}" for number in range(12)]
    path = vocabulary_file("texts.txt", "\n".join([*lines, "", lines[0]]))
    assert "12 distinct texts ready" in check_file(load_texts, path)
    start(source="upload", upload=path)
    assert jobs.submitted[0][0].texts == {"texts": lines}
    table = vocabulary_file("texts.csv", "id,text\n" + "\n".join(f"{n},{line}" for n, line in enumerate(lines)))
    jobs.add(OWNER, model_job())  # the job just made has its id
    start(source="upload", upload=table)
    assert jobs.submitted[1][0].texts == {"texts": lines}

    jobs.add(OWNER, model_job())
    assert check_file(load_texts, None) == ""
    two = vocabulary_file("two.csv", "question,answer\n" + "".join(f"q{n},a{n}\n" for n in range(9)))
    assert "Choose the column with the texts" in check_file(load_texts, two)
    assert "9 distinct texts ready" in check_file(load_texts, two, "answer")
    start(source="upload", upload=two, column="answer")
    assert jobs.submitted[-1][0].texts == {"texts": [f"a{n}" for n in range(9)]}
    jobs.add(OWNER, model_job())
    with pytest.raises(M2VError, match="several columns: 'question', 'answer'. Choose the one to read"):
        start(source="upload", upload=two)
    assert "m2v-error" in check_file(load_texts, vocabulary_file("empty.txt", ""))
    for changes in ({"upload": None}, {"upload": vocabulary_file("few.txt", "one\ntwo")}):
        with pytest.raises(M2VError, match=r"No file was uploaded|2 distinct texts are too few"):
            start(source="upload", **changes)


def test_what_is_submitted(jobs: FakeStore) -> None:
    jobs.add(OWNER, model_job())
    start(with_teacher=False, source="own", own_texts="\n".join(f"text {i}" for i in range(9)), with_peer=True)
    spec, owner = jobs.submitted[0]
    assert (spec.kind, owner, spec.title) == ("speed", OWNER, "speed of m2v-teacher")
    assert spec.parameters == {
        "models": [{"name": "m2v-teacher", "path": str(jobs.result)}],
        "teacher": None,
        "with_peer": True,
        "rounds": 5,
        "seconds": 15.0,
    }
    assert len(spec.texts["texts"]) == 9


def test_anothers_model_is_none(jobs: FakeStore) -> None:
    jobs.add("another-another-another-1", model_job())
    with pytest.raises(InputError, match="No model is selected"):
        start()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": " "}, "No teacher"),
        ({"source": "own", "own_texts": "one\none\ntwo"}, "2 distinct texts are too few for 5 rounds"),
    ],
)
def test_what_is_refused(jobs: FakeStore, changes: dict[str, Any], message: str) -> None:
    jobs.add(OWNER, model_job())
    with pytest.raises(InputError, match=message):
        start(**changes)
    assert not jobs.submitted


def test_no_paths_on_a_space(jobs: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.add(OWNER, model_job())
    monkeypatch.setenv("SPACE_ID", "some/space")
    with pytest.raises(InputError, match="not a Hub id"):
        start(teacher="/etc")


def test_too_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(current_limits(), speed_texts=10)
    monkeypatch.setattr(compare, "current_limits", lambda: limits)
    with pytest.raises(LimitError, match="11 texts; the limit here is 10"):
        load_texts("own", "\n".join(map(str, range(11))), None, None, 5)


def test_names_are_told_apart(jobs: FakeStore) -> None:
    outcome = {"dim": 64, "n_tokens": 10, "n_bytes": 640}
    jobs.add(OWNER, model_job(id="a" * 32, title="other"))
    for letter, changes in (("b", {}), ("c", {}), ("d", {"outcome": outcome})):
        jobs.add(OWNER, model_job(id=letter * 32, **changes))
    assert unique_names(compare.model_library().list_models(OWNER)) == [
        "other",
        "m2v-teacher · 256 dim int8 (1)",
        "m2v-teacher · 256 dim int8 (2)",
        "m2v-teacher · 64 dim int8",
    ]


def test_a_measurement_is_shown(jobs: FakeStore) -> None:
    jobs.add(OWNER, speed_job())
    shown = show(OWNER, JOB_ID)
    measured_box, numbers, charts = (shown[name] for name in ("measured", "numbers", "charts"))
    bars, conditions, bubbles = (shown[name] for name in ("bars", "conditions", "bubbles"))
    assert measured_box.visible and charts.visible and len(bars.data) == 1 and len(bubbles.data) == 2
    for text in (
        "my model is 1,250 times as fast as teacher, whose speed is extrapolated",
        "10,000",
        "5,000 to 15,000",
        "15.7 MB",
        "0.800",
    ):
        assert text in numbers
    for text in (
        "Median of 3 rounds",
        "the same 300 texts",
        "Some CPU, 2 CPUs",
        "some/teacher encoded 200 of the 300 texts",
        "512 texts, each paired with",
    ):
        assert text in conditions
    assert not show("another-another-another-1", JOB_ID)["measured"].visible
    assert not show(OWNER, "")["measured"].visible


def test_a_damaged_measurement_says_so(jobs: FakeStore) -> None:
    jobs.add(OWNER, speed_job(outcome={"encoders": 3}))
    shown = show(OWNER, JOB_ID)
    assert shown["measured"].visible and not shown["charts"].visible and "Incident" in shown["numbers"]


def test_bars_have_units_spread_and_marks() -> None:
    figure = speed_bars(measured())
    (bars,) = figure.data
    assert list(bars.x) == pytest.approx([8, 10_000])
    assert list(bars.error_x.array) == pytest.approx([2, 5_000])
    assert list(bars.error_x.arrayminus) == pytest.approx([3, 5_000])
    assert list(bars.marker.pattern.shape) == ["/", ""]
    assert [label.text for label in figure.layout.annotations] == [
        "teacher",
        "<b>8.0</b>",
        "extrapolated",
        "my model",
        "<b>10,000</b>",
    ]
    assert figure.layout.xaxis.type == "log" and "sentences/s" in figure.layout.xaxis.title.text
    assert figure.layout.xaxis.range == (0, 5)
    assert "rounds: 5,000 to 15,000" in bars.customdata[1]


def test_bubbles_show_fidelity_or_size() -> None:
    with_fidelity = speed_bubbles(measured())
    assert [trace.x[0] for trace in with_fidelity.data] == [0.8, 1.0]
    assert [trace.name for trace in with_fidelity.data] == ["my model", "teacher, extrapolated"]
    assert "fidelity" in with_fidelity.layout.xaxis.title.text
    with_size = speed_bubbles(measured(with_teacher=False))
    assert with_size.data[0].x[0] == pytest.approx(15.7)
    assert "MB" in with_size.layout.xaxis.title.text and with_size.layout.xaxis.type == "log"


def test_no_axis_goes_beyond_what_can_be() -> None:
    assert speed_bubbles(measured()).layout.xaxis.range[1] == 1.0
    assert fidelity_axis([-0.98, 1.0])["range"] == [-1.0, 1.0]


def test_the_chart_says_what_the_size_of_a_bubble_means() -> None:
    assert "size on disk" in speed_bubbles(measured()).layout.title.subtitle.text


def test_the_card_has_the_verdict() -> None:
    said = text_of(result_html(speed_job()))
    assert said == (
        "Sentences/s 10,000 Times as fast as the teacher, extrapolated 1,250 Fidelity 0.800 Measured in 20 s"
    )
    alone = json.loads(json.dumps(measured(with_teacher=False).to_json()))
    assert text_of(result_html(speed_job(outcome=alone))) == "Sentences/s 10,000 Measured in 20 s"
    assert "my model encodes 10,000 sentences per second" in numbers_html(measured(with_teacher=False))


def test_what_rests_on_too_little_is_not_shown() -> None:
    static, teacher = measured().encoders
    short = EncoderSpeed(teacher.facts, 3, teacher.round_seconds, True)
    comparison = replace(measured(), encoders=(replace(static, fidelity=None), short), judged_texts=0)
    numbers, conditions = numbers_html(comparison), text_of(conditions_html(comparison))
    assert "my model encodes 10,000 sentences per second" in numbers and "times" not in numbers
    assert "encoded 9 texts, fewer than 3 batches of 32" in conditions
    assert "Fidelity was not measured: it requires 512 texts" in conditions
    job = speed_job(outcome=json.loads(json.dumps(comparison.to_json())))
    assert text_of(result_html(job)) == (
        "Sentences/s 10,000 Times as fast as the teacher, extrapolated Not enough data to tell "
        "Fidelity Not measured Measured in 20 s"
    )


def test_tables_and_charts_call_a_teacher_the_same() -> None:
    assert '<th scope="row">teacher</th>' in numbers_html(measured())
    assert "teacher" in [label.text for label in speed_bars(measured()).layout.annotations]


def test_names_are_text_and_never_markup() -> None:
    comparison = measured(name=EVIL)
    assert "<img" not in numbers_html(comparison)
    assert "<img" not in speed_bars(comparison).to_json() + speed_bubbles(comparison).to_json()


@pytest.mark.parametrize("with_teacher", [True, False])
def test_a_busy_machine_is_reported(with_teacher: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = replace(measured(with_teacher=with_teacher), other_load=0.62)
    said = text_of(numbers_html(comparison))
    assert "This machine was busy during the measurement, so the rates are too low" in said
    assert ("the ratio is less affected" in said) is with_teacher
    assert "Other programs used 62% of the processors. Close other programs and measure again." in said
    monkeypatch.setenv("SPACE_ID", "some/space")
    assert "Close" not in numbers_html(comparison) and "Measure again later." in numbers_html(comparison)
    for idle in (0.1, None):
        assert "busy" not in numbers_html(replace(comparison, other_load=idle))


def racing_job(**changes: Any) -> Job:
    parameters = {"models": [{"name": EVIL, "path": "p"}], "teacher": TEACHER, "with_peer": True}
    counters = {EVIL: (654, 0.01), f"{EVIL} (model2vec)": (327, 0.02), TEACHER: (96, 1.0)}
    return make_job(
        **{
            "kind": "speed",
            "parameters": parameters,
            "stages": (Stage("measure", 4, 15, 3.0, False),),
            "progress": Progress("measure", 4, 15, 1.3, 8.0, counters=counters),
            "elapsed_seconds": 4.0,
            **changes,
        }
    )


def test_each_encoder_has_a_counter_while_it_is_measured() -> None:
    html = job_html(racing_job(), "speed")
    assert "<img" not in html
    evil = EVIL.replace("<", "&lt;").replace(">", "&gt;")
    for words in (
        f"{evil} 654 sentences, 65,400 sentences/s",
        f"{evil} (model2vec) 327 sentences, 16,350 sentences/s",
        "teacher 96 sentences, 96 sentences/s",
    ):
        assert words in text_of(html)
    assert re.findall(r"translateX\((\S+)%\)", html)[1:] == ["0.00", "-75.00", "-99.40"]
    race = html[html.index('<ul class="m2v-race"') : html.index("</ul>")]
    assert "aria-live" not in race and "role=" not in race


@pytest.mark.parametrize("state", ["queued", "running", "cancelling", "cancelled", "failed", "done"])
def test_the_counters_take_the_same_space_in_every_state(state: Any) -> None:
    parameters = {"models": [{"name": "a", "path": "p"}], "teacher": TEACHER}
    job = racing_job(state=state, parameters=parameters, queue_position=1)
    idle = job_html(None, "speed")
    assert job_html(job, "speed").count("<li") == idle.count("<li")
    assert job_html(replace(job, parameters=parameters | {"teacher": None}), "speed").count("<li") < idle.count("<li")
    old = replace(job, progress=Progress("measure", 4, 15, 1.3, 8.0))
    assert ("m2v-race" in job_html(old, "speed")) is (state != "done")  # of an earlier version


def test_the_panel_follows_its_own_kind(jobs: FakeStore) -> None:
    jobs.add(OWNER, model_job(id="a" * 32, created_at=1.0))
    job = jobs.add(OWNER, speed_job(created_at=2.0))
    assert newest_job(OWNER).id == "a" * 32  # type: ignore[union-attr]
    assert newest_job(OWNER, "speed") == job
    (jobs.result / "config.json").rename(jobs.result / "speed.json")
    values = panel_values(OWNER, job, "speed")
    assert values["done_id"] == JOB_ID and "JSON" in values["download"].label and "Sentences/s" in values["facts"]
    running = make_job(kind="speed", stages=(Stage("measure", 2, 10, 3.0, False),), elapsed_seconds=4.0)
    assert "2 of 10 measurements" in job_html(running) and "Measure the speed" in job_html(running)
    assert "Warm up" in job_html(None, "speed")
