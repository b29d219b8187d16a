"""Progress events on disk."""

from __future__ import annotations

import json

from m2v_core.progress import Progress
from m2v_core.studio.jobs.progress_log import ProgressReader, ProgressWriter


def test_counters_come_back_and_older_events_have_none(tmp_path):
    file = tmp_path / "progress.jsonl"
    ProgressWriter(file)(Progress("measure", 1, 2, 0.5, 2.0, counters={"a": (654, 0.01)}))
    latest, _ = ProgressReader(file).read(0.0, False)
    assert latest.counters == {"a": [654, 0.01]}
    event = json.loads(file.read_text())
    for name in ("counters", "share", "left_seconds"):
        del event[name]
    file.write_text(json.dumps(event) + "\n")
    latest, stages = ProgressReader(file).read(0.0, False)
    assert latest.counters == {} and stages[0].name == "measure"
