"""Hub access and permitted teachers of a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from m2v_core.errors import TeacherError
from m2v_core.studio.jobs.kinds import WorkOrder

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import Encoder, TeacherEncoder


def use_hub_account(order: WorkOrder) -> None:
    """Sign huggingface_hub in as the job's owner in this process, if the job has an `hf_token`.

    Downloads then use the job's private cache, as private files in the shared cache would be accessible to other
    users. Must be called before huggingface_hub is imported, which reads its settings once.
    """
    hf_token = order.secrets.get("hf_token")
    if hf_token is None:
        return
    # Set at runtime, so that it is not in the process's initial environment, which other processes can read.
    os.environ["HF_TOKEN"] = hf_token
    os.environ.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)
    os.environ["HF_HUB_CACHE"] = str(order.private_cache / "hub")
    os.environ["HF_XET_CACHE"] = str(order.private_cache / "xet")


def check_teacher(order: WorkOrder, teacher: str) -> str | None:
    """Check the size of a teacher before its weights are downloaded.

    Returns:
        The checked commit, which is the one to load; None without a limit, or for a local teacher.

    Raises:
        TeacherError: The teacher is too large, or can't be distilled.
        HubError: The Hub can't be reached.
        NotFoundError: The teacher does not exist.
    """
    if order.teacher_parameters is None:
        return None
    from m2v_core.distillation.preflight import look_up

    facts = look_up(teacher, token=order.secrets.get("hf_token"), max_parameters=order.teacher_parameters)
    if facts.problems:
        raise TeacherError(facts.problems[0])
    return facts.commit


def open_encoder(order: WorkOrder, spec: str, name: str) -> Encoder:
    """Open an encoder, as `m2v eval` does.

    Pass library models as `static:`, whatever their files declare, because they may be untrusted uploads.

    Args:
        order: The job, with the device and the maximum size of a teacher.
        spec: As for `m2v_core.evaluation.encoders.open_encoder`.
        name: Name for users.

    Raises:
        M2VError: As in `encoders.open_encoder` and `check_teacher`.
    """
    from m2v_core.evaluation import encoders

    def folder(teacher: str) -> Path:
        from m2v_core.distillation.teacher.teacher import trusted_folder

        return trusted_folder(teacher, check_teacher(order, teacher))

    def device() -> str:
        from m2v_core.distillation.teacher.teacher import resolve_device

        return resolve_device(order.parameters.get("device"))

    return encoders.open_encoder(spec, name, teacher_folder=folder, device=device)


def load_teacher(order: WorkOrder, name: str) -> TeacherEncoder:
    """Load a teacher with all of its modules, if it is permitted.

    Raises:
        M2VError: As in `open_encoder`.
    """
    return cast("TeacherEncoder", open_encoder(order, f"teacher:{name}", name))
