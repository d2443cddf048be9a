"""What a user may say: options and their defaults, config files, the command line."""
