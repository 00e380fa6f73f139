"""The command's own process, before verl and after it: compose, check, resume, hand over, say what was made."""
