"""TFTP for boot firmware: read-only, one loop, thousands of transfers.

`packet` is the codec, `terms` what two sides agree on, `transfer` the states of one transfer (all three pure);
`sources` and `sheets` are where bytes come from, `session` binds one transfer to its socket, `server` owns them all.
"""
