"""`longshore-server`: settings, migrate, create-admin and the first start."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control_plane.cli.programs import PASSWORD, Answer, Longshore, Plane, log_in, started

pytestmark = pytest.mark.processes


def server(*words: str | Path, **environment: str) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", *map(str, words)],
        env={
            "PATH": os.environ["PATH"],  # noqa: TID251
            "PYTHONPATH": str(Path(__file__).parents[3]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


def password_of(answer: Answer) -> str:
    (found,) = PASSWORD.findall(answer.text)
    return str(found)


def test_migrate_makes_the_database_and_is_harmless_to_repeat(tmp_path: Path) -> None:
    first = server("migrate", "--data", tmp_path / "data")
    assert re.search(r"^database is at \w+$", first.text, re.MULTILINE)
    assert (tmp_path / "data" / "longshore.db").exists()
    assert server("migrate", "--data", tmp_path / "data").text == first.text


def test_a_new_data_directory_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    assert server("migrate", "--data", tmp_path / "data").code == 0
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_secrets_are_readable_only_by_their_owner_whatever_directory_was_given(plane: Plane) -> None:
    secrets = plane.service.data / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}


def test_the_first_start_prints_the_password_once_and_the_second_does_not(tmp_path: Path) -> None:
    plane = started(tmp_path / "data")
    plane.service.stop()
    plane.service.start()
    plane.service.stop()
    log = plane.service.log_path.read_text()
    assert log.count("control plane ready") == 2
    assert PASSWORD.findall(log) == [plane.password]
    assert log.count(plane.password) == 1


def test_a_new_admin_password_works_and_the_old_one_does_not(tmp_path: Path) -> None:
    plane = started(tmp_path / "data")
    (tmp_path / "home").mkdir()
    program = Longshore(plane.url, tmp_path / "home")
    assert log_in(program, "admin", plane.password).code == 0
    # While it runs: whoever lost the password need not stop the service.
    fresh = password_of(server("create-admin", "--data", tmp_path / "data"))
    assert fresh != plane.password
    assert log_in(program, "admin", plane.password).code == 3
    assert log_in(program, "admin", fresh).code == 0
    plane.service.stop()


def test_create_admin_in_a_wrong_directory_makes_nothing(tmp_path: Path) -> None:
    answer = server("create-admin", "--data", tmp_path / "typo")
    assert (answer.code, answer.out) == (1, "")
    assert str(tmp_path / "typo") in answer.err
    assert not (tmp_path / "typo").exists()
    (tmp_path / "empty").mkdir()
    assert server("create-admin", "--data", tmp_path / "empty").code == 1
    assert list((tmp_path / "empty").iterdir()) == []


def test_create_admin_before_the_first_start_gives_the_first_password(tmp_path: Path) -> None:
    server("migrate", "--data", tmp_path / "data")
    made = password_of(server("create-admin", "--data", tmp_path / "data"))
    plane = started(tmp_path / "data", prints_password=False)
    (tmp_path / "home").mkdir()
    assert PASSWORD.findall(plane.service.log_path.read_text()) == []
    assert log_in(Longshore(plane.url, tmp_path / "home"), "admin", made).code == 0
    plane.service.stop()


def test_a_toml_file_is_read(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'data = "{tmp_path / "from-file"}"\n[logging]\nstyle = "json"\n')
    assert server("migrate", "--config", config).code == 0
    assert (tmp_path / "from-file" / "longshore.db").exists()


def test_options_beat_the_environment_and_that_beats_the_file(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'data = "{tmp_path / "file"}"\n')
    variable = {"LONGSHORE_DATA": str(tmp_path / "environment")}
    assert server("migrate", "--config", config, **variable).code == 0
    assert server("migrate", "--config", config, "--data", tmp_path / "option", **variable).code == 0
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "environment" / "longshore.db").exists()
    assert (tmp_path / "option" / "longshore.db").exists()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour = 1", "colour"),
        ("[listeners]\ncolour = 1", "listeners.colour"),
        ('[listeners]\nhttp = "nowhere"', "listeners.http"),
        ("[fleet]\nheartbeat_seconds = 0", "fleet.heartbeat_seconds"),
        ("listeners = 1", "listeners"),
        ("half [", "server.toml"),
        ("\xff\xfe", "server.toml"),
    ],
)
def test_a_wrong_setting_in_the_file_is_an_error_that_names_it(text: str, key: str, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_bytes(text.encode("latin-1"))
    answer = server("migrate", "--config", config, "--data", tmp_path / "data")
    assert (answer.code, answer.out) == (1, "")
    assert key in answer.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "name", ["LONGSHORE_COLOUR", "LONGSHORE_LISTENERS__COLOUR", "LONGSHORE_LISTENER__HTTP", "LONGSHORE_PUBLIC__NAMES"]
)
def test_a_wrong_setting_in_the_environment_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    answer = server("migrate", "--data", tmp_path / "data", **{name: "blue"})
    assert (answer.code, answer.out) == (1, "")
    assert any(part in answer.err.lower() for part in (name.lower(), "listeners.colour", "public"))
    assert not (tmp_path / "data").exists()


def test_settings_of_the_other_programs_are_not_ours(tmp_path: Path) -> None:
    others = {"LONGSHORE_SERVER": "http://x", "LONGSHORE_TOKEN": "t", "LONGSHORE_AGENT_NAME": "a"}
    assert server("migrate", "--data", tmp_path / "data", **others).code == 0


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    answer = server("migrate", "--config", tmp_path / "nothing.toml")
    assert answer.code == 1
    assert "nothing.toml" in answer.err
