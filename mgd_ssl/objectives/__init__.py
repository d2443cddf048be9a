"""Self-supervised objectives of the student, one a file."""
