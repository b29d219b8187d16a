"""`m2v train` and `m2v predict` on the command line."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from m2v_core import cli
from m2v_core.classification import StaticClassifier
from tests.core.classification.texts import labeled, many_labeled, model

TEXTS, LABELS = labeled()
NEW_TEXTS, NEW_LABELS = labeled(60, seed=1)


def m2v(*arguments, stdin=None):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    model().save_pretrained(folder)
    return folder


def write_pairs(path, texts, labels):
    path.write_text("".join(f"{label}\t{text}\n" for text, label in zip(texts, labels, strict=True)), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path):
    return write_pairs(tmp_path / "train.tsv", TEXTS, LABELS)


@pytest.fixture(scope="module")
def classifier_folder(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifiers") / "classifier"
    StaticClassifier(model()).fit(TEXTS, LABELS).save_pretrained(folder)
    return folder


def test_train_then_predict(model_folder, data, tmp_path):
    test = write_pairs(tmp_path / "test.tsv", NEW_TEXTS, NEW_LABELS)
    output = tmp_path / "new" / "classifier"
    done = m2v("train", model_folder, "--data", data, "--test", test, "--output", output)
    assert done.exit_code == 0, done.stderr
    expected = StaticClassifier(model()).fit(TEXTS, LABELS)
    report = expected.evaluate(NEW_TEXTS, NEW_LABELS)
    assert f"accuracy   {report.accuracy:.1%}" in done.stdout
    assert "texts      120\n" in done.stdout
    for label in expected.classes_:
        assert f"\n{label} " in done.stdout
    assert "Training the head" in done.stderr

    done = m2v("predict", output, *NEW_TEXTS[:3])
    assert done.exit_code == 0, done.stderr
    probabilities = expected.predict_proba(NEW_TEXTS[:3]).max(axis=1)
    labels = expected.predict(NEW_TEXTS[:3])
    lines = zip(labels, probabilities, NEW_TEXTS, strict=False)
    assert done.stdout == "".join(f"{label}\t{share:.3f}\t{text}\n" for label, share, text in lines)


def test_every_option_of_train_is_passed_on(model_folder, tmp_path, monkeypatch):
    passed = {}
    fit = StaticClassifier.fit

    def recording(self, texts, labels, **arguments):
        passed.update(arguments, texts=texts, labels=labels)
        return fit(self, texts, labels, **arguments)

    monkeypatch.setattr(StaticClassifier, "fit", recording)
    texts, labels = many_labeled(60)
    data = tmp_path / "data.csv"
    rows = (f"{'|'.join(names)},{text}" for text, names in zip(texts, labels, strict=True))
    data.write_text("Y,X\n" + "\n".join(rows) + "\n", encoding="utf-8")
    done = m2v(
        *("train", model_folder, "--data", data, "--output", tmp_path / "out", "--text-column", "X"),
        *("--label-column", "Y", "--label-separator", "|", "--validation", 0.3, "--class-weight", "none"),
        *("--finetune", "--max-epochs", 2, "--seed", 4, "--embeddings-only", "--json"),
    )
    assert done.exit_code == 0, done.stderr
    assert (passed.pop("texts"), passed.pop("labels")) == (texts, labels)
    assert callable(passed.pop("progress")) and not passed.pop("cancel").is_set()
    settings = {"fine_tune": True, "max_epochs": 2, "read_tokens": False}
    assert passed == {"validation": 0.3, "class_weight": None, "seed": 4, **settings}
    said = json.loads(done.stdout)
    loaded = StaticClassifier.from_pretrained(tmp_path / "out")
    assert said["training"] == loaded.training.to_json()
    assert said["classes"] == loaded.classes_.tolist()
    assert said["is_multi_label"] is True
    assert said["test"] is None


@pytest.mark.parametrize("name", ["validation", "max_epochs", "seed"])
def test_defaults_equal_those_of_fit(name):
    option = next(option for option in cli.app.commands["train"].params if option.name == name)
    assert option.default == inspect.signature(StaticClassifier.fit).parameters[name].default


def test_predict_reads_files_and_standard_input(classifier_folder, tmp_path):
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join([*NEW_TEXTS, ""]) + "\n", encoding="utf-8")
    table = tmp_path / "texts.csv"
    table.write_text("id,words\n" + "".join(f"1,{text}\n" for text in NEW_TEXTS), encoding="utf-8")
    from_lines = m2v("predict", classifier_folder, "--input", lines).stdout.splitlines()
    from_table = m2v("predict", classifier_folder, "--input", table, "--column", "words").stdout.splitlines()
    assert len(from_lines) == len(NEW_TEXTS) + 1  # including a line for the empty text
    assert from_lines[:-1] == from_table
    labels = StaticClassifier.from_pretrained(classifier_folder).predict(NEW_TEXTS)
    assert [line.split("\t")[0] for line in from_table] == labels.tolist()


def test_predict_in_json(classifier_folder):
    done = m2v("predict", classifier_folder, "--json", "sea shells\nand tabs\t", "fox")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    loaded = StaticClassifier.from_pretrained(classifier_folder)
    expected = loaded.predict_proba(["sea shells\nand tabs\t", "fox"]).tolist()
    assert [row["text"] for row in found] == ["sea shells\nand tabs\t", "fox"]
    assert [list(row["probabilities"].values()) for row in found] == expected
    assert [row["label"] for row in found] == ["sea", "fox"]


@pytest.mark.parametrize("kind", [str, int])
def test_predict_several_labels(kind, tmp_path):
    texts, labels = many_labeled()
    numbers = {"sea": 1, "fox": 2, "rows": 3}
    labels = labels if kind is str else [[numbers[name] for name in names] for names in labels]
    loaded = StaticClassifier(model()).fit(texts, labels)
    loaded.save_pretrained(tmp_path / "many")
    done = m2v("predict", tmp_path / "many", "--threshold", 0.2, "--json", *texts[:9])
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == [
        names.tolist() for names in loaded.predict(texts[:9], 0.2)
    ]
    done = m2v("predict", tmp_path / "many", "--threshold", 0.2, *texts[:9])
    for line, names in zip(done.stdout.splitlines(), loaded.predict(texts[:9], 0.2), strict=True):
        found, likely, _ = line.split("\t")
        assert found == ";".join(map(str, names))
        assert len(likely.split()) == len(names)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("a\tsea\na\tfox\n", (), "Every text has the label 'a'"),
        ("a\tsea\na\tfox\nb\tdog\n", (), "only one text has: 'b'"),
        ("a\tsea\nno tab\n", (), "train.tsv, line 2 has no tab"),
        ("a\tsea\na\t\n", (), "train.tsv, line 2 has no text"),
        ("text\tlabel\nsea\ta\n", ("--label-column", "class"), "no column 'class'. Its columns are 'text', 'label'"),
        ("a\tsea\na\tshore\nb\tfox\nb\tdog\n", ("--validation", "2"), "validation must be a share"),
        ("a\tsea\na\tshore\nb\tfox\nb\tdog\n", ("--test", "absent.tsv"), "No input file at absent.tsv"),
    ],
)
def test_invalid_input_of_train(content, arguments, message, model_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.tsv").write_text(content)
    done = m2v("train", model_folder, "--data", "train.tsv", "--output", "out", *arguments)
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "out").exists()


def test_existing_files_are_kept_without_overwrite(model_folder, data, tmp_path):
    done = m2v("train", model_folder, "--data", data, "--output", model_folder)
    assert (done.exit_code, "--overwrite" in done.stderr) == (1, True)
    for _ in range(2):
        done = m2v("train", model_folder, "--data", data, "--output", tmp_path / "out", "--overwrite")
        assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Pass either texts or --input"),
        (("sea", "--input", "texts.txt"), "Pass either texts or --input"),
        (("--input", "absent.txt"), "No input file at absent.txt"),
        (("sea", "--threshold", "2"), "threshold must be a probability"),
    ],
)
def test_invalid_input_of_predict(arguments, message, classifier_folder):
    done = m2v("predict", classifier_folder, *arguments)
    assert done.exit_code == 1
    assert message in done.stderr


def test_predict_needs_a_classifier(model_folder):
    done = m2v("predict", model_folder, "sea")
    assert done.exit_code == 1
    assert "contains no classifier" in done.stderr and "m2v train" in done.stderr


def test_push_includes_the_head(classifier_folder, session_hub):
    env = os.environ | {"HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}
    command = [sys.executable, "-m", "m2v_core", "push", str(classifier_folder), "tester/topics", "--public"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert set(session_hub.files("tester/topics")) >= {"head.safetensors", "pipeline.skops", "model.safetensors"}
    loaded = StaticClassifier.from_pretrained("tester/topics")
    expected = StaticClassifier.from_pretrained(classifier_folder)
    assert loaded.predict(NEW_TEXTS).tolist() == expected.predict(NEW_TEXTS).tolist()
