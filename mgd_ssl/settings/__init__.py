"""Options of the commands, their defaults, config files and the command line.

Nothing here loads torch, unless a file of weights is named that tells the defaults.
"""
