"""What boots machines, against the servers that racks have today."""
