"""Entry point of `longshore`: options, sub-commands, and the one place where a failure becomes a message and an exit
code.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from common.errors import Failure, Internal, Invalid
from control_plane.cli import (
    access,
    accounts,
    agent_rollouts,
    audit,
    channels,
    collection,
    commands,
    deployments,
    fleet,
    hosts,
    images,
    installs,
    instances,
    limits,
    lxd_image,
    machine_profiles,
    machines,
    mirrors,
    moves,
    power,
    preheats,
    quota,
    registry_logins,
    replication,
    retention,
    robots,
    signatures,
    spreads,
    stores,
    swarm,
    usage,
    webhooks,
)
from control_plane.cli.context import open_session, session_of
from control_plane.cli.failures import exit_code

app = typer.Typer(
    name="longshore",
    help="Images, containers and bare machines of an edge cloud.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help texts hold brackets
    add_completion=True,
)
app.command()(accounts.login)
app.command()(accounts.logout)
app.command()(accounts.whoami)
app.add_typer(accounts.tenant, name="tenant")
app.add_typer(accounts.user, name="user")
app.add_typer(accounts.api_key, name="api-key")
app.add_typer(registry_logins.registry_login, name="registry-login")
collection.add_to(images.image)
lxd_image.add_to(images.image, images.bars)
app.add_typer(robots.robot, name="robot")
app.add_typer(robots.group, name="group")
app.add_typer(images.image, name="image")
app.add_typer(access.access, name="access")
app.add_typer(collection.collection, name="collection")
app.add_typer(quota.quota, name="quota")
app.add_typer(mirrors.mirror, name="mirror")
app.add_typer(replication.replication, name="replication")
app.add_typer(stores.store, name="store")
app.add_typer(stores.scrub, name="scrub")
app.add_typer(retention.immutability, name="immutability")
app.add_typer(retention.retention, name="retention")
app.add_typer(signatures.trusted_key, name="trusted-key")
app.add_typer(signatures.signature_policy, name="signature-policy")
app.command("attachments")(signatures.attachments)
app.add_typer(fleet.idc, name="idc")
usage.add_to_hosts(fleet.host)
hosts.add_to(fleet.host)
app.add_typer(fleet.host, name="host")
app.add_typer(agent_rollouts.agent_rollout, name="agent-rollout")
app.add_typer(fleet.regional, name="regional")
app.add_typer(fleet.join_token, name="join-token")
app.add_typer(limits.limit, name="limit")
usage.add_to_instances(instances.instance)
channels.add_to(instances.instance)
moves.add_to(instances.instance)
app.add_typer(instances.instance, name="instance")
app.add_typer(deployments.deployment, name="deployment")
app.add_typer(commands.command, name="command")
app.add_typer(preheats.preheat, name="preheat")
machines.machine.add_typer(power.power, name="power")
app.add_typer(machines.machine, name="machine")
app.add_typer(machine_profiles.profile, name="profile")
app.add_typer(installs.install, name="install")
spreads.add_to(swarm.swarm)
app.add_typer(swarm.swarm, name="swarm")
app.add_typer(audit.audit, name="audit")
app.add_typer(webhooks.webhook, name="webhook")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"longshore {version('longshore')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
    server: Annotated[str | None, typer.Option(help="URL of the control plane. [env: LONGSHORE_SERVER]")] = None,
    token: Annotated[str | None, typer.Option(help="API key, instead of a login. [env: LONGSHORE_TOKEN]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (may stand anywhere).")] = False,
) -> None:
    context.obj = open_session(server, token, as_json)


@app.command()
def status(context: typer.Context) -> None:
    """The whole fleet in one picture."""
    session = session_of(context)
    picture = session.client.get("/api/v1/status")["data"]
    if session.output.as_json:
        session.output.item(picture, "")
        return
    session.output.rows(
        picture["idcs"],
        {
            "name": "IDC",
            "hosts_online": "HOSTS ONLINE",
            "hosts": "HOSTS",
            "regionals_online": "REGIONALS ONLINE",
            "instances_running": "RUNNING",
            "instances": "INSTANCES",
            "egress_bytes": "FROM CENTRE",
        },
    )


def main() -> None:
    arguments, as_json = _json_first(sys.argv[1:])
    try:
        # Typer's own way with a wrong usage is to print prose; programs that asked for JSON get it for every failure.
        code = app(args=arguments, prog_name="longshore", standalone_mode=not as_json)
    except Failure as failure:
        _fail(failure, exit_code(failure), as_json)
    except typer.TyperException as wrong:
        _fail(Invalid(wrong.format_message(), action="see `longshore --help`"), wrong.exit_code, as_json)
    except OSError as error:
        _fail(Internal(str(error), action="check the file or directory"), 1, as_json)
    except typer.Abort:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _json_first(words: list[str]) -> tuple[list[str], bool]:
    """`--json` may stand anywhere before `--`, as people expect of kubectl and docker; Typer wants it first."""
    end = words.index("--") if "--" in words else len(words)
    ours = [word for word in words[:end] if word != "--json"]
    as_json = len(ours) < end
    return [*(["--json"] if as_json else []), *ours, *words[end:]], as_json


def _fail(failure: Failure, code: int, as_json: bool) -> NoReturn:
    _complain(failure, as_json)
    sys.exit(code)


def _complain(failure: Failure, as_json: bool) -> None:
    if as_json:
        body = {"code": failure.code, "detail": failure.detail, "action": failure.action}
        print(json.dumps(body), file=sys.stderr)
    else:
        print(f"longshore: {failure.detail}", file=sys.stderr)
        if failure.action:
            print(f"  {failure.action}", file=sys.stderr)
