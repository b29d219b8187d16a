"""`m2v eval` on the command line."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil

import pytest
from click.testing import CliRunner

from m2v_core import cli
from m2v_core.evaluation.run import Evaluation
from tests.core.evaluation.sets import write_sets
from tests.static_models import static_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    static_model().save_pretrained(folder)
    return folder


def m2v_eval(*arguments):
    return CliRunner().invoke(cli.app, ["eval", *map(str, arguments)])


def test_encoders_side_by_side(model, data):
    done = m2v_eval(model, f"model2vec:{model}", "wordllama", "tfidf", "--data", data)
    assert done.exit_code == 0, done.output
    heading, *lines = done.stdout.split("\n\n")[0].splitlines()
    names = "tiny words kinds groups alike order search news phrases turns names phrases2 same"
    assert heading.split() == ["encoder", "MB", *names.split(" "), "Avg"]
    assert {line.split("  ")[0] for line in lines} == {"small", "small (model2vec)", "WL256", "TF-IDF"}
    assert re.search(r"Measured on \d{4}-\d\d-\d\d: .* CPUs", done.stdout)
    assert (
        "\ntiny, words, news: Spearman x 100; kinds, turns, names, same: accuracy; groups, phrases2: V-measure x 100; "
        "alike: average precision x 100; order: MAP x 100; search: nDCG@10 x 100; phrases: Pearson x 100.\n"
    ) in done.stdout


def test_a_sentence_transformer_needs_no_form(model, data, build_teacher_once):
    teacher = build_teacher_once("wordpiece")
    rows = [
        m2v_eval(spec, "--data", data, "--tasks", "tiny", "--device", "cpu", "--format", "json")
        for spec in (teacher, f"teacher:{teacher}")
    ]
    one, forced = (json.loads(row.stdout) for row in rows)
    assert one["encoders"] == forced["encoders"] and one["encoders"][0]["role"] == "teacher"
    assert [{**score, "seconds": 0} for score in one["scores"]] == [
        {**score, "seconds": 0} for score in forced["scores"]
    ]


def test_a_sentence_transformer_has_no_smaller_versions(data, build_teacher_once):
    teacher = build_teacher_once("wordpiece")
    done = CliRunner().invoke(cli.app, ["frontier", str(teacher), "--data", str(data)])
    assert done.exit_code == 1 and "is a Sentence Transformer" in done.stderr and "m2v distill" in done.stderr


def test_the_speed_of_a_sentence_transformer(model, build_teacher_once):
    teacher = build_teacher_once("wordpiece")
    arguments = ["--rounds", "1", "--seconds", "0.2", "--device", "cpu", "--json"]
    done = CliRunner().invoke(cli.app, ["speed", str(model), str(teacher), *arguments])
    assert done.exit_code == 0, done.output
    assert [one["facts"]["role"] for one in json.loads(done.stdout)["encoders"]] == ["static", "teacher"]


def test_json_round_trips(model, data, tmp_path):
    output = tmp_path / "found.json"
    done = m2v_eval(model, "tfidf", "--data", data, "--tasks", "tiny,WordSim", "--format", "json", "--output", output)
    assert done.exit_code == 0 and done.stdout == ""
    record = json.loads(output.read_text())
    found = Evaluation.from_json(record)
    assert found.tasks == ("tiny", "words") and [facts.name for facts in found.encoders] == ["small", "TF-IDF"]
    assert record["machine"]["n_cpus"] >= 1 and len(record["leaderboard"]) == 2
    again = json.loads(m2v_eval(model, "tfidf", "--data", data, "--tasks", "tiny,wordsim", "--format", "json").stdout)
    for one, other in zip(record["scores"], again["scores"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_csv_and_markdown(model, data):
    done = m2v_eval(model, "--data", data, "--tasks", "tiny", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["encoder"], row["task"]) == ("small", "tiny")
    assert float(row["low"]) <= float(row["score"]) <= float(row["high"])
    done = m2v_eval(model, "--data", data, "--tasks", "tiny", "--format", "markdown", "--intervals")
    assert done.stdout.startswith("| encoder | MB | tiny |\n| --- | ---: | ---: |\n| small |")
    assert re.search(r"\(-?[\d.]+ to -?[\d.]+\) \|", done.stdout)


def test_a_single_table_and_an_archive(model, data, tmp_path):
    (tmp_path / "mine.csv").write_text((data / "sts/tiny.tsv").read_text().replace("\t", ","))
    rows = [line.split("\t") for line in (data / "sts/tiny.tsv").read_text().splitlines()]
    lines = [json.dumps({"id": 1, "score": float(score), "one": one, "two": two}) for score, one, two in rows]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    packed = shutil.make_archive(str(tmp_path / "all"), "zip", data)
    scores = []
    for given in (
        [tmp_path / "mine.csv"],
        [tmp_path / "mine.jsonl"],
        [packed, "--tasks", "tiny"],
        [data, "--tasks", "tiny"],
    ):
        done = m2v_eval(model, "--data", *given, "--format", "json")
        assert done.exit_code == 0, done.output
        scores.append(json.loads(done.stdout)["scores"][0]["score"])
    assert scores == [scores[0]] * 4


def test_smaller_versions(model, data, tmp_path):
    done = CliRunner().invoke(cli.app, ["frontier", str(model), "--data", str(data), "--tasks", "tiny"])
    assert done.exit_code == 0, done.output
    heading, *lines = done.stdout.split("\n\n")[0].splitlines()
    assert heading.split() == ["dim", "precision", "rows", "MB", "score", "low", "high", "sentences/s", "best"]
    assert [line.split()[1] for line in lines] == ["int8", "float16", "float32"]
    assert "Not enough data to tell which version is the best of its size" in done.stdout  # 12 pairs
    assert re.search(r"many rounds on sentences of Python's .* Measured on \d{4}-\d\d-\d\d: .* CPUs", done.stdout)
    output = tmp_path / "versions.json"
    arguments = [str(model), "--data", str(data), "--tasks", "tiny", "--shared-rows", "5", "--output", str(output)]
    done = CliRunner().invoke(cli.app, ["frontier", *arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    record = json.loads(output.read_text())
    assert sorted({row["n_rows"] for row in record["versions"]})[0] == 5 and record["tasks"] == ["tiny"]
    assert all(row["sentences_per_second"] > 0 for row in record["versions"]) and record["machine"]["n_cpus"] >= 1
    done = CliRunner().invoke(cli.app, ["frontier", *arguments[:-2], "--format", "csv"])
    assert {row["precision"] for row in csv.DictReader(io.StringIO(done.stdout))} == {"float32", "float16", "int8"}
    other = tmp_path / "more-words"
    static_model("Unigram").save_pretrained(other)
    arguments = ["frontier", str(model), str(other), "--data", str(data), "--tasks", "tiny"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    heading, *lines = done.stdout.split("\n\n")[0].splitlines()
    assert heading.split()[:4] == ["model", "dim", "precision", "rows"]
    assert sorted(line.split()[0] for line in lines) == ["more-words"] * 3 + ["small"] * 3
    sizes = [float(line.split()[4]) for line in lines]
    assert sizes == sorted(sizes)
    done = CliRunner().invoke(cli.app, ["frontier", str(data), "--data", str(data)])
    assert done.exit_code == 1 and "Traceback" not in done.output


def test_published_rows_are_shown_with_measured_ones(model, data):
    done = m2v_eval(model, "--data", data, "--tasks", "tiny", "--published")
    assert re.search(r"^small +measured ", done.stdout, flags=re.MULTILINE)
    assert re.search(r"^GloVe_300d +published +42\.84 +57\.31", done.stdout, flags=re.MULTILINE)
    assert "the two are not ranked with each other" in " ".join(done.stdout.split())


def test_notes_are_warnings(model, data):
    done = m2v_eval("vectors:" + str(vectors_of(data)), "--data", data, "--tasks", "tiny")
    assert done.exit_code == 0
    assert "Warning: vectors.txt on tiny: All pairs are equally similar" in done.stderr


def test_fidelity_without_labels(model, data, tmp_path, build_teacher_once):
    words = ["sea", "shore", "river", "lake", "boat", "fish", "bread", "apple", "pear", "plum"]
    (tmp_path / "texts.txt").write_text(
        "".join(f"the {one} and the {other} by a {third}\n" for one in words for other in words for third in words[:6])
    )
    arguments = [model, "--teacher", build_teacher_once("wordpiece"), "--texts", tmp_path / "texts.txt"]
    done = m2v_eval(*arguments)
    assert done.exit_code == 0, done.output
    assert re.fullmatch(
        r"small: Matches the teacher's similarity ranking: 0\.\d\d \(95% interval 0\.\d\d to 0\.\d\d\)\. "
        r"Shares \d+% \(95% interval \d+% to \d+%\) of each text's 10 nearest neighbors\.\n",
        done.stdout,
    )
    found = json.loads(m2v_eval(*arguments, "--data", data, "--tasks", "tiny", "--format", "json").stdout)
    assert found["fidelity"]["small"]["verdict"] in done.stdout and len(found["scores"]) == 1
    (tmp_path / "texts.txt").write_text("the sea\na river\na boat\n")
    assert "Fidelity needs at least 512 different texts, but there are only 3" in m2v_eval(*arguments).stderr


def vectors_of(folder):
    path = folder / "vectors.txt"
    path.write_text("zebra 1 2\nyak 2 1\n")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,a,b\n2,c\n", "mine.csv, line 2 has 2 cells instead of 3. Each line must contain a score"),
        ("", "mine.csv contains no data. Each line must contain"),
        ("1,a,b\n1,c,d\n", "All scores in mine are 1. A correlation needs different scores"),
        ("x,a\ny,b\n", "Every label of mine has only one text"),
    ],
)
def test_invalid_tables(model, tmp_path, text, message):
    (tmp_path / "mine.csv").write_text(text)
    done = m2v_eval(model, "--data", tmp_path / "mine.csv")
    assert done.exit_code == 1 and message in done.stderr and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("sts__tiny", "1\ta\tb\n2\ta\n", "sts/tiny.tsv, line 2 has 2 fields; expected: score, text, text"),
        ("sts__tiny", "", "sts/tiny.tsv is empty. Its lines must be: score, text, text"),
        ("sts__tiny", "1\ta\tb\n1\tc\td\n", "All 2 scores in"),
        ("classification__kinds__train", "wet\ta\nwet\tb\n", "has the label 'wet'"),
    ],
)
def test_invalid_folders_of_tasks(model, tmp_path, file, text, message):
    done = m2v_eval(model, "--data", write_sets(tmp_path, **{file: text}))
    assert done.exit_code == 1 and message in done.stderr and "Traceback" not in done.output


def test_a_label_with_one_text_causes_a_warning(model, tmp_path):
    write_sets(tmp_path, classification__kinds__train="a\tsea\na\tshore\nb\tapple\nb\tpear\nrare\tfish\n")
    done = m2v_eval(model, "--data", tmp_path, "--tasks", "kinds")
    assert done.exit_code == 0 and "Warning: small on kinds: 'rare' has only one training text" in done.stderr


def test_a_model_that_returns_nan(data, tmp_path):
    """Word vectors with NaN, as in a damaged export."""
    lines = [f"{word} {'nan' if word == 'sea' else 1} 2\n" for word in ("sea", "shore", "river", "lake", "and")]
    (tmp_path / "vectors.txt").write_text("".join(lines))
    done = m2v_eval(f"vectors:{tmp_path / 'vectors.txt'}", "--data", data, "--tasks", "tiny")
    assert done.exit_code == 1 and "returned NaN or infinity for" in done.stderr and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["MODEL"], 2, "folder of tasks"),
        (["MODEL", "--teacher", "tiny"], 2, "both are needed"),
        (["MODEL", "--tasks", "tiny", "--mteb", "STSBenchmark"], 2, "--data"),
        (["MODEL", "--data", "DATA", "--tasks", "nothing"], 1, "no task 'nothing'"),
        (["MODEL", "MODEL", "--data", "DATA"], 1, "Duplicate encoder"),
        (["bpemb:", "--data", "DATA"], 1, "is not an encoder"),
        (["MODEL", "--data", "DATA/gone"], 1, "Folder not found"),
        (["DATA/gone", "--data", "DATA", "--tasks", "tiny"], 1, "removed"),
        (["MODEL", "--data", "DATA", "--output", "MODEL/config.json/file.csv"], 1, "not a writable folder"),
        (["tfidf", "--mteb", "STSBenchmark"], 1, "fitted to the texts"),
        (["MODEL", "--mteb", "NoSuchTask"], 1, "no task 'NoSuchTask'"),
    ],
)
def test_errors_are_one_line(model, data, arguments, code, message):
    given = [argument.replace("MODEL", str(model)).replace("DATA", str(data)) for argument in arguments]
    done = m2v_eval(*given)
    assert done.exit_code == code and message in done.stderr
    assert "Traceback" not in done.output
