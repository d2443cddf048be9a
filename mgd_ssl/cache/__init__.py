"""A teacher's answers to the views of a data set, stored once and read instead of it."""
