"""The gRPC toolkit: one error table, one interceptor, listeners with TLS, and who is on the other end. Knows no
domain.
"""
