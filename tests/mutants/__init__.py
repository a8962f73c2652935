"""`make mutants`: our most critical lines broken one at a time, to see that a test notices each."""
