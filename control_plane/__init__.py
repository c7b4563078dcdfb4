"""The central control plane: tenants, the content store, the fleet's desired state.

Packages, highest first; one may import those below it, never above (import-linter holds the order):

    cli                         the `longshore` command; speaks only HTTP, imported by nobody
    __main__ | program > app    entry point and its commands; composition root
    instances > swarm > fleet > catalogue > registry > tenants > audit      domains
    web | rpc > jobs > database > sealing                                   toolkits
    blobs | cache | events | queues                                         ports
    settings

Upward talk goes by messages through the outbox, or by a small protocol that the lower domain declares and `app` fills.
"""
