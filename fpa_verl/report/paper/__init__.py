"""What the paper (arXiv 2509.19893v2) prints, what our runs say to the same cell, and whether the two agree."""
