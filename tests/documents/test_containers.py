"""The jobs that the page on containers and cron shows: their exit codes, their volumes, their command lines."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from configparser import RawConfigParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from partwise._engine.scheduler import _STOP_GRACE, _STOP_SECONDS_MAX
from partwise.backends.memory import MemoryBackend
from partwise.cli import main
from partwise.cli.reporting import BUSY, DONE, FAILED, TRY_AGAIN, WRONG_USAGE, exit_code
from partwise.cli.signals import SignalReceived
from partwise.registry import default_checkpoint_store
from partwise.testing import OSSServer

TERMINATED = exit_code(SignalReceived(signal.SIGTERM, "stopped"))
INTERRUPTED = exit_code(SignalReceived(signal.SIGINT, "stopped"))

#: What a later run of the same command can end well, without anything being changed.
AGAIN = {TRY_AGAIN, TERMINATED, INTERRUPTED, BUSY}
#: What fails each time until the cause is fixed.
PERMANENT = {FAILED, WRONG_USAGE}


@pytest.fixture
def blocks(page):
    """The blocks below a heading of the page, in one language."""
    tokens = MarkdownIt().parse(page("containers-and-cron"))

    def find(heading: str, language: str) -> list[str]:
        below, found = "", []
        for before, token in pairwise(tokens):
            if before.type == "heading_open":
                below = token.content
            elif token.type == "fence" and (below, token.info) == (heading, language):
                found.append(token.content)
        return found

    return find


@pytest.fixture
def unit(blocks) -> RawConfigParser:
    """The service of systemd."""
    parsed = RawConfigParser(strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # as they are written
    parsed.read_string(blocks("systemd", "ini")[0])
    return parsed


@pytest.fixture
def job(blocks) -> dict[str, Any]:
    """The specification of the job of Kubernetes."""
    [text] = blocks("Kubernetes", "yaml")
    manifest = yaml.safe_load(text)
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
    return dict(manifest["spec"]["jobTemplate"]["spec"])


@pytest.fixture
def container(job) -> dict[str, Any]:
    [container] = job["template"]["spec"]["containers"]
    return dict(container)


def codes(text: str) -> set[int]:
    return {int(code) for code in text.split()}


# --- exit codes ------------------------------------------------------------------------------------------------------


def test_the_table_has_what_to_do_for_each_code_of_a_job(section, tables) -> None:
    [table] = tables(section("containers-and-cron", "Exit codes"))
    documented = {int(code): row["what to do"] for row in table for code in row["code"].split(", ")}
    assert documented.keys() == {DONE} | AGAIN | PERMANENT
    assert {code for code, advice in documented.items() if "run the same command again" in advice} == AGAIN - {BUSY}
    assert {code for code, advice in documented.items() if "fails each time" in advice} == PERMANENT


def test_systemd_starts_it_again_only_if_that_helps(unit) -> None:
    service = unit["Service"]
    assert (service["Type"], service["Restart"]) == ("oneshot", "on-failure")
    assert codes(service["RestartPreventExitStatus"]) == PERMANENT
    # It was stopped by `systemctl stop`, or another run of it goes on: no failure.
    assert codes(service["SuccessExitStatus"]) == {TERMINATED, BUSY}
    assert TRY_AGAIN not in codes(service["RestartPreventExitStatus"]) | codes(service["SuccessExitStatus"])


def test_kubernetes_replaces_a_pod_only_if_that_helps(job) -> None:
    rules = job["podFailurePolicy"]["rules"]
    by_code = [rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob"]
    assert by_code == [{"operator": "In", "values": sorted(PERMANENT)}]
    assert [rule["action"] for rule in rules if "onPodConditions" in rule] == ["Ignore"], "a drained node did not fail"
    assert job["template"]["spec"]["restartPolicy"] == "Never", "a podFailurePolicy needs that"
    assert job["backoffLimit"] > 0


def test_the_time_to_stop_is_enough_to_cut_the_parts_in_flight(unit, job, blocks) -> None:
    [docker] = blocks("Docker", "sh")
    graces = [
        job["template"]["spec"]["terminationGracePeriodSeconds"],
        int(unit["Service"]["TimeoutStopSec"]),
        int(re.search(r"--stop-timeout (\d+)", docker)[1]),
    ]
    assert all(grace >= 2 * _STOP_SECONDS_MAX for grace in graces)


def test_the_time_until_parts_are_cut_is_that_of_the_engine(section) -> None:
    said = f"after {_STOP_GRACE:g} seconds in which none finishes, and after {_STOP_SECONDS_MAX:g} at the latest"
    assert said in section("containers-and-cron", "Signals")


def test_the_signal_reaches_the_command_and_no_shell(container) -> None:
    assert container["command"][0] == "partwise"


# --- volumes ---------------------------------------------------------------------------------------------------------


def state_directory(monkeypatch, home: str) -> Path:
    """Return where the checkpoints are, if XDG_STATE_HOME has this value."""
    monkeypatch.setenv("XDG_STATE_HOME", home)
    return Path(re.search(r"/[^')\"]+", repr(default_checkpoint_store()))[0])


def test_the_checkpoints_of_the_service_are_in_its_state_directory(unit, monkeypatch) -> None:
    name, _, home = unit["Service"]["Environment"].partition("=")
    assert name == "XDG_STATE_HOME"
    where = state_directory(monkeypatch, home)
    assert where.is_relative_to(f"/var/lib/{unit['Service']['StateDirectory']}")


def test_the_checkpoints_of_cron_are_in_a_directory_of_the_user_of_its_jobs(blocks, monkeypatch) -> None:
    table, create, *_ = blocks("cron", "sh")
    variable, job = table.splitlines()
    name, _, home = variable.partition("=")
    assert name == "XDG_STATE_HOME"
    where = state_directory(monkeypatch, home)
    *_, user, _, _, directory = shlex.split(create)
    assert where.is_relative_to(directory)
    assert job.split()[5] == user


def test_the_checkpoints_of_the_pod_are_on_a_volume_that_outlives_it(job, container, monkeypatch) -> None:
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    where = state_directory(monkeypatch, environment["XDG_STATE_HOME"])
    [mount] = [mount for mount in container["volumeMounts"] if where.is_relative_to(mount["mountPath"])]
    assert not mount.get("readOnly")
    [volume] = [volume for volume in job["template"]["spec"]["volumes"] if volume["name"] == mount["name"]]
    assert "persistentVolumeClaim" in volume


def test_the_source_of_the_pod_is_on_a_volume_that_outlives_it(job, container) -> None:
    source = Path(container["command"][-2])
    [mount] = [mount for mount in container["volumeMounts"] if source.is_relative_to(mount["mountPath"])]
    [volume] = [volume for volume in job["template"]["spec"]["volumes"] if volume["name"] == mount["name"]]
    assert "persistentVolumeClaim" in volume


def test_the_checkpoints_of_the_container_are_on_a_volume(blocks, monkeypatch) -> None:
    [docker] = blocks("Docker", "sh")
    volumes = dict(volume.split(":")[:2] for volume in re.findall(r"--volume (\S+)", docker))
    home = re.search(r"--env XDG_STATE_HOME=(\S+)", docker)[1]
    assert state_directory(monkeypatch, home).is_relative_to(volumes["partwise-state"])


# --- command lines ---------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Run a command line of the page, with a server in place of OSS and another directory in place of the root."""
    (tmp_path / "var/backups").mkdir(parents=True)
    (tmp_path / "var/backups/today.tar").write_bytes(b"a backup" * 1000)
    bucket = MemoryBackend()
    with OSSServer(buckets={"examplebucket": bucket}) as server:
        for name, value in {
            "OSS_ENDPOINT": server.endpoint,
            "OSS_REGION": server.region,
            "OSS_ACCESS_KEY_ID": server.access_key_id,
            "OSS_ACCESS_KEY_SECRET": server.access_key_secret,
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }.items():
            monkeypatch.setenv(name, value)

        def run(words: list[str]) -> tuple[int, MemoryBackend]:
            assert Path(words[0]).name == "partwise"
            return main([word.replace("/var/", f"{tmp_path}/var/") for word in words[1:]]), bucket

        yield run


def test_the_command_of_the_service_uploads_the_backup(unit, machine, capfd) -> None:
    code, bucket = machine(shlex.split(unit["Service"]["ExecStart"]))
    assert code == DONE
    assert bucket.read("today.tar") == b"a backup" * 1000
    assert capfd.readouterr() == ("", ""), "so that the journal has errors only"


def test_the_command_of_the_pod_uploads_the_backup(container, machine) -> None:
    code, bucket = machine(container["command"])
    assert (code, bucket.keys()) == (DONE, ["today.tar"])


def test_the_command_of_the_container_uploads_the_backup(blocks, machine) -> None:
    [docker] = blocks("Docker", "sh")
    code, bucket = machine(shlex.split(docker.partition("your-image")[2]))
    assert (code, bucket.keys()) == (DONE, ["today.tar"])


def test_the_commands_of_cron_upload_the_backup_and_abort_old_uploads(blocks, machine, capfd) -> None:
    upload, _, collect = (text.splitlines()[-1] for text in blocks("cron", "sh"))
    for line in (upload, collect):
        *times, user, command = line.split(maxsplit=6)
        assert (len(times), user) == (5, "uploader")
        code, bucket = machine(shlex.split(command))
        assert code == DONE
        assert capfd.readouterr() == ("", ""), "so that cron sends no mail"
    assert bucket.keys() == ["today.tar"]


def test_the_verification_after_the_upload_is_of_the_same_object(blocks, unit, machine) -> None:
    assert machine(shlex.split(unit["Service"]["ExecStart"]))[0] == DONE
    [line] = blocks("After the upload", "sh")
    verify, _, remove = line.partition(" && ")
    assert machine(shlex.split(verify))[0] == DONE
    assert shlex.split(remove)[1] == shlex.split(verify)[2]


# --- what the tools say ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(blocks, tmp_path) -> None:
    for text in blocks("systemd", "ini"):
        name = re.search(r"upload-backup\.\w+", text)[0] if text.startswith("#") else ""
        assert name, "each block begins with its file"
        # The program has to exist.
        (tmp_path / name).write_text(text.replace("/opt/partwise/bin/partwise", shutil.which("true") or "/bin/true"))
    units = sorted(path.name for path in tmp_path.iterdir())
    assert units == ["upload-backup.service", "upload-backup.timer"]
    ended = subprocess.run(
        ["systemd-analyze", "verify", *units],
        cwd=tmp_path,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    about_them = [line for line in ended.stderr.splitlines() if "upload-backup" in line]
    assert (ended.returncode, about_them) == (0, []), ended.stderr
