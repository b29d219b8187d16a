"""Whose access to the Hub a job uses, and which teachers it may load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from m2v_core.errors import TeacherError
from m2v_core.studio.jobs.kinds import WorkOrder

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import Encoder, TeacherEncoder


def use_hub_account(order: WorkOrder) -> None:
    """Let huggingface_hub act for the job's owner in this process, if they gave their `hf_token`.

    Downloads then go to the job's own cache: in the shared one, what one may read would be another's cache
    hit. Must come before huggingface_hub is imported, which reads its settings once.
    """
    hf_token = order.secrets.get("hf_token")
    if hf_token is None:
        return
    # Set in here, so it is no part of the environment that other processes can look up.
    os.environ["HF_TOKEN"] = hf_token
    os.environ.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)
    os.environ["HF_HUB_CACHE"] = str(order.private_cache / "hub")
    os.environ["HF_XET_CACHE"] = str(order.private_cache / "xet")


def check_teacher(order: WorkOrder, teacher: str) -> str | None:
    """Refuse a teacher larger than allowed, before anything of its weights is fetched.

    Returns:
        The commit that was looked at, which is the one to load; None where there is no limit, or no commit.

    Raises:
        TeacherError: It is larger, or can't be distilled anyway; the message says why.
        HubError: Nobody can be asked how large it is.
        NotFoundError: There is no such teacher.
    """
    if order.teacher_parameters is None:
        return None
    from m2v_core.distillation.preflight import look_up

    facts = look_up(teacher, token=order.secrets.get("hf_token"), max_parameters=order.teacher_parameters)
    if facts.problems:
        raise TeacherError(facts.problems[0])
    return facts.commit


def open_encoder(order: WorkOrder, spec: str, name: str) -> Encoder:
    """The encoder that a job was asked to measure, as `m2v eval` opens it.

    Models of the library are `static:`, whatever their files say: strangers upload them.

    Args:
        order: Says on which device a teacher runs, and how large it may be.
        spec: As for `m2v_core.evaluation.encoders.open_encoder`.
        name: What people call it.

    Raises:
        M2VError: As there, and as `check_teacher`.
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
    """The teacher of that name, with all its modules, if it is allowed.

    Raises:
        M2VError: As `open_encoder`.
    """
    return cast("TeacherEncoder", open_encoder(order, f"teacher:{name}", name))
