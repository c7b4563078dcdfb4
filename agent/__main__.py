"""`longshore-agent`, and `python -m agent`: what it does is in `program.py`.

Invariant: nothing but the launcher is imported here.
"""

from common.launching import launch


def main() -> None:
    launch("agent.program")


if __name__ == "__main__":
    main()
