"""The loss as a function of the weights: planes, paths, curvature."""
