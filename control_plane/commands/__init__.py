"""One-shot commands: what a host is asked to do once, delivered over its attachment, carried out once at most, with its
outcome kept. What shall be so for good is desired state (`instances`), never a command.
"""
