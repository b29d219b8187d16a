"""`m2v preflight`, run as people run it."""

from __future__ import annotations

import json

from tests.core.cli.commands import BUNDLED, m2v


def test_preflight(session_hub, tmp_path):
    done = m2v("preflight", BUNDLED)
    assert done.exit_code == 0, done.output
    for message in ("bundled", "apache-2.0", "WordPiece, 30,522 pieces", "29,525", "15.1 MB", "on two cores"):
        assert message in done.output
    done = m2v("preflight", BUNDLED, "--pca-dims", "64", "--quantize-to", "int8", "--json")
    facts = json.loads(done.stdout)
    assert (facts["n_rows"], facts["dim"], facts["n_bytes"]) == (29525, 64, 29525 * (64 + 4))
    assert facts["problems"] == []
    words = tmp_path / "words.txt"
    words.write_text("heart\nmyocardial infarction\n")
    message = " ".join(m2v("preflight", BUNDLED, "--vocabulary-path", words, "--no-use-subword").output.split())
    assert "1 of the 2 entries is already a single token in the teacher's vocabulary, but is still needed" in message
    assert "384 dimensions instead of 256: PCA requires more rows than dimensions" in message
    assert "note" not in m2v("preflight", BUNDLED, "--pca-dims", "0.9").output
    assert "myocardial infarction: my ##oca ##rdial in ##far ##ction" in message
    facts = json.loads(m2v("preflight", BUNDLED, "--vocabulary-path", words, "--json").stdout)
    assert facts["vocabulary"]["n_single"] == 1 and facts["vocabulary"]["mean_pieces"] == 6
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"sentence {number}\n" for number in range(6_000)))
    said = " ".join(m2v("preflight", BUNDLED, "--corpus", corpus, "--effort", "quick").output.split())
    assert "6,000 distinct texts; 5,000 of them are used, evenly spaced" in said
    facts = json.loads(m2v("preflight", BUNDLED, "--corpus", corpus, "--json").stdout)
    assert (facts["n_corpus_texts"], facts["corpus_note"]) == (6_000, None)
    said = " ".join(m2v("preflight", BUNDLED, "--vocabulary", "auto", "--vocabulary-size", "100").output.split())
    assert "100 frequent words of 'en' (wordfreq" in said and "29,625" in said
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("A myocardial infarction. 심장 마비 환자의 치료\n" * 9, encoding="utf-8")
    arguments = ["--vocabulary", "auto:corpus", "--corpus", corpus, "--json"]
    facts = json.loads(m2v("preflight", BUNDLED, *arguments).stdout)
    assert facts["vocabulary_source"] == "auto:corpus" and "phrases of the corpus" in facts["vocabulary_summary"]
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}')
    done = m2v("preflight", tmp_path)
    assert done.exit_code == 1
    assert "requires custom code" in done.stderr
