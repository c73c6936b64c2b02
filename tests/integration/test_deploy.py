"""What is shipped to deploy with: systemd and Kafka take their parts, the rest names what there is."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from conftest import SkipLoudly
from kafka.brokers import Broker, KafkaUnavailableError
from voxthread.cli import main
from voxthread.config import Config

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd/voxthread.service"
VOXTHREAD = Path(sys.executable).with_name("voxthread")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser["Service"]


def test_systemd_takes_the_unit(skip_loudly: SkipLoudly, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        skip_loudly("systemd-analyze", "not installed, so the unit is only read")
    here = tmp_path / UNIT.name
    here.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={VOXTHREAD}", UNIT.read_text(), flags=re.MULTILINE))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_roles_outlive_their_supervisor_under_systemd() -> None:
    assert {name: unit()[name] for name in ("KillMode", "OOMPolicy", "Restart")} == {
        "KillMode": "process",
        "OOMPolicy": "continue",
        "Restart": "always",
    }
    assert "PrivateTmp" not in unit()


def test_kafka_takes_its_settings(skip_loudly: SkipLoudly, tmp_path: Path) -> None:
    given = services()["kafka"]["environment"]
    settings = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in given.items()}
    assert settings.pop("heap.opts")
    broker = Broker(1, 0, tmp_path / "broker", settings | {"log.dirs": str(tmp_path / "data")})
    try:
        broker.format("MkU3OEVBNTcwNTJENDM2Qg")
    except KafkaUnavailableError as error:
        skip_loudly("kafka", str(error))


@pytest.mark.parametrize("role", ["media", "orchestrator"])
def test_a_container_runs_a_command_that_exists_with_settings_that_exist(role: str) -> None:
    service = services()[role]
    name, *arguments = service["command"]
    command = typer.main.get_command(main).get_command(None, name)  # type: ignore[attr-defined]
    command.make_context(name, [re.sub(r"\$\{\w+:-(.*)\}", r"\1", each) for each in arguments])
    for variable in service["environment"]:
        section, _, setting = variable.removeprefix("VOXTHREAD_").lower().partition("__")
        assert setting in type(getattr(Config(), section)).model_fields, variable


def test_one_media_and_two_orchestrators_wait_for_kafka() -> None:
    assert services()["orchestrator"]["deploy"]["replicas"] == 2
    assert "deploy" not in services()["media"]
    for role in ("media", "orchestrator"):
        assert services()[role]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
