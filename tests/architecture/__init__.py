"""Tests that hold the shape of the tree: docs, sizes, names, fresh generated code, safe defaults."""
