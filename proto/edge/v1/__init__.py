"""Generated from the .proto file beside it; see proto/README.md."""
