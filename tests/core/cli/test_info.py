"""`m2v info` on the command line."""

from __future__ import annotations

import json

from tokenizers import pre_tokenizers

from m2v_core import StaticModel
from tests.core.cli.commands import m2v


def test_info_as_text(model_folder):
    done = m2v("info", model_folder)
    assert done.exit_code == 0, done.output
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["name"] == "small"
    assert facts["teacher"] == "some/teacher"
    assert facts["rows"] == "4"
    assert facts["dim"] == "3"
    assert facts["precision"] == "float32"
    assert facts["tokenizer"] == "WordLevel"
    assert facts["max_length"] == "64"
    assert facts["encoder"] == "chunk by chunk"
    assert facts["size"].endswith("kB")


def test_info_of_a_model_with_little_metadata(model_folder, tmp_path):
    known = StaticModel.from_pretrained(model_folder)
    StaticModel(known.token_embeddings, known.tokenizer, config={"m2v": "something else"}).save_pretrained(tmp_path)
    info = json.loads(m2v("info", tmp_path, "--json").stdout)
    assert (info["teacher"], info["recipe"]) == (None, None)
    facts = dict(line.split(maxsplit=1) for line in m2v("info", tmp_path).stdout.splitlines())
    assert (facts["teacher"], facts["recipe"]) == ("-", "-")


def test_info_states_why_texts_are_tokenized_whole(model_folder, tmp_path):
    known = StaticModel.from_pretrained(model_folder)
    known.tokenizer.pre_tokenizer = pre_tokenizers.Digits()
    StaticModel(known.token_embeddings, known.tokenizer).save_pretrained(tmp_path)
    expected = "whole texts, because its pre-tokenizer Digits may not split at whitespace"
    assert json.loads(m2v("info", tmp_path, "--json").stdout)["encoder"] == expected
    facts = dict(line.split(maxsplit=1) for line in m2v("info", tmp_path).stdout.splitlines())
    assert facts["encoder"] == expected


def test_info_lists_the_releases_that_read_the_model(model_folder, tmp_path):
    known = StaticModel.from_pretrained(model_folder)
    StaticModel(known.token_embeddings, known.tokenizer).compressed(quantize_to="int8").save_pretrained(tmp_path)
    expected = {"model2vec": ">= 0.8", "sentence-transformers": ">= 6.2", "laghu": ">= 0.2"}
    assert json.loads(m2v("info", tmp_path, "--json").stdout)["readers"] == expected
    facts = dict(line.split(maxsplit=1) for line in m2v("info", tmp_path).stdout.splitlines())
    assert facts["readers"] == "model2vec >= 0.8; sentence-transformers >= 6.2; laghu >= 0.2"
