"""Keeps a study's checkpoints and results at an fsspec URL too, so that a new driver elsewhere goes on from them.

The ledger stays the truth of a run. The mirror follows it from a thread: after each epoch and each end of a trial, what
the ledger holds of that trial is copied, the newest state only, so that a slow store delays nothing. A trial's folder
holds files named by their SHA-256 and one record, which is written after them and names them: whoever reads it finds
the state before or after, never a mixture.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from benchmark.errors import MissingError, RequestError
from tuning.ledger import Ledger
from tuning.mirror_url import EXAMPLE
from tuning.trial_copy import CopyRecord, copy_of, take_up

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FIELD = "resources.mirror_url"
OPEN, FINAL = "open.json", "final.json"
"""Names of the record of a trial that may go on, and of one that has ended for good."""
CLOSE_TIMEOUT_SECONDS = 120.0
"""How long the end of a run waits for what is still to be copied."""

_RETRY_SECONDS = 5.0
_NUM_READERS = 16

_logger = logging.getLogger(__name__)


class Store:
    """The folder of trials at a URL."""

    def __init__(self, url: str) -> None:
        """Name the place; nothing is asked of it yet.

        Args:
            url: Of a folder: fsspec's own protocols, or those of libraries that are installed.

        Raises:
            RequestError: Its protocol is unknown.
            MissingError: What speaks its protocol is not installed.
        """
        self.url = url.rstrip("/")
        self._files, root = _file_system(self.url)
        self._root = f"{root}/trials"
        self._names: dict[str, set[str]] = {}

    def look(self) -> dict[str, bool]:
        """Return the trials that are there, and whether each has ended for good.

        Raises:
            MissingError: The store does not answer.
        """
        with self._explained():
            self._files.invalidate_cache()
            paths = self._files.find(self._root)
        self._names = {}
        for path in paths:
            *_, trial_id, name = str(path).split("/")
            self._names.setdefault(trial_id, set()).add(name)
        return {trial_id: FINAL in names for trial_id, names in self._names.items() if names & {FINAL, OPEN}}

    def record(self, trial_id: str) -> CopyRecord | None:
        """Return what is known of a trial; none where it is damaged.

        Raises:
            MissingError: The store does not answer.
        """
        name = FINAL if FINAL in self._names[trial_id] else OPEN
        try:
            record = CopyRecord.model_validate_json(self._content(trial_id, name))
        except ValidationError:
            record = None
        if record is None or record.trial_id != trial_id:
            _logger.warning("%s/trials/%s/%s is damaged: the trial goes on without it", self.url, trial_id, name)
            return None
        return record

    def read(self, trial_id: str, sha256: str) -> bytes:
        """Return a trial's file.

        Raises:
            MissingError: It is gone or damaged.
        """
        content = self._content(trial_id, sha256)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise MissingError(f"{self.url}/trials/{trial_id}/{sha256} is damaged.")
        return content

    def write(self, record: CopyRecord, files: dict[str, bytes]) -> None:
        """Put a trial's state in the place of an earlier one."""
        before = self._names.get(record.trial_id, set())
        name = FINAL if record.is_final else OPEN
        for sha256 in files.keys() - before:
            self._put(self._place(record.trial_id, sha256), files[sha256])
        self._put(self._place(record.trial_id, name), record.model_dump_json().encode())
        for old in sorted(before - files.keys() - {name}):
            self._files.rm_file(self._place(record.trial_id, old))
        self._names[record.trial_id] = {name, *files}

    def _content(self, trial_id: str, name: str) -> bytes:
        with self._explained():
            content: bytes = self._files.cat_file(self._place(trial_id, name))
        return content

    def _put(self, place: str, content: bytes) -> None:
        # A transaction renames a local file when it is whole; an object store replaces objects whole anyway.
        with self._files.transaction:
            self._files.pipe_file(place, content)

    def _place(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store has errors of its own
            said = f"{type(error).__name__}: {error}"
            raise MissingError(f"{FIELD}: {self.url} cannot be read ({said}). Check it and its credentials.") from error


class Mirror:
    """Copies what a ledger learns to a store, in a thread; a context that ends when all is copied, or time is over."""

    def __init__(self, store: Store, ledger: Ledger, study: str) -> None:
        """Begin with nothing to do.

        Args:
            store: Where to.
            ledger: Where from.
            study: The study's name.
        """
        self._store, self._ledger, self._study = store, ledger, study
        self._changed = threading.Condition()
        self._waiting: dict[str, None] = {}
        self._under_way: str | None = None
        self._is_closing = self._is_over = False
        self._has_failed = False
        self._thread = threading.Thread(target=self._copy_all, name="adaptertune-mirror", daemon=True)

    def fetch(self, trial_ids: Collection[str] | None = None) -> list[str]:
        """Take up in the ledger what the store knows and the ledger does not; return the trials that were taken up.

        What only the ledger knows is copied from now on.

        Args:
            trial_ids: Of which trials; none: of all that ran for this study.

        Raises:
            MissingError: The store does not answer.
        """
        has_ended = self._store.look()
        wanted = set(has_ended if trial_ids is None else trial_ids)
        entries = self._ledger.entries(sorted(wanted))
        ended = {trial_id for trial_id, entry in entries.items() if entry.is_final}
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            found = readers.map(self._store.record, sorted(wanted & has_ended.keys() - ended))
            records = [one for one in found if one and (trial_ids is not None or one.study == self._study)]
        taken = [record.trial_id for record in records if self._is_ahead(record) and self._take_up(record)]
        for trial_id in entries.keys() - set(taken):
            if not has_ended.get(trial_id):
                self.note(trial_id)
        return taken

    def note(self, trial_id: str) -> None:
        """Copy a trial's state, soon."""
        with self._changed:
            self._waiting[trial_id] = None
            self._changed.notify()

    def __enter__(self) -> Mirror:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Copy what is waiting, and say what could not be copied; the next run does it."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(CLOSE_TIMEOUT_SECONDS)
        with self._changed:
            self._is_over = True
            num_left = len({*self._waiting, self._under_way} - {None})
        if num_left:
            _logger.warning("%d trials are not at %s yet: the next run copies them", num_left, self._store.url)

    def _is_ahead(self, record: CopyRecord) -> bool:
        point = self._ledger.resume_point(record.trial_id)
        return record.is_final or record.last_epoch > (point.epoch if point else -1)

    def _take_up(self, record: CopyRecord) -> bool:
        try:
            take_up(self._ledger, record, lambda sha256: self._store.read(record.trial_id, sha256))
        except MissingError as error:
            _logger.warning("Trial %s goes on without its copy: %s", record.trial_id, error)
            return False
        return True

    def _copy_all(self) -> None:
        while (trial_id := self._next()) is not None:
            try:
                copy = copy_of(self._ledger, self._study, trial_id)
                self._store.write(copy.record, copy.files)
            except Exception as error:  # whatever it is: the study goes on, and the next try may succeed
                self._put_back(trial_id, error)
            else:
                self._note_copied()

    def _next(self) -> str | None:
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            trial_id = None if self._is_over else next(iter(self._waiting), None)
            if trial_id is not None:
                # Noted again while it is copied, it is copied again.
                del self._waiting[trial_id]
                self._under_way = trial_id
            return trial_id

    def _put_back(self, trial_id: str, error: Exception) -> None:
        if not self._has_failed:
            _logger.warning("%s cannot be written; the study goes on and tries again: %s", self._store.url, error)
        self._has_failed = True
        with self._changed:
            self._waiting.setdefault(trial_id)
            self._under_way = None
            self._changed.wait(_RETRY_SECONDS)

    def _note_copied(self) -> None:
        if self._has_failed:
            _logger.warning("%s can be written again", self._store.url)
        self._has_failed, self._under_way = False, None


def _file_system(url: str) -> tuple[AbstractFileSystem, str]:
    import fsspec

    options: dict[str, Any] = {"auto_mkdir": True} if url.startswith("file:") else {}
    try:
        files, root = fsspec.url_to_fs(url, **options)
    except ImportError as error:
        hint = "for s3:// there is the extra [s3]"
        raise MissingError(f"{FIELD}: {url} needs a package that is not installed ({error}); {hint}.") from error
    except ValueError as error:
        raise RequestError(FIELD, url, str(error), EXAMPLE) from error
    return files, root
