"""The function that the demo model's worker runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.work.distilling import distill


def distill_demo(order: WorkOrder) -> Mapping[str, Any]:
    """Run `distill` at the lowest priority.

    Nothing is written to the shared cache, because the stage timings recorded there would be too long at this priority.
    """
    if hasattr(os, "nice"):
        os.nice(19)
    return distill(replace(order, shared_cache=order.private_cache))
