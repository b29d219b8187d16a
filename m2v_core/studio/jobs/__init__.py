"""Background jobs that survive page reloads, restarts of the app, and crashes.

    from m2v_core.studio.jobs import JobSpec, JobStore

    with JobStore("~/m2v/jobs", max_running=2) as store:
        job_id = store.submit(JobSpec("distill", {"model_name": "BAAI/bge-small-en-v1.5"}), owner="ada")
        job = store.wait(job_id, owner="ada")
        model = StaticModel.from_pretrained(store.result_folder(job_id, owner="ada"))

Importing this package does not load torch: jobs run in separate processes.
"""

from m2v_core.studio.jobs.records import Job, JobLimits, JobSpec, JobState, Stage
from m2v_core.studio.jobs.store import JobStore

__all__ = ["Job", "JobLimits", "JobSpec", "JobState", "JobStore", "Stage"]
