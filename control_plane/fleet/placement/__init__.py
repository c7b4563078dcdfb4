"""Where instances may run: what hosts have to offer, what operators say of them, the rules of a wish, and the planner
that brings them together.
"""
