"""`longshore webhook ...`: addresses that are told what happens."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from common.errors import Invalid
from control_plane.cli.client import path_of
from control_plane.cli.context import session_of

webhook = typer.Typer(help="Addresses that are told what happens.", no_args_is_help=True)

Topics = Annotated[list[str], typer.Option("--topic", help="*, registry.*, registry.image_pushed; may be repeated.")]
SecretStdin = Annotated[bool, typer.Option("--secret-stdin", help="Read the secret from stdin; else one is made.")]


@webhook.command("create")
def webhook_create(
    context: typer.Context,
    url: str,
    topic: Topics,
    tenant: Annotated[str | None, typer.Option(help="Whose events; absent: the whole platform's.")] = None,
    description: str = "",
    secret_stdin: SecretStdin = False,
) -> None:
    """Have events sent to URL, signed. The secret is shown now and never again."""
    session = session_of(context)
    body: dict[str, Any] = {"url": url, "topics": topic, "description": description}
    if tenant is not None:
        body["tenant"] = tenant
    if secret_stdin:
        body["secret"] = _secret()
    made = session.client.post("/api/v1/webhooks", body)["data"]
    session.output.item(made, f"Webhook {made['id']} created. Its secret: {made['secret']}")


@webhook.command("list")
def webhook_list(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Absent: those of the platform.")] = None,
) -> None:
    """The webhooks of a tenant, or of the platform."""
    session = session_of(context)
    session.output.rows(
        session.client.every("/api/v1/webhooks", tenant=tenant),
        {
            "id": "ID",
            "url": "URL",
            "topics": "TOPICS",
            "active": "ACTIVE",
            "failures": "FAILURES",
            "disabled_reason": "REASON",
        },
    )


@webhook.command("show")
def webhook_show(context: typer.Context, webhook_id: str) -> None:
    """One webhook and how it fares."""
    session = session_of(context)
    session.output.details(session.client.get(_path(webhook_id))["data"])


@webhook.command("update")
def webhook_update(
    context: typer.Context,
    webhook_id: str,
    url: str | None = None,
    topic: Annotated[list[str] | None, typer.Option("--topic", help="In place of all it has.")] = None,
    description: str | None = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Send to it, or stop.")] = None,
) -> None:
    """Change a webhook. --active also forgets its failures."""
    session = session_of(context)
    wanted = {"url": url, "topics": topic or None, "description": description, "active": active}
    body = {name: value for name, value in wanted.items() if value is not None}
    changed = session.client.call("PATCH", _path(webhook_id), body=body)["data"]
    session.output.item(changed, f"Webhook {webhook_id} changed.")


@webhook.command("rotate")
def webhook_rotate(context: typer.Context, webhook_id: str, secret_stdin: SecretStdin = False) -> None:
    """Give a webhook another secret, which is shown now and never again."""
    session = session_of(context)
    body = {"secret": _secret()} if secret_stdin else {}
    made = session.client.put(f"{_path(webhook_id)}/secret", body)["data"]
    session.output.item(made, made["secret"])


@webhook.command("rm")
def webhook_rm(context: typer.Context, webhook_id: str) -> None:
    """Remove a webhook, with what it should still have been sent."""
    session = session_of(context)
    session.client.delete(_path(webhook_id))
    session.output.item({"id": webhook_id, "removed": True}, f"Webhook {webhook_id} removed.")


@webhook.command("ping")
def webhook_ping(context: typer.Context, webhook_id: str) -> None:
    """Send a test event."""
    session = session_of(context)
    made = session.client.post(f"{_path(webhook_id)}/ping")["data"]
    session.output.item(made, f"Delivery {made['id']} is on its way.")


@webhook.command("deliveries")
def webhook_deliveries(
    context: typer.Context,
    webhook_id: str,
    state: Annotated[str | None, typer.Option(help="Only waiting, delivered or failed.")] = None,
) -> None:
    """What was sent and is to be sent, the newest first."""
    session = session_of(context)
    session.output.rows(
        session.client.every(f"{_path(webhook_id)}/deliveries", state=state),
        {
            "id": "ID",
            "topic": "TOPIC",
            "state": "STATE",
            "attempts": "ATTEMPTS",
            "created_at": "CREATED",
            "last_status": "STATUS",
            "last_error": "ERROR",
        },
    )


@webhook.command("delivery")
def webhook_delivery(context: typer.Context, webhook_id: str, delivery_id: str) -> None:
    """One delivery with its event and every attempt."""
    session = session_of(context)
    found = session.client.get(f"{_path(webhook_id)}/deliveries/{path_of(delivery_id)}")["data"]
    session.output.details(found)


@webhook.command("redeliver")
def webhook_redeliver(context: typer.Context, webhook_id: str, delivery_id: str) -> None:
    """Send an event once more, under the same id."""
    session = session_of(context)
    again = session.client.post(f"{_path(webhook_id)}/deliveries/{path_of(delivery_id)}/redeliver")["data"]
    session.output.item(again, f"Delivery {delivery_id} is on its way again.")


def _path(webhook_id: str) -> str:
    return f"/api/v1/webhooks/{path_of(webhook_id)}"


def _secret() -> str:
    secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise Invalid("the secret is empty", action="pipe it in, or leave out --secret-stdin and one is made")
    return secret
