"""Webhooks: what happened, told to addresses outside that asked for it (CloudEvents 1.0, signed, at least once).

    hook       an address of a tenant, or of the platform, with the topics it wants and a secret to sign with
    delivery   one message for one hook; the row is written before the outbox forgets the message
    attempt    one try at a delivery, kept as history

It stands below every domain whose messages it carries: it knows them by topic and payload only.
"""
