"""How much of the links may be used: what operators say of the platform, one IDC or one tenant, and how the edges hear
of it. Kept there by `common.links`.
"""
