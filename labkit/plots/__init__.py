"""Arrays → plotly figures: what the lab, the reports and the notebooks draw."""
