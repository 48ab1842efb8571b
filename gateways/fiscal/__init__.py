"""Fiscal devices: cash registers and tax services that print receipts."""
