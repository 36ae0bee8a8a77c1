import pytest
import torch

from benchmark.errors import DivergedError, MissingError
from benchmark.result import TrialStatus
from benchmark.training.failure import status_of


def provoked_allocator_error() -> Exception:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50)
    return error.value


class RayActorError(Exception):
    """Stands for Ray's: it is known by its name alone."""


class ActorDiedError(RayActorError):
    pass


@pytest.mark.parametrize(
    ("exception", "status"),
    [
        (DivergedError("nan"), TrialStatus.DIVERGED),
        (MemoryError(), TrialStatus.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), TrialStatus.OUT_OF_MEMORY),
        (provoked_allocator_error(), TrialStatus.OUT_OF_MEMORY),
        (TimeoutError(), TrialStatus.TIMED_OUT),
        (RuntimeError("Timed out waiting 3000ms for recv operation to complete"), TrialStatus.TIMED_OUT),
        (ActorDiedError("killed"), TrialStatus.NODE_LOST),
        (RuntimeError("Connection closed by peer [127.0.0.1]:1"), TrialStatus.NODE_LOST),
        (MissingError("no weights"), TrialStatus.FAILED),
        (RuntimeError("shapes differ"), TrialStatus.FAILED),
    ],
)
def test_status_follows_from_the_exception(exception, status):
    assert status_of(exception)[0] is status


def test_reason_names_class_and_message_when_a_trial_fails():
    assert status_of(ValueError("no such block"))[1] == "ValueError: no such block"


def test_status_is_the_causes_when_ray_wraps_the_exception():
    wrapper = RuntimeError("RayTaskError")
    wrapper.cause = DivergedError("nan")  # type: ignore[attr-defined]
    assert status_of(wrapper) == (TrialStatus.DIVERGED, "DivergedError: nan")
