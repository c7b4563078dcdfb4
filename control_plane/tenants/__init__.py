"""Who there is and what they may do: tenants, users, roles, tokens, API keys. The check that every route uses is
`access`.

    tenant        an owner of things; its name is the first component of its repositories' names
    user          somebody (or a program) with a name and a password; has a role in any number of tenants
    group         users of one tenant, to whom its repositories can be granted together
    robot         an account of a tenant for programs; may what its scopes say of repositories, and nothing else
    standing      what a user is allowed right now: read fresh, cached for at most 30 s (standings)
    credentials   password, access token (JWT), refresh token, API key, robot's key, registry token; each can only take
                  rights away from its owner's standing, never add any (authentication, sessions, api_keys, robot_keys,
                  registry_tokens)
"""
