"""Arrays → plotly figures; it knows no torch and no widgets."""
