"""Logs, commands and consoles of this host's containers, for people at the centre (proto/agent/v1/channels.proto).

The centre asks over the attachment; this host dials, because nothing can reach it. Each channel is a connection of its
own.
"""
