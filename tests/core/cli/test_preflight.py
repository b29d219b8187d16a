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
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "mine.Model"}}')
    done = m2v("preflight", tmp_path)
    assert done.exit_code == 1
    assert "code of its own" in done.stderr
