"""The load of other programs, from readings of the CPU times."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from m2v_core.native.cpus import CpuTimes, read_cpu_times

BUSY = "import time\nwhile time.process_time() < 1.0: pass"


def test_load_is_the_share_of_other_programs():
    before = CpuTimes(at=10.0, used=100.0, own=5.0, n_cpus=4)
    assert CpuTimes(20.0, 130.0, 15.0, 4).other_load(before) == pytest.approx(0.5)
    assert CpuTimes(20.0, 109.0, 15.0, 4).other_load(before) == 0.0  # the readings are rounded
    assert CpuTimes(20.0, 200.0, 15.0, 4).other_load(before) == 1.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not report it")
def test_a_busy_program_counts_and_this_process_does_not():
    before = read_cpu_times()
    while time.process_time() < before.own + 1.0:
        pass
    between = read_cpu_times()
    assert between.used - before.used >= 0.9 and between.own - before.own >= 1.0
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    after = read_cpu_times()
    others = after.other_load(between) * (after.at - between.at) * after.n_cpus
    assert others >= 0.9
    assert after.own - between.own < 1.0
