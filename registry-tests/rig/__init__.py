"""Real peers for the tests: registries, a counting proxy, reference trees, test images."""
