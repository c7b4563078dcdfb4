"""Images as people see them. For now the listing of what one may pull; versions and formats follow."""
