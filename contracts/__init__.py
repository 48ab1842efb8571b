"""The language: envelope, messages, money, statuses and their published schemas. Imports nothing of ours."""
