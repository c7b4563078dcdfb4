"""Logging in, tenants, users and keys, as people and programs do it."""

import base64
import json
import stat
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore, Plane, log_in

pytestmark = pytest.mark.processes


def test_a_login_is_kept_in_a_file_that_only_its_owner_can_read(stranger: Longshore, plane: Plane) -> None:
    answer = log_in(stranger, "admin", plane.password)
    assert answer.text == f"Logged in to {plane.url} as admin."
    assert stat.S_IMODE(stranger.credentials.stat().st_mode) == 0o600
    assert stat.S_IMODE(stranger.credentials.parent.stat().st_mode) == 0o700
    assert stranger("whoami").text == "admin (platform admin)"


def test_a_login_prints_no_token_and_no_password(stranger: Longshore, plane: Plane) -> None:
    answers = [
        stranger("login", "-u", "admin", "--password-stdin", *flags, stdin=plane.password + "\n")
        for flags in ([], ["--json"])
    ]
    kept = json.loads(stranger.credentials.read_text())["servers"][plane.url]
    answers += [stranger("whoami", "--json"), stranger("logout")]
    secrets = {plane.password, kept["access_token"], kept["refresh_token"]}
    assert not any(secret in answer.out + answer.err for secret in secrets for answer in answers)


def test_a_wrong_password_ends_with_3_and_keeps_nothing(stranger: Longshore) -> None:
    answer = log_in(stranger, "admin", "not the password")
    assert (answer.code, answer.out) == (3, "")
    assert "password" in answer.err
    assert not stranger.credentials.exists()


def test_a_wrong_password_is_called_so_although_an_older_login_is_kept(stranger: Longshore, plane: Plane) -> None:
    log_in(stranger, "admin", plane.password)
    answer = log_in(stranger, "admin", "not the password")
    assert answer.code == 3
    assert "password" in answer.err
    assert stranger("whoami").code == 0


def test_an_empty_password_ends_with_2(stranger: Longshore) -> None:
    assert log_in(stranger, "admin", "").code == 2


def test_who_has_not_logged_in_is_told_so_with_3(stranger: Longshore) -> None:
    for words in (["whoami"], ["tenant", "list"], ["image", "list"], ["status"], ["logout"]):
        assert stranger(*words).code == 3, words


def test_a_logout_ends_the_login_here_and_at_the_server(stranger: Longshore, plane: Plane) -> None:
    log_in(stranger, "admin", plane.password)
    token = json.loads(stranger.credentials.read_text())["servers"][plane.url]["access_token"]
    assert stranger("logout").text == f"Logged out of {plane.url}."
    assert "token" not in stranger.credentials.read_text()
    assert stranger("whoami").code == 3
    assert stranger("--token", token, "whoami").code == 3


def test_an_expired_access_token_is_refreshed_once_for_all_commands(stranger: Longshore, plane: Plane) -> None:
    log_in(stranger, "admin", plane.password)
    document = json.loads(stranger.credentials.read_text())
    document["servers"][plane.url]["access_token"] = "worn out"
    stranger.credentials.write_text(json.dumps(document))
    assert stranger("whoami").code == 0
    renewed = json.loads(stranger.credentials.read_text())["servers"][plane.url]
    assert renewed["access_token"] != "worn out"
    assert stat.S_IMODE(stranger.credentials.stat().st_mode) == 0o600
    assert stranger("whoami").code == 0


def test_commands_side_by_side_share_one_refresh(stranger: Longshore, plane: Plane) -> None:
    """A refresh token works once: the second use would end the login of both."""
    log_in(stranger, "admin", plane.password)
    for _ in range(3):
        document = json.loads(stranger.credentials.read_text())
        document["servers"][plane.url]["access_token"] = "worn out"
        stranger.credentials.write_text(json.dumps(document))
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: stranger("whoami"), range(4)))
        assert [answer.code for answer in answers] == [0, 0, 0, 0], answers


def test_a_damaged_credentials_file_is_named(stranger: Longshore) -> None:
    stranger.credentials.parent.mkdir(parents=True)
    stranger.credentials.write_text("{ half")
    answer = stranger("whoami")
    assert answer.code == 2
    assert str(stranger.credentials) in answer.err


def test_a_tenant_lives_and_goes(admin: Longshore) -> None:
    assert admin("tenant", "create", "shortlived", "--display-name", "Short [red] :smile: Lived").code == 0
    made = next(row for row in admin("tenant", "list", "--json").json if row["name"] == "shortlived")
    assert made["display_name"] == "Short [red] :smile: Lived"
    assert "Short [red] :smile: Lived" in admin("tenant", "list").text
    assert admin("tenant", "rm", "shortlived").text == "Tenant shortlived removed."
    assert "shortlived" not in admin("tenant", "list").text
    assert admin("tenant", "rm", "shortlived").code == 5


def test_a_tenant_that_exists_is_a_conflict(admin: Longshore) -> None:
    answer = admin("tenant", "create", "acme")
    assert (answer.code, answer.out) == (6, "")


def test_a_bad_tenant_name_ends_with_2(admin: Longshore) -> None:
    assert admin("tenant", "create", "Not A Name").code == 2
    assert admin("tenant", "rm", "../users").code == 2
    assert admin("tenant", "members", "").code == 2


def test_a_role_is_granted_changed_and_revoked(admin: Longshore) -> None:
    assert admin("user", "create", "otto", "--password-stdin", stdin="a long password\n").code == 0
    assert admin("tenant", "grant", "acme", "otto", "operator").text == "otto is now operator of acme."
    assert admin("tenant", "grant", "acme", "otto", "viewer", "--json").json["role"] == "viewer"
    members = {row["user"]: row["role"] for row in admin("tenant", "members", "acme", "--json").json}
    assert members["otto"] == "viewer"
    assert admin("tenant", "revoke", "acme", "otto").code == 0
    assert "otto" not in admin("tenant", "members", "acme").text
    assert admin("tenant", "grant", "acme", "nobody", "viewer").code == 5
    assert admin("tenant", "grant", "acme", "otto", "emperor").code == 2


def test_a_user_table_shows_what_the_server_says(admin: Longshore) -> None:
    (heading, *rows) = admin("user", "list").text.splitlines()
    assert heading.split("  ")[0] == "NAME"
    row = next(line for line in rows if line.startswith("admin"))
    assert row.split()[:3] == ["admin", "yes", "no"]
    assert "password" not in admin("user", "list", "--json").out


def test_a_viewer_may_read_and_not_write(viewer: Longshore) -> None:
    assert viewer("whoami").text == "vera (viewer of acme)"
    assert viewer("tenant", "list").code == 0
    for words in (
        ["tenant", "create", "mine"],
        ["tenant", "grant", "acme", "vera", "admin"],
        ["user", "list"],
        ["idc", "create", "north"],
        ["join-token", "list"],
    ):
        answer = viewer(*words)
        assert (answer.code, answer.out) == (4, ""), words


def test_a_key_speaks_for_its_user_until_it_is_removed(admin: Longshore, stranger: Longshore) -> None:
    key = admin("api-key", "create", "robot").text
    program = stranger.with_environment(LONGSHORE_TOKEN=key)
    assert "platform admin" in program("whoami").text
    listed = next(row for row in admin("api-key", "list", "--json").json if row["name"] == "robot")
    assert key not in admin("api-key", "list").out + admin("api-key", "list", "--json").out
    assert listed["id"] in admin("api-key", "list").text
    assert admin("api-key", "rm", listed["id"]).code == 0
    assert program("whoami").code == 3
    assert listed["id"] not in admin("api-key", "list").out
    assert admin("api-key", "rm", "7f000000-0000-7000-8000-000000000000").code == 5


def test_a_docker_login_is_seen_and_ended(admin: Longshore, plane: Plane) -> None:
    basic = base64.b64encode(f"admin:{plane.password}".encode()).decode()
    service = "service=longshore-registry"
    asking = urllib.request.Request(f"{plane.url}/v2/token?{service}&client_id=docker&offline_token=true")
    asking.add_header("Authorization", f"Basic {basic}")
    with urllib.request.urlopen(asking, timeout=10) as answer:
        kept = json.load(answer)["refresh_token"]
    form = f"grant_type=refresh_token&refresh_token={kept}&client_id=docker&{service}".encode()
    with urllib.request.urlopen(f"{plane.url}/v2/token", form, timeout=10) as answer:
        assert json.load(answer)["access_token"]
    (listed,) = admin("registry-login", "list", "--json").json
    assert listed["client"] == "docker"
    assert listed["last_used_at"]
    assert kept.rpartition("_")[2] not in admin("registry-login", "list", "--json").out
    assert admin("registry-login", "end", listed["id"]).code == 0
    assert admin("registry-login", "end", listed["id"]).code == 5
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{plane.url}/v2/token", form, timeout=10)


def test_a_key_can_be_limited_to_a_role_in_one_tenant(admin: Longshore, stranger: Longshore) -> None:
    made = admin("api-key", "create", "reader", "--tenant", "acme", "--role", "viewer", "--json").json
    assert (made["tenant"], made["role"]) == ("acme", "viewer")
    program = stranger.with_environment(LONGSHORE_TOKEN=made["key"])
    assert program("tenant", "create", "mine").code == 4
    assert program("tenant", "list", "--json").json[0]["name"] == "acme"


def test_a_user_that_exists_is_a_conflict_and_a_bad_password_is_wrong_input(admin: Longshore) -> None:
    assert admin("user", "create", "admin", "--password-stdin", stdin="a long password\n").code == 6
    assert admin("user", "create", "newcomer", "--password-stdin", stdin="\n").code == 2


def test_credentials_are_never_sent_to_another_server(stranger: Longshore, plane: Plane, tmp_path: Path) -> None:
    log_in(stranger, "admin", plane.password)
    elsewhere = stranger("--server", plane.url.replace("127.0.0.1", "localhost"), "whoami")
    assert elsewhere.code == 3
