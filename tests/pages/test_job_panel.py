from __future__ import annotations

import os
import re
import time
import zipfile
from dataclasses import replace
from html import unescape
from pathlib import Path

import gradio as gr
import pytest

from m2v_core.errors import NotFoundError, SaveError
from m2v_core.progress import Progress
from m2v_core.storage import export
from m2v_core.studio.jobs import Stage
from pages.components.job_panel import (
    attach,
    build_job_panel,
    cancel,
    find_job,
    finished_model,
    follow,
    newest_job,
    panel_values,
)
from pages.components.job_view import ONE_CLICK, job_html, seconds_left
from pages.components.result_card import comparisons, result_html
from pages.components.served_files import model_zip, remove_old_files
from tests.pages.conftest import JOB_ID, FakeStore, done_job, encoding_job, make_job

EVIL = "<img src=x onerror=alert(1)>"
OWNER = "owner-owner-owner-owner-1"
ID, VIEW, START, CANCEL, MESSAGE, RESULT, FACTS, DOWNLOAD, TIMER = [
    "job_id",
    "view",
    "start",
    "cancel",
    "message",
    "result",
    "facts",
    "download",
    "timer",
]
JOBS = {
    "none": None,
    "queued": make_job("queued", queue_position=3),
    "starting": make_job(elapsed_seconds=2.0),
    "running": encoding_job(250),
    "cancelling": encoding_job(250, state="cancelling"),
    "cancelled": encoding_job(250, state="cancelled"),
    "failed": encoding_job(250, state="failed", message="The teacher returned NaN. Try float32."),
    "done": done_job(),
}


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def test_dimensions_that_are_not_those_asked_for_are_explained() -> None:
    outcome = done_job().outcome | {"dim": 768, "n_tokens": 127}
    said = text_of(result_html(done_job(outcome=outcome, parameters={"pca_dims": 256})))
    assert "Dimensions 768" in said and "768 dimensions instead of 256: PCA requires more rows" in said
    for parameters in ({"pca_dims": 768}, {"pca_dims": 0.9}, {"pca_dims": None}, {}):
        assert ", not " not in result_html(done_job(outcome=outcome, parameters=parameters))


def test_quality_and_ratio_rest_on_enough_data_or_are_not_shown() -> None:
    measured = {
        "fidelity": 0.571,
        "fidelity_interval": [0.54, 0.6],
        "fidelity_on": "10,000 pairs of 512 English sentences",
        "n_fidelity_texts": 512,
        "sentences_per_second": 51234.0,
        "times_the_teacher": [862.0, 862.0],
        "is_teacher_extrapolated": False,
        "hardware": "2 cores",
    }
    outcome = done_job().outcome
    said = unescape(text_of(result_html(done_job(outcome=outcome | {"measured": measured}))))
    assert "Matches the teacher's similarity ranking: 0.57 (95% interval 0.54 to 0.60), 10,000 pairs of 512" in said
    assert "862 times as fast as the teacher; 2 cores" in said
    few = {"fidelity": None, "fidelity_interval": None, "n_fidelity_texts": 0, "times_the_teacher": None}
    html = result_html(done_job(outcome=outcome | {"measured": measured | few}))
    assert "Quality Not measured" in text_of(html) and f'href="evaluate?model={JOB_ID}"' in html
    assert "51,234 sentences/s 2 cores" in text_of(html)
    del measured["n_fidelity_texts"]  # as an earlier version measured it, on 9 texts
    said = text_of(result_html(done_job(outcome=outcome | {"measured": measured})))
    assert "Quality Not measured" in said and "0.57" not in said and "862" not in said


def test_the_result_compares_the_model_with_its_teacher() -> None:
    outcome = done_job().outcome | {"n_bytes": 16_000_000}
    measured = {
        "fidelity": None,
        "fidelity_interval": None,
        "n_fidelity_texts": 0,
        "sentences_per_second": 51234.0,
        "times_the_teacher": [100.0, 110.0],
        "teacher_sentences_per_second": 487.0,
        "teacher_bytes": 88_000_000,
        "is_teacher_extrapolated": False,
        "hardware": "2 cores",
    }
    job = done_job(outcome=outcome | {"measured": measured})
    said = text_of(result_html(job))
    assert "88.0 MB for the teacher, → 16.0 MB 5.5 times smaller than the teacher" in said
    assert "487 for the teacher, → 51,234 sentences/s 100 to 110 times as fast as the teacher; 2 cores" in said
    claims = [(row.model, row.summary) for row in comparisons(job.outcome, job.id)]
    assert claims[:2] == [
        ("16.0 MB", "5.5 times smaller than the teacher"),
        ("51,234 sentences/s", "100 to 110 times as fast as the teacher"),
    ]
    assert claims[2] == ("Not measured", "")  # so it is not on the share card


@pytest.mark.parametrize("name", JOBS)
def test_every_state_has_the_same_parts_so_that_nothing_jumps(name: str) -> None:
    for kind, parameters in (
        ("distill", {"recipe": "calibrated"}),
        (ONE_CLICK, {"recipe": "calibrated", "measure": True}),
    ):
        job = JOBS[name]
        section = job_html(job and replace(job, parameters=parameters), kind).partition("</section>")[0]
        idle = job_html(None, kind).partition("</section>")[0]
        assert re.findall(r"<(\w+)", section) == re.findall(r"<(\w+)", idle)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", ["Ready", "No run yet"]),
        ("queued", ["Number 3 in the queue", "m2v-teacher"]),
        ("starting", ["Start up", "2.0 s elapsed", "0%"]),
        (
            "running",
            ["Embed the vocabulary", "250 of 1,000 tokens", "62/s", "7.0 s elapsed", "about 16 s left"],
        ),
        ("cancelling", ["Cancelling"]),
        ("cancelled", ["Cancelled", "7.0 s in total"]),
        (
            "failed",
            ["Failed", "The run stopped at “Embed the vocabulary”", "Try float32.", "Nothing was saved", JOB_ID],
        ),
        ("done", ["Done", "100%", "9.4 s in total"]),
    ],
)
def test_what_each_state_says(name: str, says: list[str]) -> None:
    shown = text_of(job_html(JOBS[name]))
    for text in says:
        assert text in shown


def test_next_in_the_queue_and_minutes_left() -> None:
    assert "Next in the queue" in job_html(make_job("queued", queue_position=1))
    assert "about 3 min 20 s left" in job_html(encoding_job(20, total=1000))
    assert "about 7 min left" in job_html(encoding_job(10, total=1000))
    assert "about 1 min left" in job_html(encoding_job(20, total=300))


def test_the_time_left_is_that_of_the_whole_run() -> None:
    stages = (Stage("load", 0, 0, 4.0, True), Stage("encode", 750, 1000, 6.0, False))
    progress = Progress("encode", 750, 1000, 125.0, 2.0, 70.0, 0.125)
    encoding = make_job(stages=stages, progress=progress)
    assert seconds_left(encoding) == 70.0
    assert "about 1 min 10 s left" in text_of(job_html(encoding)) and "12%" in text_of(job_html(encoding))
    # Where nothing is known of the teacher, there is no guess.
    assert seconds_left(make_job(stages=stages, progress=Progress("encode", 750, 1000, 125.0, 2.0))) is None
    # Other kinds of work take their usual shares.
    measuring = make_job(
        kind="speed",
        stages=(Stage("load", 0, 0, 4.0, True), Stage("measure", 1, 2, 6.0, False)),
        progress=Progress("measure", 1, 2, 0.2, 6.0),
    )
    assert seconds_left(measuring) == 6.0
    fetching = make_job(
        stages=(Stage("download", 10**6, 10**7, 3.0, False),),
        progress=Progress("download", 10**6, 10**7, 333_333.0, 27.0),
    )
    assert seconds_left(fetching) is None
    for text in ("about 27 s to download", "1.0 MB of 10.0 MB", "Download the teacher"):
        assert text in text_of(job_html(fetching))


def test_an_unknown_stage_is_shown_by_its_name() -> None:
    job = make_job(stages=(Stage("calibrate", 0, 0, 1.0, False),))
    assert "Calibrate" in text_of(job_html(job))


def test_the_bar_never_falls_and_ends_below_one() -> None:
    def filled(*stages: Stage) -> float:
        return 100 + float(re.findall(r"translateX\((-?[\d.]+)%\)", job_html(make_job(stages=stages)))[0])

    fractions = [filled()]
    done: list[Stage] = []
    for name in ("load", "encode", "reduce", "finish", "save"):
        fractions += [filled(*done, Stage(name, units, 2, 1.0, False)) for units in (0, 1, 2)]
        done.append(Stage(name, 2, 2, 1.0, True))
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert 90 < fractions[-1] <= 99


def test_what_was_kept_counts_as_finished() -> None:
    html = job_html(make_job(stages=(Stage("load", 0, 0, 0.3, True), Stage("reduce", 0, 0, 0.1, False))))
    marks = dict(
        zip(re.findall(r"</span><span>([^<]+)</span>", html), re.findall(r'data-mark="([^"]+)"', html), strict=True)
    )
    assert marks["Embed the vocabulary"] == "finished" and "cached" in text_of(html)
    assert marks["Save the model"] == "not started"


def test_a_calibrated_run_shows_what_it_reads() -> None:
    calibrated = make_job(parameters={"model_name": "a/b", "recipe": "calibrated"})
    for label in ("Embed texts", "Calibrate"):
        assert label in job_html(calibrated)
        assert label not in job_html(make_job())
    stages = (
        Stage("encode", 29_525, 29_525, 9.0, True),
        Stage("bags", 80_000, 80_000, 20.0, True),
        Stage("dictionary", 42_000, 75_000, 25.0, False),
    )
    reading = make_job(parameters={"model_name": "a/b", "recipe": "calibrated"}, stages=stages)
    assert "42,000 of 75,000 dictionary lines" in text_of(job_html(reading))
    assert "Embed texts 45 s" in text_of(job_html(reading))
    done = replace(reading, state="done", stages=(*stages[:2], replace(stages[2], is_finished=True)))
    assert "29,525 of 29,525 tokens" in text_of(job_html(done))


def test_the_bar_is_alive_where_it_can_not_count() -> None:
    assert "data-busy" in job_html(JOBS["starting"])
    for name in ("none", "queued", "running", "failed", "done"):
        assert "data-busy" not in job_html(JOBS[name])


def test_foreign_text_is_escaped() -> None:
    for state in ("queued", "running", "failed", "done"):
        assert EVIL not in job_html(make_job(state, title=EVIL, message=EVIL))


def test_result_in_four_numbers() -> None:
    found = result_html(done_job())
    assert text_of(found).startswith("Size 15.1 MB Tokens 29,525 Dimensions 256 Distilled in 9.4 s Explore ")
    # The very model, whichever is picked now.
    links = re.findall(r'href="([^"]*)"', found)
    assert links == [f"{name}?model={done_job().id}" for name in ("explore", "compare", "evaluate", "publish")]


def test_a_running_job_swaps_start_for_cancel_and_ticks(store: FakeStore) -> None:
    values = panel_values(OWNER, store.add(OWNER, encoding_job(250)))
    assert values[ID] == JOB_ID
    assert not values[START].visible and values[CANCEL].visible and values[CANCEL].interactive
    assert values[TIMER].active and not values[RESULT].visible


def test_cancel_can_not_be_pressed_twice(store: FakeStore) -> None:
    assert not panel_values(OWNER, make_job("cancelling"))[CANCEL].interactive


def test_a_finished_job_offers_its_zip(store: FakeStore) -> None:
    values = panel_values(OWNER, store.add(OWNER, done_job()))
    assert values[START].visible and not values[CANCEL].visible and not values[TIMER].active
    assert values[RESULT].visible and "29,525" in values[FACTS]
    zip_path = model_zip(OWNER, done_job())
    assert zip_path.name == "m2v-teacher.zip"
    with zipfile.ZipFile(zip_path) as archive:
        assert archive.namelist() == ["m2v-teacher/config.json"]


def test_a_full_disk_spoils_the_zip_alone(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_is_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_add", disk_is_full)
    values = panel_values(OWNER, store.add(OWNER, done_job()))
    assert "No space left on device" in values[MESSAGE]
    assert values[RESULT].visible


def test_the_zip_is_made_once_under_an_address_that_does_not_follow_from_the_job(store: FakeStore) -> None:
    job = store.add(OWNER, done_job(title="../../evil name\n"))
    zip_path = model_zip(OWNER, job)
    assert model_zip(OWNER, job) == zip_path
    assert JOB_ID not in str(zip_path)
    assert len(zip_path.parent.name) == 32
    assert zip_path.name == "evil-name.zip"
    assert zip_path.resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve())


def test_nobody_sees_anothers_job(store: FakeStore) -> None:
    job = store.add(OWNER, done_job())
    other = "another-another-another-1"
    assert find_job(other, JOB_ID) is None
    assert newest_job(other) is None
    assert follow(other, JOB_ID)[ID] == ""
    assert cancel(other, JOB_ID)[ID] == ""
    for call in (
        lambda: model_zip(other, job),
        lambda: finished_model(other, JOB_ID),
        lambda: finished_model(None, JOB_ID),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert store.get(JOB_ID, OWNER).state == "done"


def test_a_page_opens_with_the_job_that_is_going_on(store: FakeStore) -> None:
    store.add(OWNER, encoding_job(250, id="a" * 32, created_at=1.0))
    store.add(OWNER, done_job(id="b" * 32, created_at=2.0))
    values = attach(OWNER)
    assert (values["owner"], values[ID]) == (OWNER, "a" * 32)
    store.add(OWNER, done_job(id="a" * 32, created_at=1.0))
    assert attach(OWNER)[ID] == "b" * 32


def test_a_first_visit_gets_an_id_and_an_empty_panel(store: FakeStore) -> None:
    values = attach(None)
    assert len(values["owner"]) >= 22 and values[ID] == "" and "No run yet" in values[VIEW]


def test_ticks_change_the_view_alone_until_the_end(store: FakeStore) -> None:
    store.add(OWNER, encoding_job(250))
    values = follow(OWNER, JOB_ID)
    assert "250 of 1,000" in values[VIEW]
    assert list(values) == [VIEW]
    store.add(OWNER, done_job())
    assert not follow(OWNER, JOB_ID)[TIMER].active


def test_a_job_that_was_removed_leaves_an_empty_panel(store: FakeStore) -> None:
    values = follow(OWNER, JOB_ID)
    assert values[ID] == "" and not values[TIMER].active and values[START].visible


def test_a_damaged_outcome_takes_nothing_else_along(store: FakeStore) -> None:
    values = panel_values(OWNER, store.add(OWNER, done_job(outcome={"dim": "many"})))
    assert "Incident" in text_of(values[MESSAGE]) and values[FACTS] == ""
    assert values[ID] == JOB_ID and values[RESULT].visible and values[DOWNLOAD].visible


def test_a_cancel_that_can_not_be_written_down_says_why(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(job_id: str, owner: str) -> None:
        raise SaveError("The job's state can't be written: No space left on device.")

    store.add(OWNER, encoding_job(250))
    monkeypatch.setattr(store, "cancel", full)
    values = cancel(OWNER, JOB_ID)
    assert "No space left" in text_of(values[MESSAGE])
    assert list(values) == [MESSAGE]


def test_gradio_calls_the_handlers_with_the_values_of_their_inputs_alone(store: FakeStore) -> None:
    with gr.Blocks() as app:
        panel = build_job_panel("Go", "publish")
        panel.connect(lambda owner, text: JOB_ID, [gr.Textbox()])
    store.add(OWNER, encoding_job(250, kind="publish"))
    answered = {}
    for function in app.fns.values():
        if function.fn is not None:
            values = [OWNER, JOB_ID][: len(function.inputs)]
            arguments, *_ = gr.helpers.special_args(function.fn, values, gr.Request())
            answered[function.api_name] = function.fn(*arguments)
    start, retry, cancelled, followed, attached, _ = answered.values()
    assert start[panel.job_id] == JOB_ID and panel.message in retry
    assert "Cancelling" in cancelled[panel.view] and "Cancelling" in followed[panel.view]
    assert attached[panel.owner] == OWNER and panel.job_id in attached


def test_cancel(store: FakeStore) -> None:
    store.add(OWNER, encoding_job(250))
    assert "Cancelling" in cancel(OWNER, JOB_ID)[VIEW]


def test_old_files_go(tmp_path: Path) -> None:
    for name, age in (("old", 100_000), ("new", 10)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    remove_old_files(tmp_path)
    remove_old_files(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_run_names_its_teacher() -> None:
    for model_name in ("BAAI/bge-base-en-v1.5", "/models/bge-base-en-v1.5/"):
        job = make_job("running", title="mine-256", parameters={"model_name": model_name})
        assert "mine-256 from bge-base-en-v1.5</p>" in job_html(job, ONE_CLICK)
    published = make_job("done", kind="publish", title="ada/mine", parameters={"model_name": "mine"})
    assert "ada/mine</p>" in job_html(replace(published, outcome={}), ONE_CLICK)
