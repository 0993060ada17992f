"""What a running mirror serves to others."""
