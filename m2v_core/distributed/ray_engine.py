"""Ray Data as the engine: actors on any number of machines, each with the model, each encoding and writing whole files.

A static encoder makes vectors faster than processes can hand them over. So what travels is the name of a file one way
and its line of the manifest the other; Ray decides where, restarts what dies, and tries its file again.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2v_core.distributed.inputs import InputFile
from m2v_core.distributed.manifest import ATTEMPTS, Entry
from m2v_core.distributed.shards import MOST_ATTEMPTS, Job, Outcome, Shard, ShardEncoder, died
from m2v_core.errors import InputError, M2VError, MissingExtraError

# Below one: actors that hold every CPU would leave none for Ray's own tasks, and nothing would ever run.
CPUS_PER_ACTOR = 0.5
_MOST_BLOCKS = 10_000
_SECONDS_TO_CONNECT = 10.0


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


def run_on_ray(job: Job, shards: Sequence[Shard], n_workers: int | None, address: str | None) -> Iterator[Outcome]:
    """The outcome of each file, as they end.

    Args:
        job: What the files have in common.
        shards: The files.
        n_workers: How many actors; None for one for each CPU of the cluster.
        address: Of the cluster; None for the one this process is connected to or RAY_ADDRESS names, or a new one here.

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
        n_cpus = int(ray.cluster_resources().get("CPU", 1))
        n_actors = min(n_workers or n_cpus, len(shards))
        dataset = ray.data.from_items(
            [{"shard": json.dumps(asdict(shard))} for shard in shards],
            override_num_blocks=min(len(shards), _MOST_BLOCKS),
        ).map_batches(
            FileActor,
            fn_constructor_args=(job,),
            batch_size=1,
            concurrency=n_actors,
            num_cpus=min(CPUS_PER_ACTOR, n_cpus / (n_actors + 1)),
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


class FileActor:
    """One worker of the cluster.

    Args:
        job: What the files have in common.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._encoder: ShardEncoder | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The outcome of each file of a batch, as JSON."""
        return {"outcome": [self._encoded(text) for text in batch["shard"]]}

    def _encoded(self, text: str) -> str:
        fields = json.loads(text)
        shard = Shard(InputFile(**fields["input"]), fields["output"])
        # Ray tries without end what kills its actor, so each attempt at a file leaves a byte.
        attempts = Path(self._job.folder, f"{ATTEMPTS}{shard.output}")
        n_attempts = attempts.stat().st_size if attempts.exists() else 0
        if n_attempts >= MOST_ATTEMPTS:
            return json.dumps(asdict(died(shard, "a signal, or for lack of memory")))
        try:
            with attempts.open("ab") as file:
                file.write(b"x")
            if self._encoder is None:
                self._encoder = ShardEncoder(self._job)
            outcome = self._encoder.encode(shard)
            attempts.unlink(missing_ok=True)
        except M2VError as error:
            outcome = Outcome(shard.input.path, message=str(error), error=type(error).__name__)
        except OSError as error:
            message = f"{self._job.folder} can't be written on a machine of the cluster: {error.strerror or error}."
            outcome = Outcome(shard.input.path, message=message, error="SaveError")
        return json.dumps(asdict(outcome))


def _outcome(text: str) -> Outcome:
    fields = json.loads(text)
    entry = fields.pop("entry")
    return Outcome(**fields | {"entry": entry and Entry(**entry), "problems": tuple(fields["problems"])})
