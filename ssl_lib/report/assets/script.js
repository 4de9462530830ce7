"use strict";
// Value readouts of the charts, and image previews on the maps, for mouse, touch and arrow keys. The page works without
// this script, but is not interactive.

const number = (value) =>
  value === null ? "not finite" : Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));

// Returns the coordinates of a pointer event in the units of an SVG element.
function inside(svg, event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
}

for (const chart of document.querySelectorAll("svg[data-curves]")) {
  const curves = JSON.parse(chart.dataset.curves);
  const output = chart.closest("figure").querySelector("output");
  const cursor = chart.querySelector(".cursor");
  const stops = [...new Set(curves.flatMap((curve) => curve.at))].sort((a, b) => a - b);
  const initial = output.textContent;
  let stop = -1;

  const nearest = (values, x) => values.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(values[best] - x) ? i : best), 0);
  const show = (x) => {
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    const readouts = curves.filter((curve) => curve.at.length).map((curve) => {
      const i = nearest(curve.at, x);
      return { name: curve.title, x: curve.x[i], text: number(curve.y[i]) };
    });
    output.className = "live";
    output.textContent = readouts.length === 1
      ? `${number(readouts[0].x)}: ${readouts[0].text}`
      : readouts.map((entry) => `${entry.name} ${entry.text}`).join(" · ");
  };
  const hide = () => {
    cursor.setAttribute("x1", -9);
    cursor.setAttribute("x2", -9);
    output.textContent = initial;
    output.className = "";
    stop = -1;
  };
  const move = (event) => {
    stop = nearest(stops, inside(chart, event).x);
    show(stops[stop]);
  };
  chart.addEventListener("pointermove", move);
  chart.addEventListener("pointerdown", move);
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    stop = Math.min(stops.length - 1, Math.max(0, stop + step));
    show(stops[stop]);
  });
}

const runs = JSON.parse(document.getElementById("map-data").textContent);
const tip = document.getElementById("tip");
const maps = [...document.querySelectorAll("svg[data-run]")].map((svg) => {
  const marks = [...svg.querySelectorAll("use")].map((use) => ({
    index: Number(use.dataset.i), x: Number(use.getAttribute("x")), y: Number(use.getAttribute("y")), group: use.parentNode,
  }));
  return { svg, marks, run: Number(svg.dataset.run), ring: svg.querySelector(".ring"), at: null };
});

function element(name, className, text) {
  const created = document.createElement(name);
  created.className = className;
  if (text !== undefined) created.textContent = text;
  return created;
}

function thumbnail(run, index) {
  const [name, columns] = run.sheet;
  const picture = element("span", `thumb ${name}`);
  picture.style.setProperty("--column", index % columns);
  picture.style.setProperty("--row", Math.floor(index / columns));
  return picture;
}

function describe(map, index) {
  const run = runs[map.run];
  const near = run.neighbors[map.svg.dataset.subject][index];
  const named = (i) => (run.labels ? run.names[run.labels[i]] : `image ${i}`);
  const preview = element("div", "preview");
  if (run.sheet) preview.append(thumbnail(run, index));
  const text = element("div", "");
  text.append(element("b", "", named(index)));
  const same = run.labels ? near.filter((i) => run.labels[i] === run.labels[index]).length : null;
  text.append(element("span", "", same === null ? "" : `${same} of its ${near.length} nearest neighbors have the same class`));
  preview.append(text);
  const row = element("div", "row");
  if (run.sheet) row.append(...near.map((i) => thumbnail(run, i)));
  tip.replaceChildren(preview, row);
}

// Circles the image in every map of its run, and shows its description next to the mark.
function point(map, mark) {
  map.at = mark;
  for (const other of maps) {
    const twin = other.run === map.run ? other.marks.find((entry) => entry.index === mark.index) : null;
    other.ring.setAttribute("cx", twin ? twin.x : -20);
    other.ring.setAttribute("cy", twin ? twin.y : -20);
  }
  describe(map, mark.index);
  tip.hidden = false;
  const spot = new DOMPoint(mark.x, mark.y).matrixTransform(map.svg.getScreenCTM());
  const maximum = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const left = spot.x + 18 > maximum ? spot.x - tip.offsetWidth - 18 : spot.x + 18;
  const below = spot.y + 18 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(8, Math.min(maximum, left))}px`;
  tip.style.top = `${Math.max(8, below ? spot.y + 18 : spot.y - tip.offsetHeight - 18)}px`;
}

function leave() {
  tip.hidden = true;
  for (const map of maps) {
    map.at = null;
    map.ring.setAttribute("cx", -20);
  }
}

const visibleMarks = (map) => map.marks.filter((mark) => !mark.group.classList.contains("off"));
const distance = (mark, x, y) => (mark.x - x) ** 2 + (mark.y - y) ** 2;
const closest = (marks, x, y) =>
  marks.reduce((best, mark) => (best && distance(best, x, y) <= distance(mark, x, y) ? best : mark), null);

// Returns the nearest mark within 45 degrees of the direction of an arrow key.
function beyond(map, dx, dy) {
  const { x, y } = map.at;
  return closest(visibleMarks(map).filter((mark) => {
    const along = (mark.x - x) * dx + (mark.y - y) * dy;
    const aside = Math.abs((mark.x - x) * dy) + Math.abs((mark.y - y) * dx);
    return along > 0.05 && aside <= along;
  }), x, y);
}

for (const map of maps) {
  const pick = (event) => {
    const at = inside(map.svg, event);
    const mark = closest(visibleMarks(map), at.x, at.y);
    if (mark && distance(mark, at.x, at.y) < 22 ** 2) point(map, mark);
    else leave();
  };
  map.svg.addEventListener("pointermove", pick);
  map.svg.addEventListener("pointerdown", pick);
  map.svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && leave());
  map.svg.addEventListener("blur", leave);
  map.svg.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave();
    const direction = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!direction) return;
    event.preventDefault();
    const mark = map.at ? beyond(map, ...direction) : closest(visibleMarks(map), 200, 200);
    if (mark) point(map, mark);
  });
}
addEventListener("scroll", leave, { passive: true });

for (const button of document.querySelectorAll(".classes button")) {
  button.addEventListener("click", () => {
    const show = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(show));
    const groups = button.closest(".map").querySelectorAll(`g[data-class="${button.dataset.class}"]`);
    groups.forEach((group) => group.classList.toggle("off", !show));
    leave();
  });
}
