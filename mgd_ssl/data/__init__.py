"""Images: sources, decoding, views."""
