"""The wiring: settings in, dependencies out."""
