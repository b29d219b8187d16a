"""One click to a published model: distill the bundled teacher, evaluate, push to a local Hub and verify.

Runs the same job as the button on the app's first page, from submission to completion, in its own worker. The network
is excluded: the Hub runs on this machine.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.hub.server import LoopbackHub, User  # noqa: E402

ROUNDS = 3
LIMIT_SECONDS = 60.0
HF_TOKEN = "hf_" + "B" * 34
RESULT = Path(__file__).parent / "results" / "publish.json"


def one_click(folder: Path, number: int) -> tuple[float, dict[str, float]]:
    """Total time, and the time of each stage."""
    from m2v_core.distillation.teacher.bundled import BUNDLED_TEACHER
    from m2v_core.studio.jobs import JobSpec, JobStore

    repo_id = f"ada/model-{number}"
    parameters = {
        "model_name": BUNDLED_TEACHER,
        "name": repo_id,
        "license": "apache-2.0",
        "measure": True,
        "publish": {"repo_id": repo_id, "private": True},
    }
    # A new folder each time, because the teacher's vectors are cached next to the jobs.
    with JobStore(folder / str(number) / "jobs") as store:
        job_id = store.submit(JobSpec("distill", parameters), "ada", secrets={"publish_token": HF_TOKEN})
        job = store.wait(job_id, "ada", timeout_seconds=600)
        if "published" not in job.outcome or not job.outcome["published"]["verified"]:
            raise SystemExit(f"{job.message}\n{store.log(job_id, 'ada')}")
    assert job.finished_at is not None
    return job.finished_at - job.created_at, {stage.name: round(stage.seconds, 2) for stage in job.stages}


def main() -> None:
    load_before = os.getloadavg()
    with (
        LoopbackHub() as hub,
        hub.failing("/all-MiniLM-L6-v2(/|$)", status=403),
        tempfile.TemporaryDirectory() as folder,
    ):
        hub.users = {HF_TOKEN: User("ada")}
        os.environ.update(hub.environment(Path(folder) / "hf"))
        os.environ["PYTHONPATH"] = str(ROOT)
        runs = [one_click(Path(folder), number) for number in range(ROUNDS)]
    seconds = [run[0] for run in runs]
    median = statistics.median(seconds)
    print(f"one click to a published model: {median:.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    print(f"{median / LIMIT_SECONDS:.2f} of the {LIMIT_SECONDS:.0f} s limit; load before: {load_before[0]:.1f}")
    record = {
        "seconds_of_each_round": seconds,
        "stages_of_each_round": [run[1] for run in runs],
        "share_of_the_limit": median / LIMIT_SECONDS,
        "limit_seconds": LIMIT_SECONDS,
        "load_before": load_before[0],
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
