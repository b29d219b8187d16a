"""The kinds of work a job can do. To add one: write a function in `studio/work`, add a line to `KINDS`."""

from __future__ import annotations

from collections.abc import Mapping

from m2v_core.distillation.settings import SETTING_NAMES
from m2v_core.studio.jobs.orders import Kind

AFTERWARDS = frozenset({"name", "license", "measure", "publish"})
"""Parameters of a distillation that say what becomes of the model."""

DESTINATION = frozenset({"repo_id", "private", "revision", "create_pr", "overwrite"})
"""Parameters that say where on the Hub a model goes, as in `m2v_core.hub.push.push_folder`."""


PRELOADED = ("m2v_core.distillation.pipeline", "m2v_core.distillation.calibration.fit")
"""What a spare worker imports before it has a job."""

KINDS: Mapping[str, Kind] = {
    "distill": Kind(
        target="m2v_core.studio.work.distilling:distill",
        parameters=frozenset({"model_name", "device", "trust_remote_code", *SETTING_NAMES}) | AFTERWARDS,
        texts=frozenset({"vocabulary", "corpus"}),
        check="m2v_core.studio.work.distilling:check",
    ),
    "speed": Kind(
        target="m2v_core.studio.work.measuring:speed",
        parameters=frozenset({"models", "teacher", "with_peer", "device", "rounds", "seconds"}),
        texts=frozenset({"texts"}),
    ),
    "evaluate": Kind(
        target="m2v_core.studio.work.evaluating:evaluate",
        parameters=frozenset(
            {"models", "peers", "teacher", "scores_teacher", "with_fidelity", "with_tasks", "with_frontier"}
            | {"shared_rows", "device"}
        ),
        texts=frozenset({"texts", "sets", "archives"}),
    ),
    "publish": Kind(
        target="m2v_core.studio.work.publishing:publish",
        parameters=frozenset({"model", "model_id", "model_name", "license"}) | DESTINATION,
        texts=frozenset({"card"}),
    ),
    "teacher_words": Kind(
        target="m2v_core.studio.work.teacher_side:read_words",
        parameters=frozenset({"model", "model_id", "teacher", "device"}),
    ),
    "teacher_documents": Kind(
        target="m2v_core.studio.work.teacher_side:read_documents",
        parameters=frozenset({"teacher", "key", "device"}),
        texts=frozenset({"documents"}),
    ),
}
