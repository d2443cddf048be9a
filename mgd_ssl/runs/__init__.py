"""What the commands do: a training or a measurement a file."""
