"""Guards that a driver elsewhere goes on from a study's mirror: over a folder and over a local S3-compatible server."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.errors import MissingError, RequestError
from benchmark.result import TrialStatus
from tests.integration import tracking_samples as samples
from tuning import mirror as module
from tuning.ledger import Ledger
from tuning.mirror import Mirror, Store
from tuning.study import load_study

MISSING = [name for name in ("moto", "s3fs") if importlib.util.find_spec(name) is None]
NEEDS_S3 = pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}")
SPEC = samples.trial_spec()
TRIAL = SPEC.trial_id


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A bucket of a server on the loopback address, named to clients by environment variables alone."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name, value in {
            "ACCESS_KEY_ID": "key",
            "SECRET_ACCESS_KEY": "secret",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(f"AWS_{name}", value)
        boto3.client("s3").create_bucket(Bucket="studies")
        S3FileSystem.clear_instance_cache()
        yield "s3://studies"
        S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["file", pytest.param("s3", marks=NEEDS_S3)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/mirror"
    return f"{request.getfixturevalue('s3_url')}/{tmp_path.name}"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """One trial, three epochs of which are behind."""
    ledger = Ledger(tmp_path / "here")
    ledger.record_running(TRIAL, "demo")
    for epoch in range(3):
        train_on(ledger, epoch)
    return ledger


def train_on(ledger: Ledger, epoch: int) -> None:
    ledger.record_epoch(TRIAL, samples.epoch_record(epoch), b"checkpoint %d" % epoch, wall_seconds=epoch + 0.5)


def copied(ledger: Ledger, url: str) -> None:
    with Mirror(Store(url), ledger, "demo") as mirror:
        mirror.note(TRIAL)


def elsewhere(tmp_path: Path, url: str, name: str = "there") -> tuple[Ledger, list[str]]:
    """Return a new driver's ledger, and what it took up."""
    ledger = Ledger(tmp_path / name)
    with Mirror(Store(url), ledger, "demo") as mirror:
        return ledger, mirror.fetch([TRIAL])


def test_trial_goes_on_from_its_last_epoch_when_the_driver_is_a_new_one(
    ledger: Ledger, url: str, tmp_path: Path
) -> None:
    copied(ledger, url)
    there, taken = elsewhere(tmp_path, url)
    assert taken == [TRIAL]
    assert there.begin(TRIAL, "demo") == ledger.resume_point(TRIAL)
    assert there.epochs(TRIAL) == ledger.epochs(TRIAL)


def test_ended_trial_comes_back_whole_and_never_runs_again(ledger: Ledger, url: str, tmp_path: Path) -> None:
    copied(ledger, url)
    ledger.record_outcome(samples.completed(SPEC))
    copied(ledger, url)
    there, _ = elsewhere(tmp_path, url)
    assert there.outcome(TRIAL) == samples.completed(SPEC)
    assert there.entries([TRIAL])[TRIAL].state is TrialStatus.COMPLETED
    assert there.epochs(TRIAL) == samples.completed(SPEC).result.epochs


def test_failed_trial_keeps_what_it_goes_on_from(ledger: Ledger, url: str, tmp_path: Path) -> None:
    ledger.record_outcome(samples.ended(SPEC, TrialStatus.NODE_LOST, "gone"))
    copied(ledger, url)
    there, _ = elsewhere(tmp_path, url)
    assert there.entries([TRIAL])[TRIAL].state is TrialStatus.NODE_LOST
    assert there.resume_point(TRIAL) == ledger.resume_point(TRIAL)


def names_of(url: str) -> list[str]:
    import fsspec

    files, root = fsspec.url_to_fs(url)
    files.invalidate_cache()
    return sorted(str(path).rpartition("/")[2] for path in files.find(root))


def test_only_the_newest_state_is_kept(ledger: Ledger, url: str) -> None:
    store = Store(url)
    with Mirror(store, ledger, "demo") as mirror:
        mirror.note(TRIAL)
    train_on(ledger, 3)
    copied_again = Mirror(store, ledger, "demo")
    with copied_again:
        copied_again.note(TRIAL)
    assert len(names_of(url)) == 2 and names_of(url)[-1] == "open.json"
    ledger.record_outcome(samples.completed(SPEC))
    with Mirror(store, ledger, "demo") as mirror:
        mirror.note(TRIAL)
    assert len(names_of(url)) == 3 and "final.json" in names_of(url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def test_ledger_keeps_what_it_has_when_it_is_ahead(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    copied(ledger, folder.as_uri())
    train_on(ledger, 3)
    with Mirror(Store(folder.as_uri()), ledger, "demo") as mirror:
        assert mirror.fetch([TRIAL]) == []
    point = ledger.resume_point(TRIAL)
    assert point is not None and point.epoch == 3
    there, _ = elsewhere(tmp_path, folder.as_uri())
    assert there.resume_point(TRIAL) == point, "what the mirror lacked was copied"


@pytest.mark.parametrize("damaged", ["open.json", "*[0-9a-f]"])
def test_trial_begins_anew_when_its_copy_is_damaged(
    ledger: Ledger, folder: Path, tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    copied(ledger, folder.as_uri())
    (file,) = (folder / "trials" / TRIAL).glob(damaged)
    file.write_bytes(file.read_bytes()[:-3])
    there, taken = elsewhere(tmp_path, folder.as_uri())
    assert taken == [] and there.entries([TRIAL]) == {}
    assert "goes on without it" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [('"trial_id":"../../evil00000"', f'"trial_id":"{TRIAL}"'), ('"checkpoint":"../x"', '"checkpoint":"')],
)
def test_names_from_the_mirror_lead_to_no_other_file(
    ledger: Ledger, folder: Path, tmp_path: Path, wrong: str, right: str
) -> None:
    copied(ledger, folder.as_uri())
    record = folder / "trials" / TRIAL / "open.json"
    text = record.read_text()
    start = text.index(right)
    end = text.index(",", start)
    record.write_text(text[:start] + wrong + text[end:])
    there, taken = elsewhere(tmp_path, folder.as_uri())
    assert taken == [] and there.entries([TRIAL]) == {}


def test_study_goes_on_and_is_copied_later_when_the_mirror_cannot_be_written(
    ledger: Ledger, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    caplog.set_level(logging.WARNING)
    folder.write_text("a file is in the way")
    with Mirror(Store(folder.as_uri()), ledger, "demo") as mirror:
        mirror.note(TRIAL)
        wait_until(lambda: "cannot be written" in caplog.text)
        folder.unlink()
        wait_until(lambda: "can be written again" in caplog.text)
    assert elsewhere(tmp_path, folder.as_uri())[1] == [TRIAL]


def test_run_ends_when_the_mirror_stays_away(
    ledger: Ledger, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_SECONDS", 0.3)
    folder.write_text("a file is in the way")
    copied(ledger, folder.as_uri())
    assert "1 trials are not at" in caplog.text


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


@NEEDS_S3
def test_refusal_names_the_place_when_there_is_no_such_bucket(ledger: Ledger, s3_url: str) -> None:
    with Mirror(Store("s3://no-such-bucket/folder"), ledger, "demo") as mirror, pytest.raises(MissingError) as refusal:
        mirror.fetch([TRIAL])
    assert "resources.mirror_url: s3://no-such-bucket/folder" in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("results", "no URL of a folder"),
        ("s3:studies", "no URL of a folder"),
        ("https://me:secret@store/studies", "would stand in every report"),
    ],
)
def test_study_is_refused_when_its_mirror_is_no_place(url: str, rule: str) -> None:
    with pytest.raises(RequestError, match=rule):
        load_study("demo", [f"resources.mirror_url={url}"])


def test_refusal_says_what_to_give_when_a_protocol_is_unknown() -> None:
    with pytest.raises(RequestError, match=r"resources\.mirror_url.*For example s3://"):
        Store("nowhere://studies")
