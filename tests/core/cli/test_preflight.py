"""`m2v preflight`, run as people run it."""

from __future__ import annotations

import json

from tests.core.cli.commands import BUNDLED, m2v


def test_preflight(session_hub, tmp_path):
    done = m2v("preflight", BUNDLED)
    assert done.exit_code == 0, done.output
    for said in ("bundled", "apache-2.0", "WordPiece, 30,522 pieces", "29,525", "15.1 MB", "on two cores"):
        assert said in done.output
    done = m2v("preflight", BUNDLED, "--pca-dims", "64", "--quantize-to", "int8", "--json")
    facts = json.loads(done.stdout)
    assert (facts["n_rows"], facts["dim"], facts["n_bytes"]) == (29525, 64, 29525 * (64 + 4))
    assert facts["problems"] == []
    words = tmp_path / "words.txt"
    words.write_text("heart\nmyocardial infarction\n")
    said = " ".join(m2v("preflight", BUNDLED, "--vocabulary-path", words, "--no-use-subword").output.split())
    assert "1 of the 2 entries is a single piece of the teacher already, and needed all the same" in said
    assert "384 dimensions, not 256: PCA needs more rows than dimensions" in said
    assert "note" not in m2v("preflight", BUNDLED, "--pca-dims", "0.9").output
    assert "myocardial infarction: my ##oca ##rdial in ##far ##ction" in said
    facts = json.loads(m2v("preflight", BUNDLED, "--vocabulary-path", words, "--json").stdout)
    assert facts["vocabulary"]["n_single"] == 1 and facts["vocabulary"]["mean_pieces"] == 6
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}')
    done = m2v("preflight", tmp_path)
    assert done.exit_code == 1
    assert "code of its own" in done.stderr
