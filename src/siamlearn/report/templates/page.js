"use strict";
// One script for both pages: the theme, the pairs to click through, and the threshold to move.
// All text goes into the page as text, never as markup: names are whatever somebody typed.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const whole = (number) => Math.round(number).toLocaleString("en");
const short = (number, digits = 4) => number.toPrecision(digits);

function percent(rate) {
  const value = 100 * rate;
  return `${value === 0 || value >= 0.1 ? value.toFixed(2) : value.toPrecision(2)} %`;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- Dark or light: what the system says, until somebody presses the button. ----------------

function startTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"}`);
    button.setAttribute("aria-pressed", String(Boolean(root.dataset.theme)));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  show();
}

// On paper nothing can be opened.
function startPaper() {
  const closed = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...closed()];
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
}

// ---- Pairs: cards, a filter, and one pair enlarged. -----------------------------------------
// A pair is {pictures: [place, place], kind, mark, far, says}; `kind` is what the filter chooses.

const FIRST = 12, FURTHER = 24;
const gallery = { all: [], shown: [], filter: "all", visible: FIRST, open: -1 };

function picture(place) {
  const { name, who, src } = data.pictures[place];
  if (src === null) return element("span", "blank", name);
  const image = element("img");
  image.src = src;
  image.alt = `${name}, ${who}`;
  return image;
}

function people(pair) {
  return [...new Set(pair.pictures.map((place) => data.pictures[place].who))].join(" / ");
}

function card(pair, index) {
  const item = element("li"), button = element("button", pair.mark);
  button.type = "button";
  const faces = element("span", "faces");
  faces.append(...pair.pictures.map(picture));
  button.append(faces, element("span", "who", people(pair)), element("span", "far", pair.far));
  button.addEventListener("click", () => enlarge(index));
  item.append(button);
  return item;
}

function showPairs() {
  gallery.shown = gallery.all.filter((p) => gallery.filter === "all" || p.kind === gallery.filter);
  byId("pairs").replaceChildren(...gallery.shown.slice(0, gallery.visible).map(card));
  const left = gallery.shown.length - gallery.visible;
  byId("more").hidden = left <= 0;
  byId("more").textContent = `Show ${whole(Math.min(left, FURTHER))} more of ${whole(left)}`;
}

function enlarge(index) {
  gallery.open = Math.max(0, Math.min(gallery.shown.length - 1, index));
  const pair = gallery.shown[gallery.open];
  byId("enlarged-pictures").replaceChildren(...pair.pictures.map((place) => {
    const figure = element("figure"), caption = element("figcaption");
    const { name, who } = data.pictures[place];
    caption.append(element("strong", "", who), name);
    figure.append(picture(place), caption);
    return figure;
  }));
  byId("enlarged-says").textContent = pair.says;
  byId("enlarged-place").textContent = `${whole(gallery.open + 1)} of ${whole(gallery.shown.length)}`;
  byId("enlarged-before").disabled = gallery.open === 0;
  byId("enlarged-after").disabled = gallery.open === gallery.shown.length - 1;
  if (!byId("enlarged").open) byId("enlarged").showModal();
}

function startPairs() {
  const dialog = byId("enlarged");
  const filters = document.querySelectorAll("[data-filter]");
  filters.forEach((button) => button.addEventListener("click", () => {
    filters.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    gallery.filter = button.dataset.filter;
    gallery.visible = FIRST;
    showPairs();
  }));
  byId("more").addEventListener("click", () => {
    const before = gallery.visible;
    gallery.visible += FURTHER;
    showPairs();
    byId("pairs").children[before].firstChild.focus();
  });
  byId("enlarged-before").addEventListener("click", () => enlarge(gallery.open - 1));
  byId("enlarged-after").addEventListener("click", () => enlarge(gallery.open + 1));
  byId("enlarged-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => byId("pairs").children[gallery.open]?.firstChild.focus());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    enlarge(gallery.open + step);
  });
}

function counted(counts) {
  document.querySelectorAll("[data-filter]").forEach((button) => {
    button.querySelector(".count").textContent = whole(counts[button.dataset.filter]);
  });
}

// ---- The threshold: a chart with a line to move, rates, and the pairs on the wrong side. -----

const HILLS = { top: 6, height: 84 }, RATES = { top: 112, height: 168 }, BINS = 60;
const slider = { index: 0, log: false, width: 0 };

function rates(index) {
  const last = data.threshold.length - 1;
  const genuine = data.genuine[last] - data.genuine[index], impostor = data.impostor[index];
  return {
    genuine, impostor,
    fmr: impostor / data.impostor[last], fnmr: genuine / data.genuine[last],
  };
}

function nearest(distance) {
  const { threshold } = data;
  let low = 0, high = threshold.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (threshold[middle] <= distance) low = middle; else high = middle;
  }
  return distance - threshold[low] <= threshold[high] - distance ? low : high;
}

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function scales() {
  const { threshold } = data, low = threshold[0], high = threshold[threshold.length - 1];
  const left = slider.log ? 62 : 46, right = slider.width - 14;
  const least = Math.max(1e-6, 0.5 / data.impostor[threshold.length - 1]);
  const share = slider.log
    ? (rate) => 1 - Math.log(Math.max(rate, least)) / Math.log(least)
    : (rate) => rate;
  return {
    low, high, left, right, least,
    x: (distance) => left + (distance - low) / (high - low) * (right - left),
    distance: (x) => low + (x - left) / (right - left) * (high - low),
    y: (rate) => RATES.top + RATES.height * (1 - share(rate)),
  };
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5].find((n) => n * unit >= rough) || 10);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k += 1) found.push(k * step);
  return found.map((value) => Number(value.toPrecision(12)));
}

function densities(counts, scale) {
  const total = counts[counts.length - 1], step = (scale.high - scale.low) / BINS;
  const at = (k) => counts[k === BINS ? counts.length - 1 : nearest(scale.low + k * step)];
  return Array.from({ length: BINS }, (_, k) => (at(k + 1) - at(k)) / total);
}

function drawHills(scale) {
  const hills = { impostor: densities(data.impostor, scale), genuine: densities(data.genuine, scale) };
  const highest = Math.max(...hills.impostor, ...hills.genuine);
  const base = HILLS.top + HILLS.height, hill = [], wrong = [];
  for (const [kind, values] of Object.entries(hills)) {
    const step = (scale.right - scale.left) / BINS;
    const line = values.map((value, k) =>
      `V${(base - HILLS.height * value / highest).toFixed(1)}H${(scale.left + (k + 1) * step).toFixed(1)}`);
    const d = `M${scale.left} ${base}${line.join("")}V${base}Z`;
    hill.push(svg("path", { d, class: `${kind} faint` }));
    wrong.push(svg("path", { d, class: `${kind} wrong`, "clip-path": `url(#${kind}-wrong)` }));
  }
  return [...hill, ...wrong];
}

function drawRates(scale) {
  const { threshold } = data, parts = [];
  for (const [kind, rate] of [["impostor", "fmr"], ["genuine", "fnmr"]]) {
    if (data.bands) {
      const edge = (ends) => ends.map((value, k) => `${scale.x(data.bands.threshold[k]).toFixed(1)} ${scale.y(value).toFixed(1)}`);
      const { low, high } = data.bands[rate];
      parts.push(svg("path", { d: `M${edge(high).concat(edge(low).reverse()).join("L")}Z`, class: `${kind} band` }));
    }
    const line = threshold.map((distance, k) =>
      `H${scale.x(distance).toFixed(1)}V${scale.y(rates(k)[rate]).toFixed(1)}`);
    parts.push(svg("path", { d: `M${scale.left} ${scale.y(rates(0)[rate]).toFixed(1)}${line.join("")}`, class: `${kind} curve` }));
  }
  return parts;
}

function drawAxes(scale) {
  const parts = [], bottom = RATES.top + RATES.height;
  const shares = slider.log ? [1, 0.1, 0.01, 0.001, 1e-4, 1e-5].filter((r) => r > scale.least) : [0, 0.25, 0.5, 0.75, 1];
  for (const rate of shares) {
    const y = scale.y(rate);
    parts.push(
      svg("line", { x1: scale.left, x2: scale.right, y1: y, y2: y, class: "grid" }),
      svg("text", { x: scale.left - 7, y: y + 4, "text-anchor": "end" }, `${Number((100 * rate).toPrecision(3))} %`),
    );
  }
  for (const distance of ticks(scale.low, scale.high, Math.max(4, slider.width / 110))) {
    parts.push(svg("text", { x: scale.x(distance), y: bottom + 18, "text-anchor": "middle" }, String(distance)));
  }
  return parts;
}

function draw() {
  const chart = byId("chart"), scale = scales(), bottom = RATES.top + RATES.height;
  chart.setAttribute("viewBox", `0 0 ${slider.width} ${bottom + 24}`);
  const clips = svg("defs", {});
  for (const kind of ["genuine", "impostor"]) {
    const clip = svg("clipPath", { id: `${kind}-wrong` });
    clip.append(svg("rect", { y: 0, height: RATES.top, id: `${kind}-clip` }));
    clips.append(clip);
  }
  chart.replaceChildren(
    clips, ...drawAxes(scale), ...drawHills(scale), ...drawRates(scale),
    svg("text", { x: scale.left + 4, y: RATES.top - 8, class: "genuine" }, "FNMR ─"),
    svg("text", { x: scale.right - 4, y: RATES.top - 8, "text-anchor": "end", class: "impostor" }, "FMR ╌"),
    svg("line", { y1: HILLS.top, y2: bottom, class: "now", id: "now" }),
    svg("circle", { r: 5, class: "genuine", id: "fnmr-dot" }),
    svg("circle", { r: 5, class: "impostor", id: "fmr-dot" }),
  );
  const range = byId("threshold");  // its thumb is 22 pixels wide, and stands under the line
  range.style.marginLeft = `${scale.left - 11}px`;
  range.style.width = `${scale.right - scale.left + 22}px`;
  moveLine();
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
}

function moveLine() {
  const scale = scales(), now = rates(slider.index), x = scale.x(data.threshold[slider.index]);
  set(byId("now"), { x1: x, x2: x });
  set(byId("fmr-dot"), { cx: x, cy: scale.y(now.fmr) });
  set(byId("fnmr-dot"), { cx: x, cy: scale.y(now.fnmr) });
  set(byId("genuine-clip"), { x, width: Math.max(0, slider.width - x) });
  set(byId("impostor-clip"), { x: 0, width: x });
}

function wrongPairs(threshold) {
  const told = (kind, says, sign) => ([one, other, distance]) => ({
    pictures: [one, other], kind, mark: kind, wrong: sign * (distance - threshold),
    far: `${short(distance, 3)}, ${short(Math.abs(distance - threshold), 2)} ${sign > 0 ? "beyond" : "below"}`,
    says: `${says}: distance ${short(distance)}, threshold ${short(threshold)}.`,
  });
  return [
    ...data.pairs.genuine.filter((pair) => pair[2] > threshold).map(told("genuine", "One person, turned away", 1)),
    ...data.pairs.impostor.filter((pair) => pair[2] <= threshold).map(told("impostor", "Two people, let in", -1)),
  ].sort((one, other) => other.wrong - one.wrong);
}

function within(rate) {
  if (!data.bands) return "";
  const { threshold } = data.bands;
  let at = 0;
  while (at + 1 < threshold.length && threshold[at + 1] <= data.threshold[slider.index]) at += 1;
  const ends = data.bands[rate];
  return `${percent(ends.low[at])} – ${percent(ends.high[at])}; `;
}

function moveTo(index, { thumb = true } = {}) {
  const last = data.threshold.length - 1;
  slider.index = Math.max(0, Math.min(last, index));
  const threshold = data.threshold[slider.index], now = rates(slider.index);
  const names = data.names.filter((each) => each.at === slider.index).map((each) => each.name);
  byId("at").textContent = short(threshold);
  byId("at-name").textContent = names.join(", ") || "by hand";
  byId("fmr").textContent = percent(now.fmr);
  byId("fnmr").textContent = percent(now.fnmr);
  byId("fmr-pairs").textContent = `${within("fmr")}${whole(now.impostor)} of ${whole(data.impostor[last])} impostor pairs`;
  byId("fnmr-pairs").textContent = `${within("fnmr")}${whole(now.genuine)} of ${whole(data.genuine[last])} genuine pairs`;
  const range = byId("threshold");
  if (thumb) range.value = threshold;
  range.setAttribute("aria-valuetext", `${short(threshold)}: FMR ${percent(now.fmr)}, FNMR ${percent(now.fnmr)}`);
  document.querySelectorAll("#names button").forEach((button, k) => {
    button.setAttribute("aria-pressed", String(data.names[k].at === slider.index));
  });
  moveLine();
  gallery.all = wrongPairs(threshold);
  gallery.visible = FIRST;
  counted({ all: now.genuine + now.impostor, genuine: now.genuine, impostor: now.impostor });
  const missing = now.genuine + now.impostor - gallery.all.length;
  byId("kept").textContent = missing > 0.5 ? `This page has the ${whole(data.kept)} worst of each kind; ${whole(missing)} more are not shown.` : "";
  showPairs();
}

function startNames() {
  byId("names").replaceChildren(...data.names.map(({ name, at, elsewhere }) => {
    const button = element("button", "", name);
    button.type = "button";
    button.dataset.elsewhere = String(elsewhere);
    button.addEventListener("click", () => moveTo(at));
    return button;
  }));
  byId("flatter").textContent = data.names.every((each) => each.elsewhere) ? "" :
    "Dashed: read off these very pairs, and so too good for others; choose a threshold on people of their own.";
}

function startSlider() {
  const range = byId("threshold"), chart = byId("chart");
  const last = data.threshold.length - 1, leap = Math.ceil(last / 20);
  range.min = data.threshold[0];
  range.max = data.threshold[last];
  range.addEventListener("input", () => moveTo(nearest(Number(range.value)), { thumb: false }));
  range.addEventListener("keydown", (event) => {
    const step = {
      ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1,
      PageDown: -leap, PageUp: leap, Home: -Infinity, End: Infinity,
    }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    moveTo(slider.index + step);
  });
  const point = (event) => {
    if (event.type === "pointermove" && event.buttons !== 1) return;
    moveTo(nearest(scales().distance(event.clientX - chart.getBoundingClientRect().left)));
  };
  chart.addEventListener("pointerdown", point);
  chart.addEventListener("pointermove", point);
  byId("log").addEventListener("change", (event) => {
    slider.log = event.target.checked;
    draw();
  });
  const resized = () => {
    slider.width = Math.max(240, chart.parentElement.clientWidth);
    draw();
  };
  slider.index = data.start;
  resized();
  startNames();
  moveTo(data.start);
  new ResizeObserver(() => {
    if (chart.parentElement.clientWidth && Math.abs(chart.parentElement.clientWidth - slider.width) > 1) resized();
  }).observe(chart.parentElement);
}

// ---- Two runs: the pairs that one tells right and the other wrong. ----------------------------

function startFlips() {
  gallery.all = data.flips.map(({ pictures, kind, mark, far, says }) => ({ pictures, kind, mark, far, says }));
  counted(data.counts);
  const missing = data.counts.all - gallery.all.length;
  byId("kept").textContent = missing > 0 ? `This page has the clearest ${whole(data.kept)} of each kind; ${whole(missing)} more are not shown.` : "";
  showPairs();
}

startTheme();
startPaper();
startPairs();
if (data.kind === "report") startSlider(); else startFlips();
