"""A small model, the folder of it, and a cluster."""

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
    """Two nodes of one core each; one says that it has a GPU."""
    ray = pytest.importorskip("ray", reason="pip install 'm2v-studio[ray]'")
    from ray.cluster_utils import Cluster

    # Workers of Ray are started by its nodes, which have this process's environment.
    of_nodes = {
        "PYTHONPATH": str(ROOT),  # this very copy of the package
        "RAY_worker_niceness": "0",  # else whatever else runs on the machine goes first
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
