"""The outside: the only outbound HTTP."""
