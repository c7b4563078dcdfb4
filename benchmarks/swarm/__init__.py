"""`make bench-swarm`: one blob to many hosts on shaped links, ours beside aria2, transmission and plain HTTP.

network.py     the hosts: namespaces, rates, byte counters of the kernel
leftovers.py   what a killed run left behind, recognised as ours and removed
machine.py     whether the machine had time to spare, and what each side cost it
contender.py   what one side must be able to do; outside.py, tracker.py and longshore.py are the sides
race.py        one side, once, from the request to the last whole copy
plan.py        rates, sizes, runs
spreads.py     flat8, flat16, two-idcs; churn.py, layers.py, poison.py, outsider.py: the other claims
soak.py        `make soak-swarm`: seeded kills in a standing fleet
"""
