from __future__ import annotations

import errno
import os

import pytest
from ray.exceptions import NodeDiedError, RayTaskError

from fpa_verl.errors import AGAIN, DatasetError, IntegrationError
from fpa_verl.integration.safety.failures import first_cause


def in_two_tasks(cause):
    """An error of a task that another task waited for, as the command gets it."""
    return RayTaskError("outer", "trace", RayTaskError("inner", "trace", cause))


def test_an_error_of_ours_comes_through_as_it_is():
    error = DatasetError("part-00001.parquet: damaged")
    assert first_cause(in_two_tasks(error)) is error
    assert first_cause(error) is error


def test_a_full_disk_is_named_with_its_file():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/run/ledger.jsonl")
    assert str(first_cause(in_two_tasks(full))) == f"the disk is full (/data/run/ledger.jsonl): make room. {AGAIN}"


def test_a_node_that_died():
    found = first_cause(NodeDiedError("node 1234 was terminated: health check failed"))
    assert isinstance(found, IntegrationError)
    assert "a process of the run died: node 1234 was terminated" in str(found)


@pytest.mark.parametrize("error", [ValueError("anything"), OSError(errno.ENOENT, "not there"), KeyError("x")])
def test_what_is_not_known_keeps_its_trace(error):
    assert first_cause(in_two_tasks(error)) is None
    assert first_cause(error) is None
