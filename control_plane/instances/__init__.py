"""Containers that tenants want to run: desired state is kept here, hosts carry it out and report.

Invariant: every change of an instance has a generation of its own, greater than the last; what a host says of an older
generation never overwrites what it said of a newer one. An instance row and the wants of its contents come and go in
one transaction, so an IDC orders exactly what its instances need.
"""
