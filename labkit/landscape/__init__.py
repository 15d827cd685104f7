"""The loss as a function of the weights: planes, paths, curvature; it knows no drawing."""
