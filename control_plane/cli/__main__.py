"""`longshore`, and `python -m control_plane.cli`: what it does is in `program.py`.

Invariant: nothing but the launcher is imported here.
"""

from common.launching import launch


def main() -> None:
    launch("control_plane.cli.program")


if __name__ == "__main__":
    main()
