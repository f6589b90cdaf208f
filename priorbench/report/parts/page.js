"use strict";
(function () {
  const root = document.documentElement;
  const $ = (query, within) => (within || document).querySelector(query);
  const $$ = (query, within) => [...(within || document).querySelectorAll(query)];
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  // Plotly interprets some tags and entities in its texts; names that users chose must stay text.
  const plain = (text) =>
    String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\n/g, "<br>");

  // --- figures

  const data = $("#data");
  const figures = data ? JSON.parse(data.textContent) : [];
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset", scrollZoom: false };

  // Plotly takes longer to start than everything else, so the page works before it is loaded.
  function load() {
    const script = document.createElement("script");
    script.textContent = $("#plotly").textContent;
    document.head.append(script);
  }

  function paint(style) {
    return style.colour === "ink" || style.colour === "muted" ? colour(style.colour) : style.colour;
  }

  function traces(series, hidden) {
    const found = [];
    for (const s of series) {
      const visible = !hidden.has(s.name);
      const line = { color: paint(s.style), dash: s.style.dash, width: 2, shape: s.step ? "hv" : "linear" };
      const ends = s.low.map((low, i) => low !== null && s.high[i] !== null);
      if (s.band && ends.some(Boolean)) {
        const at = s.x.map((x, i) => i).filter((i) => ends[i]);
        found.push({
          x: [...at.map((i) => s.x[i]), ...at.reverse().map((i) => s.x[i])],
          y: [...at.map((i) => s.low[i]).reverse(), ...at.map((i) => s.high[i])],
          type: "scatter", mode: "lines", fill: "toself", fillcolor: line.color, opacity: 0.16, line: { width: 0 },
          hoverinfo: "skip", visible, meta: s.name,
        });
      }
      const bars = !s.band && ends.some(Boolean);
      found.push({
        x: s.x, y: s.y, type: "scatter", mode: s.mode, name: plain(s.name), meta: s.name, visible, line,
        marker: { color: line.color, symbol: s.style.symbol, size: s.style.size, line: { width: 1.4, color: line.color } },
        text: s.text.map(plain), hoverinfo: s.text.length ? "text" : "skip", hoverlabel: { align: "left" },
        error_y: bars && {
          type: "data", symmetric: false, array: s.high.map((v, i) => (v === null ? 0 : v - s.y[i])),
          arrayminus: s.low.map((v, i) => (v === null ? 0 : s.y[i] - v)), color: line.color, thickness: 1, width: 0,
        },
      });
    }
    return found;
  }

  function axis(a, narrow) {
    const found = {
      title: { text: plain(a.title), font: { size: narrow ? 11 : 13 }, standoff: 12 }, type: a.log ? "log" : "linear",
      gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true, ticks: "outside",
      tickcolor: colour("line"), nticks: narrow ? 5 : 9, tickfont: { size: 12 },
    };
    if (a.ticks) Object.assign(found, { tickvals: a.ticks.map((t) => t[0]), ticktext: a.ticks.map((t) => plain(t[1])) });
    else if (a.log) found.tickmode = "array"; // set by ticks(), once the range is known
    return found;
  }

  // Plotly labels 2 and 5 on a logarithmic axis without their power of ten; these ticks are full numbers.
  function decades(low, high, room) {
    const within = room / Math.max(high - low, 1e-9); // pixels per decade
    const steps = within > 420 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : within > 110 ? [1, 2, 5] : [1];
    const every = within > 36 ? 1 : Math.ceil(36 / within);
    const found = { tickvals: [], ticktext: [] };
    for (let d = Math.floor(low) - 1; d <= Math.ceil(high); d++)
      for (const s of d % every ? [] : steps) {
        const value = Number((s * 10 ** d).toPrecision(3));
        found.tickvals.push(value);
        found.ticktext.push(value >= 1e5 || value < 1e-3 ? value.toExponential() : String(value));
      }
    return found;
  }

  function ticks(figure) {
    const place = $(".plot", figure.node), change = {};
    for (const [name, a] of [["xaxis", figure.x], ["yaxis", figure.y]]) {
      const drawn = place._fullLayout[name];
      if (!a.log || a.ticks || drawn.type !== "log") continue;
      const wanted = decades(...drawn.range, drawn._length);
      if (String(wanted.tickvals) === String(drawn.tickvals)) continue;
      change[name + ".tickvals"] = wanted.tickvals;
      change[name + ".ticktext"] = wanted.ticktext;
    }
    if (Object.keys(change).length) Plotly.relayout(place, change);
  }

  // Tests and benchmarks wait for these marks.
  function done(what) {
    root.dataset[what] = "true";
    performance.mark(what);
  }

  let printing = false;
  function draw(figure) {
    const place = $(".plot", figure.node), first = !figure.drawn;
    figure.drawn = true;
    if (!window.Plotly) load();
    const narrow = printing || place.clientWidth < 520;
    const layout = {
      xaxis: axis(figure.x, narrow), yaxis: axis(figure.y, narrow), showlegend: false, hovermode: "closest",
      margin: { l: 56, r: 12, t: 8, b: 48 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: colour("muted"), size: 12 },
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("ink"), size: 13 } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", uirevision: figure.view,
    };
    $(".fallback", place)?.remove();
    if (printing) Object.assign(layout, { width: 640, height: 270 }); // the browser measures the paper only afterwards
    Plotly.react(place, traces(figure.views[figure.view], figure.hidden), layout, config);
    ticks(figure);
    if (first) place.on("plotly_relayout", () => ticks(figure));
  }

  const SHAPES = {
    circle: "M12 2.5a4.5 4.5 0 1 0 .01 0z", square: "M8 3h8v8H8z", diamond: "M12 1.8 17.2 7 12 12.2 6.8 7z",
    "triangle-up": "M12 2l5 9H7z", "triangle-down": "M12 12l5-9H7z", cross: "M10 2h4v3h3v4h-3v3h-4V9H7V5h3z",
    x: "M8 2l4 3 4-3 1 2-3 3 3 3-1 2-4-3-4 3-1-2 3-3-3-3z", star: "M12 1l1.6 4.2 4.4.3-3.4 2.8 1.1 4.3L12 10.2 8.3 12.6l1.1-4.3L6 5.5l4.4-.3z",
    hexagon: "M12 2l4.3 2.5v5L12 12l-4.3-2.500v-5z", pentagon: "M12 2l4.800 3.500-1.800 5.700H9L7.200 5.500z",
  };
  const DASHES = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3" };

  function symbol(s) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const set = (node, values) => Object.entries(values).forEach(([k, v]) => node.setAttribute(k, v));
    const add = (name, values) => set(svg.appendChild(document.createElementNS(svg.namespaceURI, name)), values);
    set(svg, { width: 24, height: 14, viewBox: "0 0 24 14", "aria-hidden": "true" });
    const ink = paint(s.style);
    if (s.mode.includes("lines"))
      add("line", { x1: 0, y1: 7, x2: 24, y2: 7, stroke: ink, "stroke-width": 2, "stroke-dasharray": DASHES[s.style.dash] });
    const [shape, open] = s.style.symbol.split("-open");
    if (s.mode.includes("markers"))
      add("path", { d: SHAPES[shape] || SHAPES.circle, fill: open === undefined ? ink : colour("paper"), stroke: ink });
    return svg;
  }

  function legend(figure) {
    const list = $(".legend", figure.node);
    list.replaceChildren();
    for (const s of figure.views[figure.view]) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!figure.hidden.has(s.name)));
      button.append(symbol(s), document.createTextNode(s.name));
      button.addEventListener("click", () => {
        figure.hidden.delete(s.name) || figure.hidden.add(s.name);
        button.setAttribute("aria-pressed", String(!figure.hidden.has(s.name)));
        draw(figure);
      });
      list.appendChild(document.createElement("li")).append(button);
    }
  }

  function zoom(figure, factor) {
    const place = $(".plot", figure.node);
    if (!factor) return Plotly.relayout(place, { "xaxis.autorange": true, "yaxis.autorange": true });
    const change = {};
    for (const name of ["xaxis", "yaxis"]) {
      const [low, high] = place._fullLayout[name].range;
      const half = ((high - low) / 2) * factor;
      change[name + ".range"] = [(low + high) / 2 - half, (low + high) / 2 + half];
    }
    Plotly.relayout(place, change);
  }

  for (const figure of figures) {
    figure.node = document.getElementById(figure.id);
    figure.view = figure.first;
    figure.hidden = new Set(Object.values(figure.views).flat().filter((s) => s.hidden).map((s) => s.name));
    legend(figure);
    $("select", figure.node)?.addEventListener("change", (event) => {
      figure.view = event.target.value;
      draw(figure);
      legend(figure);
    });
    $$("[data-zoom]", figure.node).forEach((b) => b.addEventListener("click", () => zoom(figure, Number(b.dataset.zoom))));
  }

  // Draw the figures from top to bottom while the browser is idle.
  const idle = window.requestIdleCallback || setTimeout;
  function drawNext() {
    const figure = figures.find((f) => !f.drawn);
    if (!figure) return done("drawn");
    draw(figure);
    idle(drawNext);
  }

  // --- light and dark

  const toggle = $("#theme");
  function theme(name) {
    root.dataset.theme = name;
    toggle.textContent = name === "dark" ? "Light" : "Dark";
    figures.forEach((figure) => { if (figure.drawn) draw(figure); legend(figure); });
  }
  toggle.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
  toggle.addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (e) => theme(e.matches ? "dark" : "light"));
  let before = "light";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    printing = true;
    figures.forEach(draw);
    theme("light");
  });
  addEventListener("afterprint", () => {
    printing = false;
    theme(before);
  });

  // --- samples

  $("#nearest")?.addEventListener("change", (e) => $("#samples").classList.toggle("show-nearest", e.target.checked));
  $("#start")?.addEventListener("change", (e) =>
    $$(".grids figure").forEach((f) => { f.hidden = e.target.value !== "" && f.dataset.t !== e.target.value; }));

  // --- the table

  const table = $(".rows"), body = table.tBodies[0], rows = [...body.rows], filter = $("#filter"), split = $("#split");
  const heads = $$("th", table), texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  texts.forEach((_, row) => texts.set(row, [...row.cells].map((c) => c.textContent).join(" ").toLowerCase()));

  function sift() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const here = (!split || !split.value || row.dataset.split === split.value) && words.every((w) => texts.get(row).includes(w));
      row.hidden = !here;
      shown += here;
    }
    $("#count").textContent = shown + " of " + rows.length + " rows";
  }

  function sort(index) {
    const head = heads[index], down = head.getAttribute("aria-sort") === "ascending", numeric = head.classList.contains("n");
    heads.forEach((h) => h.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => (numeric ? parseFloat(row.cells[index].dataset.v) : row.cells[index].textContent);
    const keyed = rows.map((row) => [value(row), row]);
    keyed.sort(([a], [b]) => {
      if (numeric && (a !== a || b !== b)) return (a !== a) - (b !== b); // empty cells come last in both orders
      const order = numeric ? (a > b) - (a < b) : a.localeCompare(b);
      return down ? -order : order;
    });
    body.append(...keyed.map(([, row]) => row));
  }

  heads.forEach((head, i) => $("button", head).addEventListener("click", () => sort(i)));
  filter.addEventListener("input", sift);
  split?.addEventListener("change", sift);
  $("#columns").addEventListener("change", (e) => table.classList.toggle("all", e.target.checked));
  sift();
  done("ready");
  idle(drawNext);
})();
