"""Checks of claims: exclusive, renewed, lost, fenced (16, 21, 22)."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from partwise._units import format_seconds
from partwise.errors import CheckpointBusy, ClaimLost
from partwise.model import ClaimOwner
from partwise.protocols import CheckpointStore, SupportsClaimCheck
from partwise.testing.conformance.store_harness import (
    StoreHarness,
    append,
    delete,
    enter_claim,
    must_load,
    sample,
    sample_part,
    save,
)
from partwise.testing.conformance.suite import NotApplicable, Suite, must_raise, must_return

CHECKS: Suite[StoreHarness] = Suite()

#: Seconds in which a claim is refused. It takes a request or two, however busy the machine is.
_REFUSED_WITHIN = 1.0

#: Seconds after which a claim that is not refused counts as waiting.
_WAITS_MAX = 10.0

#: Seconds in which a server notices that the connection of a killed process is closed.
_NOTICED_WITHIN = 1.0

#: Seconds for which a claim is held to see whether it ends by itself, if no lease is declared.
_HELD_FOR = 1.0


# --- claims ----------------------------------------------------------------------------------------------------------


class _Interrupted(Exception):
    """Raised while a claim is held."""


@CHECKS.covers(16)
def check_claim_is_exclusive(harness: StoreHarness) -> None:
    """A held claim is refused to any handle or thread until it is released."""
    one, other = harness.open_for_test(), harness.open_for_test()
    name = sample().name
    with one.claim(name), ThreadPoolExecutor(max_workers=1) as pool:
        must_raise(CheckpointBusy, "this handle holds the claim", enter_claim, one, name)
        must_raise(CheckpointBusy, "another handle holds the claim", enter_claim, other, name)
        must_raise(CheckpointBusy, "another thread holds the claim", pool.submit(enter_claim, other, name).result)
        if not harness.holds_one:
            enter_claim(other, sample(2).name)

    def interrupted() -> None:
        with one.claim(name):
            raise _Interrupted

    must_raise(_Interrupted, "an error raised while a claim is held propagates", interrupted)
    not_entered = one.claim(name)
    must_return("a claim is released on an error", enter_claim, other, name)
    with other.claim(name):
        must_raise(CheckpointBusy, "the claim is acquired on entering the context", not_entered.__enter__)
    must_return("a claim is released on leaving the context", enter_claim, one, name)


@CHECKS.covers(16)
def check_claim_race(harness: StoreHarness) -> None:
    """Of many threads that claim at the same time, at most one holds the claim."""
    name = sample().name
    stores = [harness.open_for_test() for _ in range(4)]
    start = threading.Barrier(len(stores))
    holders: list[int] = []
    most: list[int] = []

    def claim_repeatedly(store: CheckpointStore) -> None:
        start.wait()
        for _ in range(25):
            try:
                with store.claim(name):
                    holders.append(1)
                    time.sleep(0.001)  # lets the other threads try
                    most.append(len(holders))
                    holders.pop()
            except CheckpointBusy:
                pass

    with ThreadPoolExecutor(max_workers=len(stores)) as pool:
        list(pool.map(claim_repeatedly, stores))
    assert most, "one of the threads acquires the claim"
    assert max(most) == 1, "at most one thread holds the claim"


@CHECKS.covers(16)
def check_claim_never_waits(harness: StoreHarness) -> None:
    """A claim that is held is refused at once, to each handle."""
    one, other = harness.open_for_test(), harness.open_for_test()
    name = sample().name
    with one.claim(name):
        for store in (one, other):
            quickest = min(_seconds_until_refused(store, name) for _ in range(3))
            assert quickest < _REFUSED_WITHIN, f"a claim is refused at once, and not after {quickest:.1f} seconds"


def _seconds_until_refused(store: CheckpointStore, name: str) -> float:
    """Claim in a thread, which is left behind if it waits for too long."""
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def claim() -> None:
        try:
            enter_claim(store, name)
        except BaseException as error:  # noqa: BLE001  # reported below
            outcomes.put(error)
        else:
            outcomes.put(None)

    started = time.monotonic()
    threading.Thread(target=claim, daemon=True).start()
    try:
        outcome = outcomes.get(timeout=_WAITS_MAX)
    except queue.Empty:
        raise AssertionError(
            f"a claim is refused at once, and does not wait for {format_seconds(_WAITS_MAX)}"
        ) from None
    assert isinstance(outcome, CheckpointBusy), f"a claim that is held is refused: {outcome!r}"
    return time.monotonic() - started


@CHECKS.covers(16)
def check_claim_is_kept(harness: StoreHarness) -> None:
    """A claim lasts as long as its context, which may be days: a lease is renewed."""
    one, other = harness.open_for_test(), harness.open_for_test()
    checkpoint = sample()
    with one.claim(checkpoint.name):
        one.save(checkpoint)
        _hold(harness)
        must_raise(CheckpointBusy, "a claim is kept until its context ends", enter_claim, other, checkpoint.name)
        must_return("the holder can write", one.append_part, checkpoint.name, "upload", sample_part(1))
    must_return("a claim is released on leaving the context", enter_claim, other, checkpoint.name)


def _hold(harness: StoreHarness) -> None:
    time.sleep(max(_HELD_FOR, 1.5 * harness.claim_outlives_its_process))


@CHECKS.covers(16)
def check_claim_ends_with_its_process(harness: StoreHarness) -> None:
    """A claim of another process is respected, and ends when that is killed."""
    opener = harness.elsewhere()
    if opener is None:
        raise harness.without("elsewhere", ", so that no other process can open the store")
    store = harness.open_for_test()
    name = sample().name
    with _claimed_elsewhere(opener, name):
        must_raise(CheckpointBusy, "another process holds the claim", enter_claim, store, name)
        _hold(harness)
        must_raise(CheckpointBusy, "a claim is kept while its process lives", enter_claim, store, name)
    _must_end(harness, store, name, "the claim of a killed process is released")


@CHECKS.covers(16)
def check_claim_owner(harness: StoreHarness) -> None:
    """The optional `claim_owner` names the process that holds the claim."""
    one, other = harness.open_for_test(), harness.open_for_test()
    claim_owner = getattr(other, "claim_owner", None)
    if claim_owner is None:
        raise NotApplicable("the store has no method claim_owner")
    name, another = sample().name, sample(2).name
    _must_name(claim_owner, name, None, "there is no claim")
    with one.claim(name):
        _must_name(claim_owner, name, os.getpid(), "another handle of this process holds the claim")
        if not harness.holds_one:
            _must_name(claim_owner, another, None, "the claim on another name is held")
        must_raise(CheckpointBusy, "claim_owner does not end the claim", enter_claim, other, name)
    _must_name(claim_owner, name, None, "the claim was released")
    must_return("claim_owner claims nothing", enter_claim, one, name)
    opener = harness.elsewhere()
    if opener is not None:
        with _claimed_elsewhere(opener, name) as process:
            _must_name(claim_owner, name, process, "another process holds the claim")


def _must_name(claim_owner: Callable[[str], object], name: str, process: int | None, why: str) -> None:
    owner = must_return("claim_owner", claim_owner, name)
    if process is None:
        assert owner is None, f"claim_owner is None: {why}, and not {owner!r}"
        return
    assert isinstance(owner, ClaimOwner), f"claim_owner is a ClaimOwner: {why}, and not {owner!r}"
    assert owner.process == process, f"claim_owner names process {process}: {why}, and not {owner!r}"
    assert owner.host, f"claim_owner names the host: {why}, and not {owner!r}"


def _must_end(harness: StoreHarness, store: CheckpointStore, name: str, duty: str) -> None:
    """Assert that a claim ends, at once or after the time of a lease."""
    deadline = time.monotonic() + harness.claim_outlives_its_process + _NOTICED_WITHIN
    while time.monotonic() < deadline:
        try:
            enter_claim(store, name)
        except CheckpointBusy:
            time.sleep(0.02)
        else:
            return
    must_return(duty, enter_claim, store, name)


_CLAIM = """
import pickle, sys
opener, name = pickle.loads(bytes.fromhex(sys.argv[1]))
with opener().claim(name):
    print("claimed", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _claimed_elsewhere(opener: Callable[[], CheckpointStore], name: str) -> Iterator[int]:
    """Hold the claim in another process, killed at the end; yield its id."""
    with _start_python(_CLAIM, pickle.dumps((opener, name)).hex()) as process:
        try:
            assert process.stdout is not None, "stdout is a pipe"
            assert process.stdout.readline().strip() == b"claimed", "another process can claim a checkpoint"
            yield process.pid
        finally:
            process.kill()


def _start_python(code: str, argument: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # fixed code in this interpreter
        [sys.executable, "-c", code, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


# --- fencing ---------------------------------------------------------------------------------------------------------


@CHECKS.covers(21)
def check_fencing(harness: StoreHarness) -> None:
    """Only the checkpoint of the same upload is appended to or deleted."""
    store = harness.open_for_test()
    long_id = "u" * 1023
    cases: list[tuple[str | None, tuple[str | None, ...]]] = [
        ("second", ("first", None, "secon", "Second")),
        (None, ("first", "None")),
        (long_id + "1", (long_id + "2", long_id)),
    ]
    for recorded, others in cases:
        checkpoint = sample(1, 1, upload_id=recorded)
        save(store, checkpoint)
        for upload_id in others:
            duty = f"the checkpoint is that of {_shown(recorded)}, not of {_shown(upload_id)}"
            must_raise(ClaimLost, duty, delete, store, checkpoint.name, upload_id)
            if upload_id is not None:
                must_raise(ClaimLost, duty, append, store, checkpoint.name, sample_part(2), upload_id=upload_id)
            must_load(store, checkpoint, f"{duty}, and is unchanged")
        if recorded is not None:
            append(store, checkpoint.name, sample_part(3), upload_id=recorded)
        delete(store, checkpoint.name, recorded)
        assert store.load(checkpoint.name) is None, f"the checkpoint of {_shown(recorded)} is deleted by its id"


@CHECKS.covers(21)
def check_fencing_of_a_handle(harness: StoreHarness) -> None:
    """What is stored decides, and not what a handle has written before."""
    one, other = harness.open_for_test(), harness.open_for_test()
    first, second = sample(1, upload_id="first"), sample(1, 1, upload_id="second")
    save(one, first)
    append(one, first.name, sample_part(1), upload_id="first")
    save(other, second)
    duty = "another handle has saved the checkpoint of another upload"
    must_raise(ClaimLost, duty, append, one, first.name, sample_part(2), upload_id="first")
    must_raise(ClaimLost, duty, delete, one, first.name, "first")
    must_load(one, second, f"{duty}, which is unchanged")


def _shown(upload_id: str | None) -> str:
    if upload_id is None:
        return "an upload without an id"
    return f"upload {upload_id!r}" if len(upload_id) < 100 else f"an upload id of {len(upload_id)} characters"


# --- a lost claim ----------------------------------------------------------------------------------------------------


@CHECKS.covers(22)
def check_claim_check(harness: StoreHarness) -> None:
    """While the handle holds the claim, `check_claim` returns; else it is ClaimLost."""
    one, other = harness.open_for_test(), harness.open_for_test()
    if not isinstance(one, SupportsClaimCheck) or not isinstance(other, SupportsClaimCheck):
        raise NotApplicable("the store does not implement check_claim: its claims can't be lost")
    name = sample().name
    must_raise(ClaimLost, "the claim is not held", one.check_claim, name)
    with one.claim(name):
        must_return("the claim is held", one.check_claim, name)
        must_raise(ClaimLost, "another handle holds the claim", other.check_claim, name)
        if not harness.holds_one:
            must_raise(ClaimLost, "the claim on another name is held", one.check_claim, sample(2).name)
    must_raise(ClaimLost, "the claim was released", one.check_claim, name)


@CHECKS.covers(22)
def check_is_claimed(harness: StoreHarness) -> None:
    """The optional `is_claimed` tells whether any handle holds the claim."""
    one, other = harness.open_for_test(), harness.open_for_test()
    is_claimed = getattr(other, "is_claimed", None)
    if is_claimed is None:
        raise NotApplicable("the store has no method is_claimed")
    name = sample().name
    assert not must_return("is_claimed", is_claimed, name), "is_claimed is False: there is no claim"
    with one.claim(name):
        assert must_return("is_claimed", is_claimed, name), "is_claimed is True: another handle holds the claim"
        if isinstance(one, SupportsClaimCheck):
            must_return("is_claimed does not end the claim", one.check_claim, name)
    assert not must_return("is_claimed", is_claimed, name), "is_claimed is False: the claim was released"
    must_return("is_claimed claims nothing", enter_claim, one, name)


@CHECKS.covers(22)
def check_lost_claim(harness: StoreHarness) -> None:
    """A handle that has lost its claim changes nothing, even in the same upload."""
    one, other, third = (harness.open_for_test() for _ in range(3))
    if not isinstance(one, SupportsClaimCheck):
        raise NotApplicable("the store does not implement check_claim: its claims can't be lost")
    checkpoint = sample(1, 1)
    name = checkpoint.name
    claim = one.claim(name)
    with claim:
        one.save(checkpoint)
        if not harness.lose_claim(one, name):
            raise harness.without("lose_claim")
        with other.claim(name):
            _must_refuse(one, name, "another handle holds the claim")
            must_load(other, checkpoint, "the handle that has lost its claim changed nothing")
            other.append_part(name, "upload", sample_part(2))
            _must_refuse(one, name, "another handle holds the claim")
            must_load(other, sample(1, 1, 2), "the handle that has lost its claim changed nothing")
        with other.claim(name):
            other.delete(name, "upload")
        must_raise(ClaimLost, "another handle has claimed the name, and released it", one.save, checkpoint)
        assert third.load(name) is None, "a handle that has lost its claim does not save"


@CHECKS.covers(22)
def check_leaving_a_lost_claim(harness: StoreHarness) -> None:
    """Leaving the context of a lost claim raises nothing, and releases nothing."""
    one, other, third = (harness.open_for_test() for _ in range(3))
    if not isinstance(other, SupportsClaimCheck):
        raise NotApplicable("the store does not implement check_claim: its claims can't be lost")
    name = sample().name
    claim = one.claim(name)
    claim.__enter__()
    lost = False
    try:
        lost = harness.lose_claim(one, name)
        if not lost:
            raise harness.without("lose_claim")
        with other.claim(name):
            must_return("leaving the context of a lost claim raises nothing", claim.__exit__, None, None, None)
            must_raise(CheckpointBusy, "leaving it does not release another claim", enter_claim, third, name)
            must_return("leaving it does not end another claim", other.check_claim, name)
    finally:
        if not lost:
            claim.__exit__(None, None, None)


def _must_refuse(store: SupportsClaimCheck, name: str, why: str) -> None:
    must_raise(ClaimLost, f"{why}: check_claim", store.check_claim, name)
    must_raise(ClaimLost, f"{why}: save", store.save, sample(1, 3))
    must_raise(ClaimLost, f"{why}: append_part", store.append_part, name, "upload", sample_part(4))
    must_raise(ClaimLost, f"{why}: delete", store.delete, name, "upload")


@CHECKS.covers(22)
def check_renewal_of_a_lost_claim(harness: StoreHarness) -> None:
    """A handle that has lost its lease does not renew the one of another process."""
    one, third = (harness.open_for_test() for _ in range(2))
    if not isinstance(one, SupportsClaimCheck):
        raise NotApplicable("the store does not implement check_claim: its claims can't be lost")
    if not harness.claim_outlives_its_process:
        raise NotApplicable("claims are not renewed: they end with their process, as declared")
    opener = harness.elsewhere()
    if opener is None:
        raise harness.without("elsewhere", ", so that no other process can open the store")
    name = sample().name
    with one.claim(name):
        if not harness.lose_claim(one, name):
            raise harness.without("lose_claim")
        with _claimed_elsewhere(opener, name):
            must_raise(CheckpointBusy, "another process holds the claim", enter_claim, third, name)
        duty = "the claim of a killed process is released, also while a handle runs that has lost its claim before"
        _must_end(harness, third, name, duty)
