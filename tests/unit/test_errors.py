"""The error tree, and what its messages say."""

from __future__ import annotations

import inspect

import pytest

from aijobs import AijobsError, ConfigurationError, JobNotFound, PublishFailed, errors

ALL = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_one_of_aijobs_and_drawn_in_the_tree(error: type[Exception]) -> None:
    assert issubclass(error, AijobsError)
    assert error.__name__ in (errors.__doc__ or "")
    assert error.__doc__


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(JobNotFound, LookupError)


def test_an_unknown_id_is_named_safely() -> None:
    error = JobNotFound("no\nsuch")
    assert error.job_id == "no\nsuch"
    assert str(error) == "No job has the id 'no\\nsuch': it was never submitted here, or its retention has passed."


def test_a_failed_publish_names_its_job() -> None:
    error = PublishFailed("job-1", "TimeoutError")
    assert error.job_id == "job-1"
    assert str(error) == "Job job-1 could not be sent to the broker: TimeoutError"
