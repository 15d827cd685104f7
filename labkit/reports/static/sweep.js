// Compares the runs of a sweep: a chart with menus, and a table to sort and to search.
// The page defines SWEEP: `columns` as {label, kind}, and `records`, each with one value for every column.
const { columns, records } = SWEEP;
const at = id => document.getElementById(id);
const places = kind => [...columns.keys()].filter(k => columns[k].kind === kind);
const [run] = places("run"), [status] = places("status"), parameters = places("parameter");
const isNumber = value => typeof value === "number", isEmpty = value => value === null || value === undefined;

// The chart

const offer = (id, places, start) => at(id).append(...places.map(
  k => new Option(columns[k]?.label ?? "none", k, false, k === start)));
offer("x", parameters);
offer("y", places("measure"));
offer("colour", ["", ...parameters], parameters[1]);

function draw() {
  const [x, y, colour] = ["x", "y", "colour"].map(id => at(id).value), groups = new Map();
  for (const record of records.filter(record => !isEmpty(record[y]))) {
    const name = colour ? `${columns[colour].label} ${record[colour]}` : "runs";
    if (!groups.has(name)) groups.set(name, { name, x: [], y: [], text: [], mode: "markers", type: "scatter" });
    const group = groups.get(name);
    group.x.push(record[x]);
    group.y.push(+record[y]);
    group.text.push(record[run]);
  }
  const axis = place => ({ title: { text: columns[place]?.label ?? "" } });
  const layout = { margin: { t: 20 }, showlegend: colour !== "", xaxis: axis(x), yaxis: axis(y), plot_bgcolor: "#fafaf8" };
  if (window.Plotly) Plotly.react("chart", [...groups.values()], layout, { responsive: true });
}

// The table

let order = null, falling = false, shown = 100;

function cell(value, place) {
  const td = document.createElement("td");
  if (place === run) {
    const link = document.createElement("a");
    link.href = encodeURIComponent(value) + ".html";
    link.textContent = value;
    td.append(link);
  } else if (isNumber(value)) {
    td.className = "number";
    td.textContent = Number.isInteger(value) ? value : +value.toPrecision(4);
  } else td.textContent = value ?? "";
  return td;
}

function compare(one, other) {
  const [a, b] = [one[order], other[order]];
  if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
  const rising = isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(b, "en", { numeric: true });
  return falling ? -rising : rising;
}

function list() {
  const words = at("find").value.toLowerCase();
  const found = records.filter(record => record.some(value => String(value).toLowerCase().includes(words)));
  if (order !== null) found.sort(compare);
  document.querySelector("tbody").replaceChildren(...found.slice(0, shown).map(record => {
    const tr = document.createElement("tr");
    tr.className = record[status] === "done" ? "" : "bad";
    tr.append(...record.map(cell));
    return tr;
  }));
  at("shown").textContent = `${Math.min(shown, found.length)} of ${found.length}`;
  at("more").hidden = shown >= found.length;
}

function sort(place, th) {
  falling = order === place && !falling;
  order = place;
  for (const each of th.parentNode.children) each.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", falling ? "descending" : "ascending");
  list();
}

const heads = document.createElement("tr");
columns.forEach(({ label }, place) => {
  const th = document.createElement("th");
  th.textContent = label;
  th.tabIndex = 0;
  th.scope = "col";
  th.onclick = () => sort(place, th);
  th.onkeydown = event => { if (event.key === "Enter") sort(place, th); };
  heads.append(th);
});
document.querySelector("thead").append(heads);
for (const id of ["x", "y", "colour"]) at(id).onchange = draw;
at("find").oninput = list;
at("more").onclick = () => { shown += 500; list(); };
draw();
list();
