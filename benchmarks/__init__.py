"""One file a claim. Every figure is a JSON line on standard output; see README.md for machine and method."""
