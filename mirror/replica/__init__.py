"""The source as of the applied position."""
