"""Ray Data as the engine: actors on any number of machines, each with the model, each making and writing whole files.

A static encoder makes vectors faster than processes can hand them over. So what travels is the name of a file one way
and its line of the manifest the other; Ray decides where, restarts what dies, and tries its file again.
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
from m2v_core.distributed.shards import MOST_ATTEMPTS, Outcome, Shard, died
from m2v_core.errors import InputError, M2VError, MissingExtraError
from m2v_core.native.cpus import TEACHER_ENVIRONMENT

# Below one: actors that hold every CPU would leave none for Ray's own tasks, and nothing would ever run.
CPUS_PER_ACTOR = 0.5
_CPUS_LEFT = 0.4  # of a machine that one actor has; less than half of it, or Ray may put two there
_MOST_BLOCKS = 10_000
_SECONDS_TO_CONNECT = 10.0

Share = Literal["core", "machine", "gpu"]
"""What an actor is meant to have for itself; a machine where the cluster has no GPU."""


class Worker(Protocol):
    """What does one file after the other, in an actor."""

    def encode(self, shard: Shard) -> Outcome:
        """Write the output of one, or say why not."""


def import_ray() -> Any:
    """The package, with Ray Data.

    Raises:
        MissingExtraError: It isn't installed.
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
    """The outcome of each file, as they end.

    Args:
        make: Makes an actor's worker, when its first file comes.
        folder: Of the outputs, absolute; all machines share it.
        shards: The files.
        n_workers: How many actors; None for as many as there are shares of the cluster.
        address: Of the cluster; None for the one this process is connected to or RAY_ADDRESS names, or a new one here.
        share: Of the cluster, for each actor.

    Raises:
        InputError: There is an address, and a connection already.
        M2VError: The cluster can't be reached, an actor can't start, or one died too often.
    """
    ray = import_ray()
    is_ours = not ray.is_initialized()
    if not is_ours and address is not None:
        raise InputError(f"This process is connected to a Ray cluster already, so the address {address!r} is not used.")
    try:
        if is_ours:
            _check_answers(address)
            # What workers log goes to Ray's own files; what a run has to say is in its outcomes.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        dataset = ray.data.from_items(
            [{"shard": json.dumps(asdict(shard))} for shard in shards],
            override_num_blocks=min(len(shards), _MOST_BLOCKS),
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
            f"Ray stopped: {reason.strip()} The same call goes on with what is left; M2V_DEBUG=1 shows all that Ray "
            "said."
        ) from error
    finally:
        if is_ours:
            ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Ray itself looks for a cluster for minutes before it says that there is none."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()
        except OSError as error:
            raise M2VError(
                f"No Ray cluster answers at {address} ({error.strerror or error}). Start one there (ray start --head), "
                "or name no address to use this machine."
            ) from error


def _actors(ray: Any, n_workers: int | None, n_shards: int, share: Share) -> dict[str, Any]:
    """How many there are, and what each reserves."""
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
    reserved = (min(machines) - _CPUS_LEFT) / n_on_one  # above one only whole cores
    n_threads = max(min(machines) // n_on_one, 1)
    return {
        "concurrency": n_actors,
        "num_cpus": int(reserved) if reserved > 1 else reserved,
        # Without OMP_NUM_THREADS there are as many threads as cores are reserved.
        "runtime_env": {"env_vars": TEACHER_ENVIRONMENT | {"OMP_NUM_THREADS": str(n_threads)}},
    }


class FileActor:
    """One worker of the cluster: `make` makes what does the files, and `folder` is that of the outputs."""

    def __init__(self, make: Callable[[], Worker], folder: str) -> None:
        self._make = make
        self._folder = folder
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The outcome of each file of a batch, as JSON."""
        return {"outcome": [self._done(text) for text in batch["shard"]]}

    def _done(self, text: str) -> str:
        fields = json.loads(text)
        shard = Shard(InputFile(**fields["input"]), fields["output"])
        # Ray tries without end what kills its actor, so each attempt at a file leaves a byte.
        attempts = Path(self._folder, f"{ATTEMPTS}{shard.output}")
        n_attempts = attempts.stat().st_size if attempts.exists() else 0
        if n_attempts >= MOST_ATTEMPTS:
            return json.dumps(asdict(died(shard, "a signal, or for lack of memory")))
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
