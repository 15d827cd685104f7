"""The live lab and the explorers: what is on the screen in a notebook."""
