"""What other libraries take a fetcher's streams by: a module for each, imported by its name."""
