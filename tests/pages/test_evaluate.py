from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from m2v_core.errors import InputError, M2VError, NotFoundError
from m2v_core.evaluation.encoders import EncoderFacts, TfidfEncoder
from m2v_core.evaluation.fidelity import measure_fidelity
from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.own_data import OwnSet
from m2v_core.evaluation.packed import TaskArchive
from m2v_core.evaluation.run import Evaluation, evaluate
from m2v_core.evaluation.speed import EncoderSpeed
from m2v_core.studio.jobs import Job, Stage
from m2v_core.studio.space.settings import current_limits
from pages import evaluate as page
from pages.components import evaluation_results
from pages.components.evaluation_results import measured_speeds, show
from pages.components.evaluation_view import frontier_html
from pages.components.job_panel import panel_values
from pages.components.job_view import job_html
from pages.components.own_texts import check_file
from pages.components.result_card import result_html
from pages.evaluate import check_sets, load_texts, offer, read_sets, submit
from pages.figures import frontier_figure, quality_bubbles
from tests.core.evaluation.sets import SETS, LetterEncoder, write_sets
from tests.pages.conftest import JOB_ID, FakeStore, make_job
from tests.pages.test_compare import EVIL, OWNER, TEACHER, Shelf, model_job, speed_job
from tests.pages.test_job_panel import text_of

MODEL_ID, OTHER_ID = "a" * 32, "b" * 32
MANY = [f"text {number}" for number in range(512)]
PAIRS = "score,a,b\n" + "".join(f"{n % 5},the {chr(97 + n)} sea,{chr(98 + n)} shore\n" for n in range(12))


@pytest.fixture
def jobs(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    shelf = Shelf(store)
    for module in (page, evaluation_results):
        monkeypatch.setattr(module, "job_store", lambda: store)
    monkeypatch.setattr(page, "model_library", lambda: shelf)
    return store


@pytest.fixture
def models(jobs: FakeStore) -> FakeStore:
    jobs.add(OWNER, model_job(id=MODEL_ID, created_at=2.0))
    jobs.add(OWNER, model_job(id=OTHER_ID, created_at=1.0, title="second"))
    return jobs


def start(**changes: Any) -> str:
    values: dict[str, Any] = {
        "model_id": MODEL_ID,
        "what": ["fidelity"],
        "teacher": TEACHER,
        "beside": [],
        "source": "sample",
        "own_texts": "",
        "upload": None,
        "column": None,
        "sets": None,
        "shared_rows": 0,
    }
    return submit(OWNER, **(values | changes))


def frontier_rows() -> list[FrontierRow]:
    """Two of each width, of which the smaller is as good; the wide ones are better by more than chance."""
    return [
        FrontierRow(
            dim,
            precision,
            100,
            dim * size * 100_000,
            average := 60.0 + dim / 64,
            {"STS": 60.0},
            1234.5 * size,
            is_best=(dim, size) == (256, 1),
            low=average - 1,
            high=average + 1,
        )
        for dim in (32, 256)
        for precision, size in (("int8", 1), ("float32", 4))
    ]


def evaluated(name: str = "mine", n_pairs: int = 12, **changes: Any) -> Job:
    """A finished evaluation with real figures of encoders that count letters."""
    own = OwnSet(name, tuple((str(n % 5), f"{chr(97 + n)} sea", f"{chr(98 + n)} shore") for n in range(n_pairs)))
    static, teacher = LetterEncoder(name), LetterEncoder(TEACHER, "teacher")
    encoders = [static, TfidfEncoder()]
    texts = [f"{chr(97 + n % 26)}{chr(97 + n // 26)} sea" for n in range(512)]
    fidelities = measure_fidelity(teacher, encoders, texts, resamples=20)
    outcome = {
        "teacher": TEACHER,
        "texts_name": "own texts",
        "fidelity": {one.facts.name: found.to_json() for one, found in zip(encoders, fidelities, strict=True)},
        "evaluation": evaluate([*encoders, teacher], [own.task()], resamples=50).to_json(),
        "frontier": [row.to_json() for row in frontier_rows()],
        "dtype": "float16",
        "encoders": [one.facts.to_json() for one in (*encoders, teacher)],
        "machine": {"processor": "Some CPU", "n_cpus": 2, "system": "Linux", "python": "3.11.7"},
        "date": "2026-01-02",
    }
    parameters = {"models": [{"name": name, "path": "/models/one"}], "teacher": TEACHER, "with_fidelity": True}
    fields = {"kind": "evaluate", "outcome": json.loads(json.dumps(outcome | changes)), "parameters": parameters}
    return make_job("done", **fields)


def test_without_a_model_the_page_says_what_to_do_first(jobs: FakeStore) -> None:
    for model_id in (None, MODEL_ID):
        with pytest.raises(NotFoundError, match="distill one first"):
            start(model_id=model_id)


def test_a_picked_model_brings_its_teacher_and_the_others(models: FakeStore) -> None:
    boxes, teacher = offer(OWNER, MODEL_ID, [MODEL_ID, "tfidf"])
    values = [value for _, value in boxes.choices]
    assert values[0] == OTHER_ID and MODEL_ID not in values and "tfidf" in values
    assert boxes.value == ["tfidf"] and teacher == TEACHER


def test_what_is_submitted(models: FakeStore, vocabulary_file: Callable[[str, str], str]) -> None:
    start(
        what=["fidelity", "tasks", "frontier"],
        beside=[OTHER_ID, "its teacher", "tfidf"],
        source="own",
        own_texts="\n\n".join([*MANY, *MANY]),
        sets=[vocabulary_file("mine.csv", PAIRS)],
        shared_rows=500,
    )
    spec, owner = models.submitted[0]
    assert (spec.kind, owner, spec.title) == ("evaluate", OWNER, "quality of m2v-teacher")
    assert spec.parameters == {
        "models": [{"name": name, "path": str(models.result)} for name in ("m2v-teacher", "second")],
        "peers": ["tfidf"],
        "teacher": TEACHER,
        **dict.fromkeys(("scores_teacher", "with_fidelity", "with_tasks", "with_frontier"), True),
        "shared_rows": 500,
    }
    assert spec.texts["texts"] == MANY
    [own] = OwnSet.from_lines(spec.texts["sets"])
    assert own.name == "mine" and len(own.rows) == 12


def test_no_teacher_is_asked_for_where_none_is_needed(
    models: FakeStore, vocabulary_file: Callable[[str, str], str]
) -> None:
    start(what=["tasks"], teacher="", sets=[vocabulary_file("mine.csv", PAIRS)])
    assert models.submitted[0][0].parameters["teacher"] is None
    with pytest.raises(InputError, match="No teacher is selected"):
        start(what=["frontier"], teacher="")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"what": []}, "Nothing is selected"),
        ({"what": ["tasks"]}, "no test data"),
        ({"source": "own", "own_texts": "one\ntwo\none"}, "there are 2"),
        ({"source": "upload"}, "No file was uploaded"),
    ],
)
def test_what_is_refused(models: FakeStore, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        start(**changes)
    assert not models.submitted


def test_anothers_model_is_none(models: FakeStore) -> None:
    models.add("another-another-another-1", model_job(id="c" * 32))
    with pytest.raises(NotFoundError):
        start(model_id="c" * 32)
    start(beside=["c" * 32])
    assert len(models.submitted[0][0].parameters["models"]) == 1


def test_no_paths_on_a_space(models: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "some/space")
    with pytest.raises(InputError, match="not a Hub id"):
        start(teacher="/etc")


def test_files_are_judged(vocabulary_file: Callable[[str, str], str]) -> None:
    good, bad = vocabulary_file("mine.csv", PAIRS), vocabulary_file("bad.csv", "1,a,b\nx,c,d\n")
    assert "12 pairs with scores" in check_sets([good])
    said = check_sets([good, bad])
    assert "m2v-error" in said and "line 2" in said and "bad.csv" in said
    assert check_sets(None) == ""
    texts = vocabulary_file("texts.txt", "\n".join(MANY))
    assert "512 distinct texts ready" in check_file(load_texts, texts)
    assert check_file(load_texts, None) == ""


def packed(folder: Path, **changes: str) -> str:
    return shutil.make_archive(str(folder / "tasks"), "zip", write_sets(folder / "tasks", **changes))


def test_a_packed_folder_of_tasks_is_taken(models: FakeStore, tmp_path: Path) -> None:
    archive = packed(tmp_path)
    said = check_sets([archive])
    assert f"{len(SETS) - 3} sets ready" in said and "search: 21 texts, scored by nDCG@10 x 100" in said
    assert said.count("scored by") == 8 and "and 5 more" in said
    (tmp_path / "mine.csv").write_text(PAIRS)
    start(what=["tasks"], teacher="", sets=[archive, str(tmp_path / "mine.csv")])
    texts = models.submitted[0][0].texts
    assert sorted(texts) == ["archives", "sets"] and models.submitted[0][0].parameters["with_tasks"]
    assert TaskArchive.from_line(texts["archives"][0]).files == SETS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sts__tiny": "1\ta\tb\n2\ta\n"}, "sts/tiny.tsv, line 2 has 2 fields; expected: score, text, text"),
        ({"clustering__groups": ""}, "clustering/groups.tsv is empty"),
        ({"sts__tiny": "1\ta\tb\n1\tc\td\n"}, "All 2 scores in sts/tiny.tsv are 1"),
        ({"sts__tiny": f"1\ta\tb\n2\t{'c' * 20_001}\td\n"}, "20,001 characters; the limit here is 20,000"),
    ],
)
def test_a_packed_folder_that_is_refused(
    models: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    monkeypatch.setattr(page, "current_limits", lambda: replace(current_limits(), text_characters=20_000))
    archive = packed(tmp_path, **changes)
    assert says in check_sets([archive])
    with pytest.raises(M2VError, match=re.escape(says)):
        start(what=["tasks"], sets=[archive])
    assert not models.submitted


def test_an_archive_is_no_way_out(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sts/../../../evil.tsv", "1\ta\tb\n2\tc\td\n")
    assert "points outside of it" in check_sets([str(path)])


def test_tables_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "mine.csv" for folder in "abc"]
    for path in paths:
        path.parent.mkdir()
        path.write_text(PAIRS)
    assert [own.name for own in read_sets(list(map(str, paths)))] == ["mine", "mine (2)", "mine (3)"]
    with pytest.raises(M2VError, match="21 files"):
        read_sets([str(paths[0])] * 21)


def test_texts_that_are_too_long(monkeypatch: pytest.MonkeyPatch, vocabulary_file: Callable[[str, str], str]) -> None:
    monkeypatch.setattr(page, "current_limits", lambda: replace(current_limits(), text_characters=10))
    with pytest.raises(M2VError, match="11 characters; the limit here is 10"):
        load_texts("own", "a\nb\n" + "c" * 11, None)
    with pytest.raises(M2VError, match="11 characters; the limit here is 10"):
        read_sets([vocabulary_file("mine.csv", f"1,a,b\n2,a,{'c' * 11}\n")])


def test_an_evaluation_is_shown(jobs: FakeStore) -> None:
    job = jobs.add(OWNER, evaluated(n_pairs=60))
    shown = show(OWNER, JOB_ID)
    box, fidelity, scores, board = (shown[name] for name in ("measured", "fidelity", "scores", "board"))
    table, as_csv, as_markdown = (shown[name] for name in ("table", "as_csv", "as_markdown"))
    bubbles_box, bubbles, conditions = (shown[name] for name in ("bubbles_box", "bubbles", "conditions"))
    figure_box, figure = shown["frontier_figure_box"], shown["frontier_plot"]
    frontier_box, frontier, versions = (shown[name] for name in ("frontier_box", "frontier", "frontier_csv"))
    assert box.visible and board.visible and figure_box.visible
    assert "similarity ranking: 1.00" in fidelity.value and "value is unreliable" not in fidelity.value
    assert "mine scores " in scores.value and " to " in scores.value and "too few" not in scores.value + table
    assert table.count(">measured<") == 3 and table.count(">published<") == 15
    assert table.rindex(">measured<") < table.index("not comparable") < table.index(">published<")
    assert table.count('scope="row">teacher<') == 1  # as the chart calls it
    assert frontier_box.visible and "best of its size" in frontier and "stored as float16" in frontier
    assert "<td>1,234</td>" in frontier and "<td>4,938</td>" in frontier and "on this machine" in frontier
    with Path(versions.value["path"]).open(encoding="utf-8-sig", newline="") as file:
        assert [row["sentences/s"] for row in csv.DictReader(file)] == ["1234.0", "4938.0", "1234.0", "4938.0"]
    assert "Some CPU, 2 CPUs" in conditions and "2026-01-02" in conditions
    assert not bubbles_box.visible and bubbles is None and "compare" in conditions  # nobody measured speed
    assert len(figure.data) == 2

    evaluation = Evaluation.from_json(job.outcome["evaluation"])
    with Path(as_csv.value["path"]).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    mine = next(row for row in rows if row["encoder"] == "mine")
    assert mine["origin"] == "measured"
    assert float(mine["STS"]) == pytest.approx(evaluation.of("mine")[0].score, abs=0.01)
    assert "| potion-base-8M | published |" in Path(as_markdown.value["path"]).read_text(encoding="utf-8")

    assert not show("another-another-another-1", JOB_ID)["measured"].visible
    assert not show(OWNER, "")["measured"].visible


def test_from_too_little_test_data_nothing_is_concluded(jobs: FakeStore) -> None:
    job = jobs.add(OWNER, evaluated())
    shown = show(OWNER, JOB_ID)
    scores, table = shown["scores"], shown["table"]
    figure, frontier = shown["frontier_plot"], shown["frontier"]
    for html in (scores.value, table, frontier):
        assert "12 pairs in “mine” are too few to compare models" in html
    assert "of 12 pairs</small>" in scores.value and "mine scores" not in scores.value
    assert "Quality versus size" in frontier and "best of its size" not in frontier.lower()
    assert shown["bubbles"] is None
    assert all(symbol.endswith("-open") for trace in figure.data for symbol in trace.marker.symbol)
    said = text_of(result_html(job))
    assert "Score on 12 pairs Not enough data to tell 98% of best quality Not enough data to tell" in said


def test_versions_within_chance_are_not_ranked() -> None:
    near = frontier_html(frontier_rows(), "Score", "float32")
    assert "No version smaller than 256 dimensions in int8 keeps 98" in near
    *smaller, largest = frontier_rows()
    near = frontier_html([*smaller, replace(largest, average=64.2)], "Score", "float32")
    assert "256 dimensions in int8 keep 100% of the best quality at 25.6 MB" in near
    rows = [replace(row, low=row.average - 30, high=row.average + 30, is_best=False) for row in frontier_rows()]
    html = frontier_html(rows, "Score", "float32")
    assert "Not enough data to tell which smaller version keeps 98" in html and "30.5 to 90.5" in html
    assert "best of its size" not in html.lower() and "No version smaller" not in html


def test_what_an_earlier_version_measured_on_too_little_is_not_shown(jobs: FakeStore) -> None:
    few = {name: found | {"n_texts": 9, "n_pairs": 36} for name, found in evaluated().outcome["fidelity"].items()}
    rows = [row.to_json() | {"low": None, "high": None, "is_best": True} for row in frontier_rows()]
    job = jobs.add(OWNER, evaluated(evaluation=None, fidelity=few, frontier=rows))
    shown = show(OWNER, JOB_ID)
    assert not shown["fidelity"].visible and "best of its size" not in shown["frontier"].lower()
    assert text_of(result_html(job)).startswith("Fidelity Not measured 98% of best quality Not enough data to tell")


def test_the_card_has_the_main_figures() -> None:
    said = text_of(result_html(evaluated(n_pairs=60)))
    assert said.startswith("Fidelity 1.000 Score ") and "98% of best quality 25.6 MB" in said
    assert "Scores" not in said and "Versions" not in said


def test_charts_end_where_scores_do() -> None:
    top = [replace(row, average=100.0) for row in frontier_rows()]
    assert frontier_figure(top, "score").layout.yaxis.range == (99.0, 100.0)
    facts = [EncoderFacts(name, "static", 8, "cpu", 1, 100) for name in ("one", "other")]
    speeds = {one.name: EncoderSpeed(one, 10, (1.0,), False) for one in facts}
    figure = quality_bubbles(facts, {"one": 100.0, "other": -99.0}, speeds, is_fidelity=False)
    assert figure.layout.xaxis.range == (-100.0, 100.0)


def test_no_figure_is_minus_zero() -> None:
    rows = [replace(row, average=-0.001) for row in frontier_rows()]
    hover = frontier_figure(rows, "score").data[0].customdata
    assert "-0.00" not in frontier_html(rows, "Score", "float32") + "".join(hover)


def test_only_what_was_asked_for_is_shown(jobs: FakeStore) -> None:
    jobs.add(OWNER, evaluated(fidelity=None, evaluation=None))
    shown = show(OWNER, JOB_ID)
    assert not any(shown[name].visible for name in ("fidelity", "scores", "board", "bubbles_box"))
    assert shown["frontier_figure_box"].visible and shown["frontier_box"].visible


def test_a_damaged_evaluation_says_so(jobs: FakeStore) -> None:
    jobs.add(OWNER, evaluated(evaluation={"encoders": 3}))
    shown = show(OWNER, JOB_ID)
    assert shown["measured"].visible and "Incident" in shown["conditions"]


def test_speed_comes_from_compare(jobs: FakeStore) -> None:
    job = jobs.add(OWNER, evaluated(n_pairs=60))
    newer = speed_job(id="c" * 32, created_at=3.0)
    newer = replace(newer, parameters={"models": [{"name": "my model", "path": "/models/one"}], "teacher": TEACHER})
    jobs.add(OWNER, newer)
    jobs.add("another-another-another-1", replace(newer, id="d" * 32))
    rates = {name: speed.sentences_per_second for name, speed in measured_speeds(OWNER, job).items()}
    assert rates == pytest.approx({"mine": 10_000, TEACHER: 8.0})
    shown = show(OWNER, JOB_ID)
    bubbles_box, bubbles, conditions = (shown[name] for name in ("bubbles_box", "bubbles", "conditions"))
    assert bubbles_box.visible and [trace.name for trace in bubbles.data] == ["mine", "teacher, extrapolated"]
    assert [trace.marker.symbol for trace in bubbles.data] == ["circle", "circle-open-dot"]
    assert [trace.y[0] for trace in bubbles.data] == pytest.approx([10_000, 8.0])
    assert "test data" in bubbles.layout.xaxis.title.text and "your measurements" in conditions

    jobs.add(OWNER, evaluated(evaluation=None))
    bubbles = show(OWNER, JOB_ID)["bubbles"]
    assert [trace.x[0] for trace in bubbles.data] == pytest.approx([1.0, 1.0])  # both count letters
    assert "fidelity" in bubbles.layout.xaxis.title.text


def test_the_frontier_as_a_figure() -> None:
    rows = frontier_rows()
    figure = frontier_figure([*rows, replace(rows[1], n_rows=10, n_bytes=1000)], "quality of <b>")
    assert [trace.name for trace in figure.data] == ["float32", "int8", "float32, 10 shared rows"]
    assert list(figure.data[0].x) == pytest.approx([12.8, 102.4])
    assert list(figure.data[0].y) == pytest.approx([60.5, 64.0])
    assert list(figure.data[0].marker.symbol) == ["circle-open"] * 2  # int8 is as good, and smaller
    assert list(figure.data[1].marker.symbol) == ["square-open", "square"]  # nothing is smaller than the first
    assert "4,938 sentences/s" in figure.data[0].customdata[0]
    assert "second" not in frontier_figure([replace(rows[0], sentences_per_second=None)], "q").data[0].customdata[0]
    assert "MB" in figure.layout.xaxis.title.text and "<b>" not in figure.layout.annotations[0].text


def test_versions_worse_than_chance_are_shown_too() -> None:
    html = frontier_html([replace(row, average=-row.average) for row in frontier_rows()], "Score", "float32")
    assert "Quality versus size" in html and "of the best quality" not in html and "-60.50" in html


def test_names_are_text_and_never_markup_or_formulas(jobs: FakeStore) -> None:
    jobs.add(OWNER, evaluated(name=EVIL))
    shown = show(OWNER, JOB_ID)
    html = "".join(str(getattr(part, "value", part)) for part in shown.values())
    assert "<img" not in html and "&lt;img" in html
    assert "<img" not in Path(shown["as_markdown"].value["path"]).read_text(encoding="utf-8")
    facts = [EncoderFacts(name, "static", 8, "cpu", 1, 100) for name in (EVIL, "other")]
    speeds = {one.name: EncoderSpeed(one, 10, (1.0,), False) for one in facts}
    assert "<img" not in quality_bubbles(facts, {EVIL: 0.5, "other": 0.7}, speeds, is_fidelity=True).to_json()

    jobs.add(OWNER, evaluated(name='=HYPERLINK("http://evil")'))
    with Path(show(OWNER, JOB_ID)["as_csv"].value["path"]).open(encoding="utf-8-sig", newline="") as file:
        assert not [row for row in csv.reader(file) if row[0].startswith("=")]


def test_the_panel_follows_its_own_kind(jobs: FakeStore) -> None:
    job = jobs.add(OWNER, evaluated())
    (jobs.result / "config.json").rename(jobs.result / "evaluation.json")
    values = panel_values(OWNER, job, "evaluate")
    assert values["done_id"] == JOB_ID and "JSON" in values["download"].label and "1.000" in values["facts"]
    stages = (Stage("fidelity", 10, 10, 1.0, True), Stage("frontier", 2, 12, 3.0, False))
    parameters = {"with_fidelity": True, "with_frontier": True}
    running = job_html(make_job(kind="evaluate", stages=stages, parameters=parameters, elapsed_seconds=4.0))
    assert "2 of 12 versions" in running and "Evaluate smaller versions" in running
    assert "Score on the test data" not in running  # nobody asked for it
    assert "Score on the test data" in job_html(None, "evaluate")
