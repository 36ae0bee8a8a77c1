"""How an exception becomes a trial's status: the only place that decides it."""

from __future__ import annotations

from benchmark.errors import DivergedError
from benchmark.result import TrialStatus

_OUT_OF_MEMORY_CLASSES = frozenset({"OutOfMemoryError", "MemoryError"})
_LOST_CLASSES = frozenset(
    {"RayActorError", "NodeDiedError", "WorkerCrashedError", "ObjectLostError", "ActorPlacementGroupRemoved"}
)
# torch raises bare RuntimeErrors for these: a class cannot tell them apart, so the text has to.
_OUT_OF_MEMORY_TEXTS = (
    "DefaultCPUAllocator: ",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_TIMED_OUT_TEXTS = ("Timed out waiting", "wait timeout after", "collective operation timeout")
_PEER_LOST_TEXTS = ("Connection closed by peer", "Connection reset by peer")

MAX_REASON_CHARACTERS = 2000


def status_of(exception: BaseException) -> tuple[TrialStatus, str]:
    """Map an exception of a trial to its status and the reason to store.

    Neither torch nor Ray is imported: their exceptions are known by their class names.

    Args:
        exception: What ended the trial.

    Returns:
        The status, and `ClassName: message`.
    """
    cause = _innermost(exception)
    names = {cls.__name__ for cls in type(cause).__mro__}
    reason = f"{type(cause).__name__}: {cause}"[:MAX_REASON_CHARACTERS]
    return _status_of(cause, names), reason


def _innermost(exception: BaseException) -> BaseException:
    # Ray wraps what a remote call raised: the wrapper's `cause` is the exception itself.
    cause = getattr(exception, "cause", None)
    return cause if isinstance(cause, BaseException) else exception


def _status_of(exception: BaseException, class_names: set[str]) -> TrialStatus:
    text = str(exception) if isinstance(exception, RuntimeError) else ""
    if isinstance(exception, DivergedError):
        return TrialStatus.DIVERGED
    if class_names & _OUT_OF_MEMORY_CLASSES or any(part in text for part in _OUT_OF_MEMORY_TEXTS):
        return TrialStatus.OUT_OF_MEMORY
    if isinstance(exception, TimeoutError) or any(part in text for part in _TIMED_OUT_TEXTS):
        return TrialStatus.TIMED_OUT
    if class_names & _LOST_CLASSES or any(part in text for part in _PEER_LOST_TEXTS):
        return TrialStatus.NODE_LOST
    return TrialStatus.FAILED
