"""What a training step computes: one task a file."""
