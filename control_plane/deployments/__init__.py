"""Deployments: what a tenant wants so many of, by rules instead of on named hosts. Each has slots, each slot an
instance on a host that the planner of `fleet.placement` chose; a slot moves when its host is drained, lost or does not
fit.
"""
