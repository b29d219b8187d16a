"""The work of the demo model's worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.work.distilling import distill


def distill_demo(order: WorkOrder) -> Mapping[str, Any]:
    """As `distill`, at the lowest priority.

    Nothing enters the shared cache: it records how long stages take, and at this priority they may take much longer.
    """
    if hasattr(os, "nice"):
        os.nice(19)
    return distill(replace(order, shared_cache=order.private_cache))
