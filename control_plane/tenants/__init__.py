"""Who there is and what they may do: tenants, users, roles, tokens, API keys. The check that every route uses is `access`."""
