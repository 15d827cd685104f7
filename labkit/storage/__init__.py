"""Files: written whole or not at all, locked; a folder of tensors and facts."""
