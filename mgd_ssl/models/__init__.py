"""Networks, taps and checkpoint layouts; nothing about training."""
