"""Images inside archives: an index made once, shared by processes, and read by offset."""
