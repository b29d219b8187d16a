"""A small model, its folder, and a Ray cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.static_models import static_model

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="package")
def model():
    return static_model()


@pytest.fixture(scope="package")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="package")
def cluster():
    """Two nodes with one core each; one of them is declared to have a GPU."""
    ray = pytest.importorskip("ray", reason="pip install 'm2v-studio[ray]'")
    from ray.cluster_utils import Cluster

    # Ray's nodes start its workers, which inherit this process's environment from them.
    of_nodes = {
        "PYTHONPATH": str(ROOT),  # this copy of the package
        "RAY_worker_niceness": "0",  # otherwise other processes of the machine get priority
    }
    before = {name: os.environ.get(name) for name in of_nodes}
    os.environ.update(of_nodes)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1, num_gpus=1)
    yield made
    ray.shutdown()
    made.shutdown()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
