"""Images as people see them. For now the listing of what the registry holds; versions, visibility and grants follow."""
