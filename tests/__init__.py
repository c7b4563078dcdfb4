"""Tests, mirroring the source. Only this folder and `engines` are packages, so that fixtures can name
`tests.engines`; pytest imports everything else by path (`--import-mode=importlib`).
"""
