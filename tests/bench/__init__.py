"""Side-by-side measurements of the lab and its peers: `make bench`."""
