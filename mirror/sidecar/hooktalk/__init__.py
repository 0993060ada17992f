"""What is done with what hooks in programs send."""
