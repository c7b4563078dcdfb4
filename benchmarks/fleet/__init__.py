"""What a control plane spends on a fleet that is attached, comes back all at once, or is told something new."""
