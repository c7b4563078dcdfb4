"""The power of bare machines: where their BMCs are, what was ordered, and what came of it. Regionals act; see
`regional/power`.
"""
