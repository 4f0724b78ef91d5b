"""The page for users of the ten SDKs has each call beside partwise's, each option, and what is better here."""

from __future__ import annotations

import re

import pytest

SDKS = {
    "Java": "java",
    "Node.js": "javascript",
    "Python": "py",
    "C#": "csharp",
    "Android": "java",
    "Go": "go",
    "iOS": "objectivec",
    "C++": "cpp",
    "C": "c",
    "Ruby": "ruby",
}

#: What users of a resumable upload set and get, as far as their SDK has it: a word of each SDK's own for it.
WORDS = {
    "Java": """setUploadFile setTaskNum setPartSize setEnableCheckpoint setCheckpointFile setObjectMetadata setObjectAcl
        setCallback ProgressListener OSSException ClientException getErrorCode getRequestId getHostId shutdown""",
    "Node.js": """parallel partSize checkpoint progress meta mime headers callback cancel abortMultipartUpload timeout
        retryMax""",
    "Python": """store headers multipart_threshold part_size num_threads connection_pool_size progress_callback
        consumed_bytes total_bytes OssError""",
    "C#": """PartSize ParallelThreadCount CheckpointDir Metadata StreamTransferProgress TrafficLimit RequestPayer
        OssException ErrorCode RequestId HostId""",
    "Android": """setPartSize setThreadNum setDeleteUploadOnCancelling cancel onProgress resumableUpload
        asyncResumableUpload waitUntilFinished getResult isCompleted abortResumableUpload setMetadata setCallbackParam
        setCallbackVars ServiceException ClientException""",
    "Go": """partSize Routines Checkpoint CheckpointDir Progress Meta ObjectACL ForbidOverWrite Callback CallbackVar
        CallbackResult ServiceError""",
    "iOS": """objectKey uploadingFileURL partSize threadNum recordDirectoryPath deleteUploadIdOnCancelling
        uploadProgress continueWithBlock waitUntilFinished cancel OSSClientErrorCodeCannotResumeUpload contentType
        completeMetaHeader callbackParam callbackVar crcFlag""",
    "C++": """checkpointDir partSize threadNum ObjectMetaData setAcl setTagging setCallback setTrafficLimit
        TransferProgress DisableRequest isSuccess Code Message RequestId InitializeSdk ShutdownSdk""",
    "C": """part_size thread_num enable_checkpoint checkpoint_path headers params resp_headers resp_body
        aos_status_is_ok is_cname aos_http_io_initialize""",
    "Ruby": """part_size threads cpt_file disable_cpt content_type metas headers callback CallbackError
        CheckpointBrokenError FileInconsistentError""",
}

#: The rows of the tables at a glance, by a partwise name in them.
OPTIONS = [
    "OSSBackend",
    "concurrency",
    "part_size",
    "multipart_threshold",
    "resume",
    "store",
    "metadata",
    "acl",
    "callback",
    "CallbackError",
    "progress",
    "Progress.checkpoint",
    "task.pause",
    "CannotResume",
    "task.result",
    "UploadFailed",
]


@pytest.fixture(params=SDKS)
def sdk(request) -> str:
    return request.param


@pytest.fixture
def text(section, sdk: str) -> str:
    return section("coming-from-an-sdk", sdk)


def test_its_call_is_beside_partwises(text: str, sdk: str) -> None:
    beside = re.search(r'<div class="beside">\n\n(.*?)\n</div>\n', text, re.DOTALL)
    assert beside
    theirs, ours = re.findall(r"```(\w+)\n(.*?)```", beside[1], re.DOTALL)
    assert (theirs[0], ours[0]) == (SDKS[sdk], "python")
    assert "upload" in ours[1] or "start" in ours[1]
    assert max(len(line) for line in (theirs[1] + ours[1]).splitlines()) <= 57  # so that both fit, side by side


def test_each_of_its_options_is_mapped(text: str, sdk: str, tables) -> None:
    (table,) = tables(text)
    theirs, here = table[0]
    assert here == "here"
    assert all(row[theirs] and row[here] for row in table)
    mapped = " ".join(row[theirs] for row in table)
    assert [word for word in WORDS[sdk].split() if not re.search(rf"\b{re.escape(word)}\b", mapped)] == []


def test_it_says_what_is_better_here(text: str) -> None:
    better = re.search(r"^\*\*Better here\.\*\* (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert better
    assert better[1].count(".") >= 4


def test_all_ten_are_compared_by_every_option(section, tables) -> None:
    first, second = tables(section("coming-from-an-sdk", "All SDKs at a glance"))
    assert [*first[0], *second[0]] == ["here", *list(SDKS)[:5], "here", *list(SDKS)[5:]]
    assert [row["here"] for row in first] == [row["here"] for row in second]
    assert all(cell for row in [*first, *second] for cell in row.values())
    assert len(first) == len(OPTIONS)
    for option, row in zip(OPTIONS, first, strict=True):
        assert re.search(rf"\b{re.escape(option)}\b", row["here"]), option


def test_each_is_linked_from_the_top(page) -> None:
    links = re.findall(r"\[([^\]]+)\]\(#[\w-]+\)", page("coming-from-an-sdk").partition("\n## ")[0])
    assert links == list(SDKS)
