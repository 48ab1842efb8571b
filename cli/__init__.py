"""The `paylinks` command."""
