"""Object detection, on the core that it imports and that never imports it."""
