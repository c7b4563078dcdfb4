"""How fast contents spread, compared with what the links allow: of each spread that was, and of one that may be."""
