"""What a composed configuration says, read once and typed: settings, versions, fingerprints, kinds of runs."""
