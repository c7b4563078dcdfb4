"""The only language the services share: protobuf sources, and the code generated beside them (see README.md)."""
