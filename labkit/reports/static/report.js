// Draws the charts of a report. The page defines PLOTLY_FILE and TEMPLATES, plotly's templates, which charts share.
if (!window.Plotly) {
  addEventListener("load", () => document.body.prepend(
    `${PLOTLY_FILE} is missing: put it beside this page, which then shows its charts.`));
}
function draw(name, figure) {
  figure.layout.template = TEMPLATES[figure.layout.template];
  if (window.Plotly) Plotly.newPlot(name, figure);
}
