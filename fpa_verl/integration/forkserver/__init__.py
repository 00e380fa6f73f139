"""Ray workers forked from one process that has imported what they import, instead of each importing it anew."""
