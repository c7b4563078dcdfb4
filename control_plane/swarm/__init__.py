"""How content reaches the data centres: who wants what, who holds what, the right to read it, and its description for
BitTorrent.

Invariant: a content is ordered in an IDC exactly as long as some owner wants it there, and nobody reads content without
a token that this control plane signed for that bearer, tenant and digest. The domain knows owners only by id: it does
not know what an instance is.
"""
