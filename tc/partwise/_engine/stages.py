"""
The stages of one upload, as a table.

`UploadRun` follows it, and asserts that it does. To change what follows what, change this table first.

    RECONCILE   load the checkpoint, ask the storage what it holds, decide
    START       abort what can't be resumed; save the intent, initiate, save the upload id
    PUT         store a small object with one request
    SEND        send the missing parts, record each one that is acknowledged
    COMPLETE    make the object of the parts; resolve lost responses
    RECOVER     the storage lost the upload in the middle of the run: decide again, once
    FINISH      verify the object, delete the checkpoint, return the result

The claim on the checkpoint is held from before RECONCILE until after FINISH. Any stage may end the upload with an
error; `UploadRun` translates those in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto


class Stage(Enum):
    """What an upload is doing."""

    RECONCILE = auto()
    START = auto()
    PUT = auto()
    SEND = auto()
    COMPLETE = auto()
    RECOVER = auto()
    FINISH = auto()
    DONE = auto()


TRANSITIONS: Mapping[Stage, frozenset[Stage]] = {
    # no usable checkpoint: START; resumed: SEND; an earlier run had completed it: FINISH
    Stage.RECONCILE: frozenset({Stage.START, Stage.SEND, Stage.FINISH}),
    # small: PUT; else SEND
    Stage.START: frozenset({Stage.PUT, Stage.SEND}),
    Stage.PUT: frozenset({Stage.FINISH}),
    # a stream that was resumed turned out to be empty, or the storage can never complete the upload: START
    Stage.SEND: frozenset({Stage.COMPLETE, Stage.RECOVER, Stage.START}),
    # the storage does not hold all parts as recorded: SEND; it can never complete the upload: START
    Stage.COMPLETE: frozenset({Stage.FINISH, Stage.SEND, Stage.RECOVER, Stage.START}),
    Stage.RECOVER: frozenset({Stage.START, Stage.SEND, Stage.FINISH}),
    Stage.FINISH: frozenset({Stage.DONE}),
}
