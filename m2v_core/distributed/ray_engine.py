"""Ray Data as the engine: actors on any number of machines, each with its own model, encode and write whole files.

Static models compute embeddings faster than processes can transfer them. Therefore only the name of a file is sent to
an actor, and its manifest entry back; Ray schedules the actors, restarts dead ones and retries their files.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from m2v_core.bulk.inputs import InputFile
from m2v_core.bulk.manifest import ATTEMPTS, Entry
from m2v_core.distributed.shards import MAX_ATTEMPTS, Outcome, Shard, worker_died
from m2v_core.errors import InputError, M2VError, MissingExtraError
from m2v_core.native.cpus import TEACHER_ENVIRONMENT

# Below 1, because actors that reserve every CPU leave none for Ray's own tasks, which would block forever.
CPUS_PER_ACTOR = 0.5
_CPUS_LEFT = 0.4  # CPUs left on a machine with one actor; less than half of them, or Ray may schedule two there
_MAX_BLOCKS = 10_000
_SECONDS_TO_CONNECT = 10.0

Share = Literal["core", "machine", "gpu"]
"""The resources of one actor; "gpu" means a whole machine if the cluster has no GPU."""


class Worker(Protocol):
    """Encodes files one at a time in an actor."""

    def encode(self, shard: Shard) -> Outcome:
        """Write the output of a file, or return the reason for the failure."""


def import_ray() -> Any:
    """Import Ray with Ray Data.

    Raises:
        MissingExtraError: Ray isn't installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


def run_on_ray(
    make: Callable[[], Worker],
    folder: str,
    shards: Sequence[Shard],
    n_workers: int | None,
    address: str | None,
    share: Share = "core",
) -> Generator[Outcome, None, None]:
    """Yield the outcome of each file in order of completion.

    Args:
        make: Creates an actor's worker when it gets its first file.
        folder: Folder of the outputs, an absolute path shared by all machines.
        shards: The files.
        n_workers: Number of actors; None to use the whole cluster.
        address: Address of the cluster; None for the current connection, RAY_ADDRESS, or a new local cluster.
        share: Resources of each actor.

    Raises:
        InputError: An address was passed, but this process is already connected.
        M2VError: The cluster can't be reached, an actor can't start, or one died too often.
    """
    ray = import_ray()
    is_ours = not ray.is_initialized()
    if not is_ours and address is not None:
        raise InputError(f"This process is already connected to a Ray cluster; the address {address!r} can't be used.")
    try:
        if is_ours:
            _check_answers(address)
            # Workers log to Ray's own files; messages for the user are in the outcomes.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        dataset = ray.data.from_items(
            [{"shard": json.dumps(asdict(shard))} for shard in shards],
            override_num_blocks=min(len(shards), _MAX_BLOCKS),
        ).map_batches(
            FileActor,
            fn_constructor_args=(make, folder),
            batch_size=1,
            **_actors(ray, n_workers, len(shards), share),
        )
        for row in dataset.iter_rows():
            yield _outcome(row["outcome"])
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        if isinstance(error, M2VError):
            raise
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise M2VError(
            f"Ray stopped: {reason.strip()} Repeat the same call to resume; M2V_DEBUG=1 shows the full error of Ray."
        ) from error
    finally:
        if is_ours:
            ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Raise an error if no cluster responds, which Ray itself reports only after minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
        except OSError as error:
            raise M2VError(
                f"No Ray cluster responds at {address} ({error.strerror or error}). Start one there (ray start --head) "
                "or omit the address to use this machine."
            ) from error


def _actors(ray: Any, n_workers: int | None, n_shards: int, share: Share) -> dict[str, Any]:
    """Arguments for Ray: the number of actors, and the resources of each."""
    resources = ray.cluster_resources()
    n_cpus, n_gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if share == "core":
        n_actors = min(n_workers or n_cpus, n_shards)
        return {"concurrency": n_actors, "num_cpus": min(CPUS_PER_ACTOR, n_cpus / (n_actors + 1))}
    if share == "gpu" and n_gpus:
        return {
            "concurrency": min(n_workers or n_gpus, n_gpus, n_shards),
            "num_gpus": 1,
            "runtime_env": {"env_vars": TEACHER_ENVIRONMENT},
        }
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    machines = [n_cores for n_cores in machines if n_cores] or [1]
    n_actors = min(n_workers or len(machines), n_shards)
    n_on_one = -(-n_actors // len(machines))
    reserved = (min(machines) - _CPUS_LEFT) / n_on_one  # Ray only accepts whole cores above 1
    n_threads = max(min(machines) // n_on_one, 1)
    return {
        "concurrency": n_actors,
        "num_cpus": int(reserved) if reserved > 1 else reserved,
        # Without OMP_NUM_THREADS, Ray limits the threads to the number of reserved cores.
        "runtime_env": {"env_vars": TEACHER_ENVIRONMENT | {"OMP_NUM_THREADS": str(n_threads)}},
    }


class FileActor:
    """An actor of the cluster: `make` creates its worker, and `folder` is the folder of the outputs."""

    def __init__(self, make: Callable[[], Worker], folder: str) -> None:
        self._make = make
        self._folder = folder
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the outcome of each file of a batch, as JSON."""
        return {"outcome": [self._done(text) for text in batch["shard"]]}

    def _done(self, text: str) -> str:
        fields = json.loads(text)
        shard = Shard(InputFile(**fields["input"]), fields["output"])
        # Ray retries forever if a file kills its actor, so attempts are counted by the size of a file.
        attempts = Path(self._folder, f"{ATTEMPTS}{shard.output}")
        n_attempts = attempts.stat().st_size if attempts.exists() else 0
        if n_attempts >= MAX_ATTEMPTS:
            return json.dumps(asdict(worker_died(shard, "a signal or lack of memory")))
        try:
            with attempts.open("ab") as file:
                file.write(b"x")
            if self._worker is None:
                self._worker = self._make()
            outcome = self._worker.encode(shard)
            attempts.unlink(missing_ok=True)
        except M2VError as error:
            outcome = Outcome(shard.input.path, message=str(error), error=type(error).__name__)
        except OSError as error:
            message = f"{self._folder} can't be written on a machine of the cluster: {error.strerror or error}."
            outcome = Outcome(shard.input.path, message=message, error="SaveError")
        return json.dumps(asdict(outcome))


def _outcome(text: str) -> Outcome:
    fields = json.loads(text)
    entry = fields.pop("entry")
    return Outcome(**fields | {"entry": entry and Entry(**entry), "problems": tuple(fields["problems"])})
