"""DHCP of one IDC: addresses and boot files for bare machines. Packets, leases and answers are pure; `server` is the
shell around them (docs/decisions/0032-dhcp-server.md).
"""
