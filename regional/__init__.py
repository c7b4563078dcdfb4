"""The service of one IDC: edge cache of contents, tracker and first seed of their swarms, files for machines that boot.

Invariant: what it holds it serves, whether the centre answers or not; what it has not verified it serves to nobody.
"""
