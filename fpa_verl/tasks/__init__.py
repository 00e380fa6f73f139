"""`fpa-verl task new`: a task file for problems and a model of one's own, and the commands to type with it."""
