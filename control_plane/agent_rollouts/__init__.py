"""Which version of the agent hosts shall run: an image of it goes out in waves, a canary first, and stops by itself
when a host goes back from it (docs/decisions/0039-agent-self-update.md).
"""
